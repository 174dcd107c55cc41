//! What a program on the mount sees of an error: an errno that means what POSIX says.
//!
//! Why not `Error::errno` as it is: EAGAIN, EBUSY and the like make a program believe that it asked
//! for non-blocking I/O or that the file is locked, where in truth the cluster did not answer.
//! Invariants: kinds that only the cluster's own parts understand end as EIO; an object that was
//! addressed by inode and is gone is ESTALE, so that the kernel looks its path up again.

use firepond_core::{Error, ErrorKind};
use fuser::Errno;

/// The errno of an operation that was addressed by name.
pub(super) fn of(error: &Error) -> Errno {
    Errno::from_i32(number(error))
}

/// The errno of an operation that was addressed by inode.
pub(super) fn of_inode(error: &Error) -> Errno {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::StaleHandle => Errno::from_i32(libc::ESTALE),
        _ => of(error),
    }
}

fn number(error: &Error) -> i32 {
    match error.kind() {
        ErrorKind::ChunkNotFound | ErrorKind::ChunkExists | ErrorKind::Internal => libc::EIO,
        _ => match error.errno() {
            libc::EAGAIN | libc::EBUSY | libc::EPROTO | libc::EHOSTUNREACH | libc::ERANGE => {
                libc::EIO
            }
            number => number,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: programs get the errno that they know. Method: the table. Oracle: POSIX.
    #[test]
    fn errors_become_posix_numbers() {
        let table = [
            (ErrorKind::NotFound, libc::ENOENT),
            (ErrorKind::AlreadyExists, libc::EEXIST),
            (ErrorKind::NotADirectory, libc::ENOTDIR),
            (ErrorKind::IsADirectory, libc::EISDIR),
            (ErrorKind::DirectoryNotEmpty, libc::ENOTEMPTY),
            (ErrorKind::NameTooLong, libc::ENAMETOOLONG),
            (ErrorKind::PermissionDenied, libc::EACCES),
            (ErrorKind::NotPermitted, libc::EPERM),
            (ErrorKind::LinkLoop, libc::ELOOP),
            (ErrorKind::TooManyLinks, libc::EMLINK),
            (ErrorKind::FileTooLarge, libc::EFBIG),
            (ErrorKind::BadRename, libc::EINVAL),
            (ErrorKind::DiskFull, libc::ENOSPC),
            (ErrorKind::DeadlineExceeded, libc::ETIMEDOUT),
            (ErrorKind::Unsupported, libc::EOPNOTSUPP),
            (ErrorKind::ChainVersionMismatch, libc::EIO),
            (ErrorKind::PeerOverloaded, libc::EIO),
            (ErrorKind::PeerUnreachable, libc::EIO),
            (ErrorKind::TransactionConflict, libc::EIO),
            (ErrorKind::ChunkNotFound, libc::EIO),
            (ErrorKind::SessionUnknown, libc::EIO),
        ];
        for (kind, expected) in table {
            assert_eq!(of(&Error::new(kind, "")).code(), expected, "{}", kind.name());
        }
    }

    /// Goal: a path whose inode was replaced is looked up again. Oracle: ESTALE, for inodes only.
    #[test]
    fn gone_inodes_are_stale() {
        let error = Error::new(ErrorKind::NotFound, "");
        assert_eq!(of_inode(&error).code(), libc::ESTALE);
        assert_eq!(of(&error).code(), libc::ENOENT);
    }
}
