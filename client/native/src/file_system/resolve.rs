//! Paths: one look-up a component, symbolic links followed.
//!
//! Why no cache: a name that another client has changed must not be seen in its old place; a mount
//! has the kernel's cache above this. Invariants: at most `LINK_MAX_COUNT` links are followed.

use super::FileSystem;
use firepond_core::ids::InodeId;
use firepond_core::wire::meta::{Attributes, Credentials, InodeKind, PATH_MAX_BYTES};
use firepond_core::{Error, ErrorKind, Result};
use std::collections::VecDeque;

/// As Linux has it.
const LINK_MAX_COUNT: usize = 40;

impl FileSystem {
    /// The inode that an absolute path leads to.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `LinkLoop`, `NameTooLong`, `PermissionDenied`.
    pub async fn resolve(
        &self,
        who: &Credentials,
        path: &[u8],
        follow_last: bool,
    ) -> Result<Attributes> {
        let mut rest = components(path)?;
        let mut here: Option<Attributes> = None;
        let mut parent = InodeId::ROOT;
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if let Some(above) = here.take() {
                parent = above.inode;
            }
            let found = self
                .lookup(who, parent, &name)
                .await
                .map_err(|error| error.with("path", String::from_utf8_lossy(path)))?;
            if found.kind == InodeKind::Symlink && (follow_last || !rest.is_empty()) {
                links += 1;
                if links > LINK_MAX_COUNT {
                    return Err(Error::new(ErrorKind::LinkLoop, "")
                        .with("path", String::from_utf8_lossy(path)));
                }
                let target = self.read_link(who, found.inode).await?;
                if target.starts_with(b"/") {
                    parent = InodeId::ROOT;
                }
                let mut ahead = components(&target)?;
                ahead.append(&mut rest);
                rest = ahead;
                continue;
            }
            here = Some(found);
        }
        match here {
            Some(found) => Ok(found),
            None => self.attributes(who, parent).await,
        }
    }

    /// The directory of a path's last component, and that component.
    ///
    /// # Errors
    /// As `resolve`; `InvalidArgument` when the path has no last name ("/", "..").
    pub async fn resolve_parent(
        &self,
        who: &Credentials,
        path: &[u8],
    ) -> Result<(InodeId, Vec<u8>)> {
        let mut names = components(path)?;
        let last = names.pop_back().filter(|name| name != b"." && name != b"..");
        let last = last.ok_or_else(|| {
            Error::invalid("the path does not end in a name")
                .with("path", String::from_utf8_lossy(path))
        })?;
        if names.is_empty() {
            return Ok((InodeId::ROOT, last));
        }
        let parent: Vec<u8> = Vec::from(names).join(&b'/');
        Ok((self.resolve(who, &parent, true).await?.inode, last))
    }
}

fn components(path: &[u8]) -> Result<VecDeque<Vec<u8>>> {
    if path.len() > PATH_MAX_BYTES {
        return Err(Error::new(ErrorKind::NameTooLong, "the path is too long")
            .with("len", path.len())
            .with("max", PATH_MAX_BYTES));
    }
    if path.contains(&0) {
        return Err(Error::invalid("a path has no zero byte"));
    }
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    Ok(names.map(<[u8]>::to_vec).collect())
}
