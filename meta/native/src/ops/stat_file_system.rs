//! StatFileSystem: space and inodes, as a user of the file system can use them.
//!
//! Each disk that holds targets of the file table counts once, however many targets it has, and the
//! sum is divided by the replicas of a chain (the mean over the table, should they differ). The
//! answer of the storage nodes is kept for a few seconds; nodes that do not answer count as no
//! space.
//! Conflict set: none. Idempotency: changes nothing.

use crate::layouts::FILE_TABLE;
use crate::service::{Caller, MetaService};
use firepond_core::Result;
use firepond_core::ids::{NodeId, TargetId};
use firepond_core::kv::KvStore;
use firepond_core::routing::Routing;
use firepond_core::sys::clock::{self, Instant};
use firepond_core::wire::meta::MetaReply;
use firepond_core::wire::storage::TargetSpace;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long an answer is used again.
const CACHE: Duration = Duration::from_secs(3);

/// Total and free bytes, and when they were asked for.
#[derive(Default)]
pub(crate) struct SpaceCache(tokio::sync::Mutex<Option<(Instant, Space)>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    total_bytes: u64,
    free_bytes: u64,
}

pub(super) async fn run<S: KvStore>(meta: &MetaService<S>, caller: &Caller) -> Result<MetaReply> {
    let mut cached = meta.space().0.lock().await;
    let fresh = cached.filter(|(asked, _)| clock::now() < *asked + CACHE);
    let space = match fresh {
        Some((_, space)) => space,
        None => {
            let targets = meta.chunks().space(caller.deadline).await?;
            let space = usable(&meta.routing().current(), &targets);
            *cached = Some((clock::now(), space));
            space
        }
    };
    Ok(MetaReply::FileSystem {
        total_bytes: space.total_bytes,
        free_bytes: space.free_bytes,
        inode_count: meta.counters().inode_count(),
    })
}

/// What users can store on the disks of the file table.
fn usable(routing: &Routing, spaces: &[TargetSpace]) -> Space {
    let nothing = Space { total_bytes: 0, free_bytes: 0 };
    let Ok(table) = routing.table_newest(FILE_TABLE) else { return nothing };
    let chains = table.chains.iter().filter_map(|chain| routing.chain(*chain).ok());
    let members: Vec<TargetId> =
        chains.flat_map(|chain| chain.targets.iter().map(|one| one.target)).collect();
    let wanted: BTreeSet<TargetId> = members.iter().copied().collect();
    let mut disks: BTreeMap<(NodeId, u32), (u64, u64)> = BTreeMap::new();
    for space in spaces.iter().filter(|space| wanted.contains(&space.target)) {
        let disk = (space.disk_total_bytes, space.disk_free_bytes);
        disks.insert((space.node, space.disk), disk);
    }
    let divided = |sum: u128| {
        let share = sum * table.chains.len() as u128 / members.len().max(1) as u128;
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    Space {
        total_bytes: divided(disks.values().map(|disk| u128::from(disk.0)).sum()),
        free_bytes: divided(disks.values().map(|disk| u128::from(disk.1)).sum()),
    }
}
