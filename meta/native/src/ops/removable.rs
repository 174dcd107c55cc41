//! The name that `unlink` and `remove_directory` take away: what it leads to, and whether the
//! caller may remove it.
//!
//! Why one place: the order of the checks decides which error a caller sees, and POSIX wants the
//! same order of both operations. Conflict set: the parent inode, the entry, the inode.

use crate::names;
use crate::permissions::{self, SEARCH, WRITE};
use crate::records::{EntryRecord, InodeRecord};
use crate::view::View;
use firepond_core::Result;
use firepond_core::ids::InodeId;
use firepond_core::kv::KvTransaction;
use firepond_core::wire::meta::Credentials;

/// The entry and its inode.
///
/// # Errors
/// `NotFound`, `NotADirectory`, `PermissionDenied`, and `NotPermitted` in a sticky directory.
pub(super) async fn find<T: KvTransaction>(
    view: &mut View<T>,
    who: &Credentials,
    parent: InodeId,
    name: &[u8],
) -> Result<(EntryRecord, InodeRecord)> {
    let directory = view.directory(parent).await?;
    permissions::require(who, &directory, SEARCH)?;
    let entry = view.entry(parent, name).await?;
    let entry = entry.ok_or_else(|| names::missing(name))?;
    permissions::require(who, &directory, WRITE)?;
    let record = view.named_inode(&entry).await?;
    permissions::require_not_sticky(who, &directory, &record)?;
    Ok((entry, record))
}
