//! `audit`: what the records name, what is not free and what the targets account for.
//!
//! Why: the three are kept apart, for speed, and must agree whenever nothing is under way; a
//! difference is space that is lost until the store is opened again. For tests and simulations.

use super::core::Core;
use super::page::PAGE_BYTES;
use super::record::{released_by, unit_count};
use super::scan::scan;
use super::types::StoreAudit;
use firepond_core::Result;
use std::sync::atomic::Ordering;

/// Looks at every record.
pub(super) fn audit(core: &Core) -> Result<StoreAudit> {
    let mut units = 0;
    scan(core, .., false, &mut |_, record| {
        units += unit_count(&released_by(Some(&record), None)) as u64;
        Ok(true)
    })?;
    let targets = core.targets.read();
    let usages = targets.keys().map(|target| super::targets::usage(core, *target).used_bytes);
    Ok(StoreAudit {
        record_bytes: units * PAGE_BYTES as u64,
        used_bytes: core.space.used_bytes(),
        accounted_bytes: usages.sum(),
        rotten_count: core.rotten_count.load(Ordering::Relaxed),
    })
}
