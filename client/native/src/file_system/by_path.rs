//! Operations on names by their paths, for programs that have no kernel above them.
//!
//! Why here: what a slash at the end means, and in which order errors are found, is the kernel's
//! work on a mount; whoever comes by path gets the same answers. Invariants: a name without a
//! slash costs one call after its parent is found.

use super::resolve::Place;
use super::{CreateOptions, FileSystem, OpenFile, OpenOptions};
use firepond_core::wire::meta::{
    AttributeChanges, Attributes, Credentials, InodeKind, PATH_MAX_BYTES, RenameMode,
};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// All errors are those of the operation, and of `resolve`.
impl FileSystem {
    /// mkdir.
    pub async fn make_directory_at(
        &self,
        who: &Credentials,
        path: &[u8],
        mode: u32,
    ) -> Result<Attributes> {
        let place = self.resolve_parent(who, path).await?;
        self.make_directory(who, place.parent, &place.name, mode).await
    }

    /// rmdir.
    pub async fn remove_directory_at(&self, who: &Credentials, path: &[u8]) -> Result<()> {
        let place = self.resolve_parent(who, path).await?;
        self.remove_directory(who, place.parent, &place.name).await
    }

    /// unlink.
    pub async fn unlink_at(&self, who: &Credentials, path: &[u8]) -> Result<()> {
        let place = self.resolve_parent(who, path).await?;
        if place.slash && self.kind_at(who, &place).await? != InodeKind::Directory {
            return Err(Error::new(ErrorKind::NotADirectory, "a slash follows the name"));
        }
        self.unlink(who, place.parent, &place.name).await
    }

    /// symlink.
    pub async fn make_symlink_at(
        &self,
        who: &Credentials,
        target: &[u8],
        path: &[u8],
    ) -> Result<Attributes> {
        // Before the path is walked, as the kernel does; the service looks again.
        match target.len() {
            0 => return Err(Error::new(ErrorKind::NotFound, "a link needs a target")),
            PATH_MAX_BYTES.. => return Err(Error::new(ErrorKind::NameTooLong, "the target")),
            _ => {}
        }
        let place = self.resolve_parent(who, path).await?;
        self.require_no_slash(who, &place).await?;
        self.make_symlink(who, place.parent, &place.name, target).await
    }

    /// link; the link itself if `path` is a symbolic one.
    pub async fn link_at(
        &self,
        who: &Credentials,
        path: &[u8],
        new_path: &[u8],
    ) -> Result<Attributes> {
        let inode = self.resolve(who, path, false).await?.inode;
        let place = self.resolve_parent(who, new_path).await?;
        self.require_no_slash(who, &place).await?;
        self.link(who, inode, place.parent, &place.name).await
    }

    /// rename.
    pub async fn rename_at(
        &self,
        who: &Credentials,
        path: &[u8],
        new_path: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let from = self.resolve_parent(who, path).await?;
        let to = self.resolve_parent(who, new_path).await?;
        if (from.slash || to.slash) && self.kind_at(who, &from).await? != InodeKind::Directory {
            if mode == RenameMode::NoReplace {
                self.require_absent(who, &to).await?;
            }
            return Err(Error::new(ErrorKind::NotADirectory, "a slash follows the name"));
        }
        self.rename(who, (from.parent, &from.name), (to.parent, &to.name), mode).await
    }

    /// Opens the file that a path leads to.
    pub async fn open_at(
        &self,
        who: &Credentials,
        path: &[u8],
        options: OpenOptions,
    ) -> Result<Arc<OpenFile>> {
        let found = self.resolve(who, path, true).await?;
        self.open_found(who, path, &found, options).await
    }

    /// Creates a file and opens it; one that is there is opened unless `create.exclusive`.
    /// A symbolic link that leads to nothing gets its target made, as open(2) has it.
    pub async fn create_at(
        &self,
        who: &Credentials,
        path: &[u8],
        create: CreateOptions,
        open: OpenOptions,
    ) -> Result<Arc<OpenFile>> {
        let mut place = self.resolve_parent(who, path).await?;
        // Exclusive at first: an existing name may be a link or lack permission, and is opened by
        // the rules for existing files.
        let exclusive = CreateOptions { exclusive: true, ..create };
        loop {
            if place.slash && !is_dots(&place.name) {
                return Err(directory_error(path));
            }
            match self.create(who, place.parent, &place.name, exclusive).await {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && !create.exclusive => {}
                other => return other.map(|(file, _, _)| file),
            }
            let (end, found) = self.resolve_place(who, path).await?;
            let Some(found) = found else {
                // A link's end, or removed in between.
                place = end;
                continue;
            };
            if end.slash && found.kind != InodeKind::Directory {
                return Err(directory_error(path));
            }
            match self.open_found(who, path, &found, open).await {
                // Removed in between.
                Err(error) if is_gone(&error) => {}
                opened => return opened,
            }
        }
    }

    /// Changes attributes of what a path leads to.
    pub async fn set_attributes_at(
        &self,
        who: &Credentials,
        path: &[u8],
        follow_last: bool,
        changes: AttributeChanges,
    ) -> Result<Attributes> {
        let inode = self.resolve(who, path, follow_last).await?.inode;
        self.set_attributes(who, inode, changes).await
    }

    async fn open_found(
        &self,
        who: &Credentials,
        path: &[u8],
        found: &Attributes,
        options: OpenOptions,
    ) -> Result<Arc<OpenFile>> {
        if found.kind == InodeKind::Directory {
            return Err(directory_error(path));
        }
        self.open(who, found.inode, options).await
    }

    async fn kind_at(&self, who: &Credentials, place: &Place) -> Result<InodeKind> {
        self.lookup(who, place.parent, &place.name).await.map(|found| found.kind)
    }

    async fn require_absent(&self, who: &Credentials, place: &Place) -> Result<()> {
        match self.lookup(who, place.parent, &place.name).await {
            Ok(_) => Err(Error::new(ErrorKind::AlreadyExists, "")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Only a directory can be made under a name with a slash.
    async fn require_no_slash(&self, who: &Credentials, place: &Place) -> Result<()> {
        if !place.slash || is_dots(&place.name) {
            return Ok(());
        }
        self.require_absent(who, place).await?;
        Err(Error::new(ErrorKind::NotFound, "a slash follows the name of what is no directory"))
    }
}

fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StaleHandle)
}

fn directory_error(path: &[u8]) -> Error {
    Error::new(ErrorKind::IsADirectory, "").with("path", String::from_utf8_lossy(path))
}
