//! Paths: one look-up a component, symbolic links followed, by the rules of path_resolution(7).
//!
//! Why no cache: a name that another client has changed must not be seen in its old place; a mount
//! has the kernel's cache above this. Why "." is looked up, too: "file/." is no path, and only the
//! service knows what a file is. Invariants: at most `LINK_MAX_COUNT` links are followed.

use super::FileSystem;
use firepond_core::ids::InodeId;
use firepond_core::wire::meta::{Attributes, Credentials, InodeKind, PATH_MAX_BYTES};
use firepond_core::{Error, ErrorKind, Result};
use std::collections::VecDeque;

/// As Linux has it.
const LINK_MAX_COUNT: usize = 40;

/// The last component of a path. Its name may be "." or "..", which the operations refuse.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory that it is in.
    pub parent: InodeId,
    /// What it is called there.
    pub name: Vec<u8>,
    /// A slash follows: only a directory will do.
    pub slash: bool,
}

/// What a walk does with the last component.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Leave,
    LookUp,
    Follow,
}

impl FileSystem {
    /// The inode that an absolute path leads to. A slash at its end follows a link, and asks for a
    /// directory.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `LinkLoop`, `NameTooLong`, `PermissionDenied`.
    pub async fn resolve(
        &self,
        who: &Credentials,
        path: &[u8],
        follow_last: bool,
    ) -> Result<Attributes> {
        let follow = follow_last || path.ends_with(b"/");
        let last = if follow { Last::Follow } else { Last::LookUp };
        let (place, found) = self.walk(who, path, last).await?;
        let found = found.ok_or_else(|| with_path(Error::new(ErrorKind::NotFound, ""), path))?;
        if place.slash && found.kind != InodeKind::Directory {
            return Err(with_path(Error::new(ErrorKind::NotADirectory, ""), path));
        }
        Ok(found)
    }

    /// The directory of a path's last component, and that component, which is not looked up.
    ///
    /// # Errors
    /// As `resolve`.
    pub async fn resolve_parent(&self, who: &Credentials, path: &[u8]) -> Result<Place> {
        self.walk(who, path, Last::Leave).await.map(|(place, _)| place)
    }

    /// Where a path leads to through links, and what is there, if anything.
    ///
    /// # Errors
    /// As `resolve`.
    pub async fn resolve_place(
        &self,
        who: &Credentials,
        path: &[u8],
    ) -> Result<(Place, Option<Attributes>)> {
        self.walk(who, path, Last::Follow).await
    }

    async fn walk(
        &self,
        who: &Credentials,
        path: &[u8],
        last: Last,
    ) -> Result<(Place, Option<Attributes>)> {
        let mut rest = components(path)?;
        let mut slash = path.ends_with(b"/");
        let mut parent = InodeId::ROOT;
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            let is_last = rest.is_empty();
            if is_last && last == Last::Leave {
                return Ok((Place { parent, name, slash }, None));
            }
            let found = match self.lookup(who, parent, &name).await {
                Err(error) if is_last && error.kind() == ErrorKind::NotFound => {
                    return Ok((Place { parent, name, slash }, None));
                }
                found => found.map_err(|error| with_path(error, path))?,
            };
            if found.kind == InodeKind::Symlink && (!is_last || last == Last::Follow) {
                links += 1;
                if links > LINK_MAX_COUNT {
                    return Err(with_path(Error::new(ErrorKind::LinkLoop, ""), path));
                }
                let target = self.read_link(who, found.inode).await?;
                if target.starts_with(b"/") {
                    parent = InodeId::ROOT;
                }
                slash |= is_last && target.ends_with(b"/");
                let mut ahead = components(&target)?;
                ahead.append(&mut rest);
                rest = ahead;
                continue;
            }
            if is_last {
                return Ok((Place { parent, name, slash }, Some(found)));
            }
            if found.kind != InodeKind::Directory {
                return Err(with_path(Error::new(ErrorKind::NotADirectory, ""), path));
            }
            parent = found.inode;
        }
        unreachable!("a path has components")
    }
}

fn with_path(error: Error, path: &[u8]) -> Error {
    error.with("path", String::from_utf8_lossy(path))
}

/// The names of a path, at least one: that of "/" is ".".
fn components(path: &[u8]) -> Result<VecDeque<Vec<u8>>> {
    if path.len() > PATH_MAX_BYTES {
        return Err(Error::new(ErrorKind::NameTooLong, "the path is too long")
            .with("len", path.len())
            .with("max", PATH_MAX_BYTES));
    }
    if path.contains(&0) {
        return Err(Error::invalid("a path has no zero byte"));
    }
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let names: VecDeque<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
    Ok(if names.is_empty() { VecDeque::from([b".".to_vec()]) } else { names })
}
