//! Who may do what: mode bits, ownership, sticky and set-id rules, as Linux has them.
//!
//! Invariants: user 0 may do everything; a set-id bit never survives a change by somebody who could
//! not have set it.

use crate::records::{InodeBody, InodeRecord};
use firepond_core::wire::meta::{Credentials, InodeKind};
use firepond_core::{Error, ErrorKind, Result};

/// Read permission.
pub(crate) const READ: u32 = 4;
/// Write permission.
pub(crate) const WRITE: u32 = 2;
/// Search permission of a directory.
pub(crate) const SEARCH: u32 = 1;

/// Set user id.
pub(crate) const SET_UID: u32 = 0o4000;
/// Set group id.
pub(crate) const SET_GID: u32 = 0o2000;
/// Only owners may remove names.
pub(crate) const STICKY: u32 = 0o1000;
/// All bits of a mode.
pub(crate) const MODE_MASK: u32 = 0o7777;
const GROUP_EXECUTE: u32 = 0o010;

/// Whether a user belongs to a group.
pub(crate) fn in_group(who: &Credentials, gid: u32) -> bool {
    who.gid == gid || who.groups.contains(&gid)
}

/// Whether a user owns an inode or may act as if.
pub(crate) fn is_owner(who: &Credentials, record: &InodeRecord) -> bool {
    who.uid == 0 || who.uid == record.uid
}

/// Checks `wanted` (READ, WRITE, SEARCH together) against the mode.
///
/// # Errors
/// `PermissionDenied`.
pub(crate) fn require(who: &Credentials, record: &InodeRecord, wanted: u32) -> Result<()> {
    if allows(who, record, wanted) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::PermissionDenied, "")
        .with("uid", who.uid)
        .with("mode", format!("{:o}", record.mode)))
}

/// Whether the mode allows `wanted`.
pub(crate) fn allows(who: &Credentials, record: &InodeRecord, wanted: u32) -> bool {
    let shift = if who.uid == record.uid {
        6
    } else if in_group(who, record.gid) {
        3
    } else {
        0
    };
    who.uid == 0 || (record.mode >> shift) & wanted == wanted
}

/// The sticky rule: who may take a name away from a directory.
///
/// # Errors
/// `NotPermitted`.
pub(crate) fn require_not_sticky(
    who: &Credentials,
    directory: &InodeRecord,
    named: &InodeRecord,
) -> Result<()> {
    let sticky = directory.mode & STICKY != 0;
    if sticky && !is_owner(who, directory) && !is_owner(who, named) {
        return Err(
            Error::new(ErrorKind::NotPermitted, "the directory is sticky").with("uid", who.uid)
        );
    }
    Ok(())
}

/// The mode without the set-id bits that a change of owner or contents takes away.
pub(crate) fn without_set_id(mode: u32) -> u32 {
    let mode = mode & !SET_UID;
    if mode & GROUP_EXECUTE != 0 { mode & !SET_GID } else { mode }
}

/// An inode made by `who` in `parent`: group and set-group-id follow the parent's set-group-id bit.
pub(crate) fn new_inode(
    who: &Credentials,
    parent: &InodeRecord,
    mode: u32,
    now_ns: u64,
    body: InodeBody,
) -> InodeRecord {
    let inherits = parent.mode & SET_GID != 0;
    let mut record = bare_inode(who, mode, now_ns, body);
    if inherits {
        record.gid = parent.gid;
    }
    if record.kind() == InodeKind::Directory {
        record.mode |= parent.mode & SET_GID;
    } else if who.uid != 0 && !in_group(who, record.gid) {
        record.mode &= !SET_GID;
    }
    record
}

/// An inode that belongs to `who` and inherits nothing.
pub(crate) fn bare_inode(
    who: &Credentials,
    mode: u32,
    now_ns: u64,
    body: InodeBody,
) -> InodeRecord {
    let link_count = if matches!(body, InodeBody::Directory { .. }) { 2 } else { 1 };
    InodeRecord {
        mode: mode & MODE_MASK,
        uid: who.uid,
        gid: who.gid,
        link_count,
        accessed_ns: now_ns,
        modified_ns: now_ns,
        modified_set_ns: now_ns,
        changed_ns: now_ns,
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::InodeId;

    fn record(mode: u32) -> InodeRecord {
        InodeRecord {
            mode,
            uid: 10,
            gid: 20,
            link_count: 2,
            accessed_ns: 0,
            modified_ns: 0,
            modified_set_ns: 0,
            changed_ns: 0,
            body: InodeBody::Directory { parent: InodeId::ROOT },
        }
    }

    fn who(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials { uid, gid, groups: groups.to_vec() }
    }

    /// Goal: the first class that matches decides. Oracle: POSIX's file access permissions.
    #[test]
    fn classes_do_not_add_up() {
        let inode = record(0o047);
        assert!(!allows(&who(10, 20, &[]), &inode, READ), "the owner has no bit");
        assert!(allows(&who(11, 20, &[]), &inode, READ), "the group has");
        assert!(allows(&who(11, 1, &[20]), &inode, READ), "so has a supplementary group");
        assert!(!allows(&who(11, 20, &[]), &inode, WRITE));
        assert!(allows(&who(11, 1, &[]), &inode, READ | WRITE | SEARCH));
        assert!(allows(&who(0, 0, &[]), &record(0), READ | WRITE | SEARCH));
    }

    /// Goal: sticky protects others' names. Oracle: POSIX's restricted deletion flag.
    #[test]
    fn sticky_protects() {
        let (directory, mut named) = (record(0o1777), record(0o644));
        named.uid = 30;
        assert!(require_not_sticky(&who(30, 1, &[]), &directory, &named).is_ok());
        assert!(require_not_sticky(&who(10, 1, &[]), &directory, &named).is_ok());
        assert!(require_not_sticky(&who(0, 1, &[]), &directory, &named).is_ok());
        let error = require_not_sticky(&who(31, 1, &[]), &directory, &named).expect_err("sticky");
        assert_eq!(error.kind(), ErrorKind::NotPermitted);
    }

    /// Goal: set-id bits go, mandatory locking stays. Oracle: Linux.
    #[test]
    fn set_id_bits_are_cleared() {
        assert_eq!(without_set_id(0o6755), 0o755);
        assert_eq!(without_set_id(0o6745), 0o2745);
    }
}
