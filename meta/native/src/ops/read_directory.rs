//! ReadDirectory: a page of a directory in name order, after a name, without "." and "..".
//!
//! Needs read permission; attributes are left out without search permission. Pages are cut at
//! names, so entries that come and go between two pages neither repeat nor hide others, and a
//! directory of any size costs what the page costs.
//! Conflict set: none, a snapshot is read. Idempotency: changes nothing.

use crate::keys;
use crate::permissions;
use crate::records::{EntryRecord, Record};
use crate::service::{Caller, MetaService};
use firepond_core::Result;
use firepond_core::ids::InodeId;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::{DirectoryEntry, MetaReply};
use serde_bytes::ByteBuf;

/// Most entries of a page: with attributes and the longest names it fits into a message.
const PAGE_MAX_COUNT: u32 = 4096;

/// Which page; a limit of 0 means the largest.
pub(super) struct Page {
    pub(super) after: Option<ByteBuf>,
    pub(super) limit: u32,
    pub(super) attributes: bool,
}

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    inode: InodeId,
    page: Page,
) -> Result<MetaReply> {
    let mut view = meta.reading();
    let directory = view.directory(inode).await?;
    permissions::require(&caller.credentials, &directory, permissions::READ)?;
    let searchable = permissions::allows(&caller.credentials, &directory, permissions::SEARCH);
    let range = match &page.after {
        Some(name) => keys::entries_after(inode, name),
        None => keys::entries(inode),
    };
    let limit = if page.limit == 0 { PAGE_MAX_COUNT } else { page.limit.min(PAGE_MAX_COUNT) };
    let limit = limit as usize;
    let pairs = view.range(range, limit + 1).await?;
    let more = pairs.len() > limit;
    let mut entries = Vec::with_capacity(pairs.len());
    for (key, value) in pairs.iter().take(limit) {
        let entry = EntryRecord::decode(value)?;
        let mut attributes = None;
        if page.attributes && searchable {
            let record = view.named_inode(&entry).await?;
            attributes = Some(view.attributes(entry.inode, &record).await?);
        }
        entries.push(DirectoryEntry {
            name: ByteBuf::from(keys::entry_name(key)),
            inode: entry.inode,
            kind: entry.kind,
            attributes,
        });
    }
    Ok(MetaReply::Entries { entries, more })
}
