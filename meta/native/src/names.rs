//! Which names and link targets are allowed.

use firepond_core::wire::meta::{NAME_MAX_BYTES, PATH_MAX_BYTES};
use firepond_core::{Error, ErrorKind, Result};

/// The longest target of a symbolic link: a path without its closing NUL.
const TARGET_MAX_BYTES: usize = PATH_MAX_BYTES - 1;

/// Checks a name of an entry; "." and ".." pass and are the operation's matter.
///
/// # Errors
/// `NameTooLong`, `InvalidArgument` for "/" and NUL, `NotFound` for the empty name.
pub(crate) fn check(name: &[u8]) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "the empty name names nothing"));
    }
    if name.len() > NAME_MAX_BYTES {
        return Err(Error::new(ErrorKind::NameTooLong, "").with("bytes", name.len()));
    }
    if name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(
            Error::invalid("a name holds neither '/' nor NUL").with("name", name.escape_ascii())
        );
    }
    Ok(())
}

/// Whether a name is "." or "..".
pub(crate) fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

/// Checks a name that is to be made.
///
/// # Errors
/// As `check`; `AlreadyExists` for "." and "..".
pub(crate) fn check_new(name: &[u8]) -> Result<()> {
    check(name)?;
    if is_dots(name) { Err(exists(name)) } else { Ok(()) }
}

/// Checks the target of a symbolic link.
///
/// # Errors
/// `NotFound` for the empty target, `NameTooLong`, `InvalidArgument` for NUL.
pub(crate) fn check_target(target: &[u8]) -> Result<()> {
    if target.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "a link needs a target"));
    }
    if target.len() > TARGET_MAX_BYTES {
        return Err(Error::new(ErrorKind::NameTooLong, "").with("bytes", target.len()));
    }
    if target.contains(&0) {
        return Err(Error::invalid("a link's target holds no NUL"));
    }
    Ok(())
}

/// The error for a name that is there.
pub(crate) fn exists(name: &[u8]) -> Error {
    Error::new(ErrorKind::AlreadyExists, "").with("name", name.escape_ascii())
}

/// The error for a name that is not there.
pub(crate) fn missing(name: &[u8]) -> Error {
    Error::new(ErrorKind::NotFound, "").with("name", name.escape_ascii())
}
