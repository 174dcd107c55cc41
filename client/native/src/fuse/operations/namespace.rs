//! Names and attributes.

use super::Operations;
use crate::file_system::{CreateOptions, FileSystemStat};
use firepond_core::ids::InodeId;
use firepond_core::wire::meta::{AttributeChanges, Attributes, Credentials, RenameMode};
use firepond_core::{Error, ErrorKind, Result};

/// Permission bits with setuid, setgid and sticky.
const PERMISSION_BITS: u32 = 0o7777;

impl Operations {
    pub(crate) async fn lookup(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
    ) -> Result<Attributes> {
        let attributes = self.file_system.lookup(who, parent, name).await?;
        self.inodes.looked_up(&attributes);
        Ok(attributes)
    }

    /// `handle` is an open file through which the attributes are asked for: one that was unlinked
    /// meanwhile still has them.
    pub(crate) async fn attributes(
        &self,
        who: &Credentials,
        inode: InodeId,
        handle: Option<u64>,
    ) -> Result<Attributes> {
        let found = self.file_system.attributes(who, inode).await;
        let attributes = match (found, handle.and_then(|handle| self.files.get(handle).ok())) {
            (Err(error), Some(open))
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StaleHandle) =>
            {
                open.file.attributes()
            }
            (found, _) => found?,
        };
        self.inodes.told(&attributes);
        Ok(attributes)
    }

    /// A length that is set through a file opened for writing was allowed at open: the mode may
    /// have changed since, or forbidden writing from the start (`open(O_CREAT, 0444)`).
    pub(crate) async fn set_attributes(
        &self,
        who: &Credentials,
        inode: InodeId,
        changes: AttributeChanges,
        handle: Option<u64>,
    ) -> Result<Attributes> {
        let open = handle.and_then(|handle| self.files.get(handle).ok());
        let only_size = AttributeChanges { size_bytes: changes.size_bytes, ..Default::default() };
        let attributes = if open.is_some_and(|open| open.write) && changes == only_size {
            let owner = Credentials::default();
            self.file_system.set_attributes(&owner, inode, changes).await?
        } else {
            self.file_system.set_attributes(who, inode, changes).await?
        };
        self.inodes.told(&attributes);
        Ok(attributes)
    }

    pub(crate) async fn make_directory(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
        mode: u32,
    ) -> Result<Attributes> {
        let mode = mode & PERMISSION_BITS;
        let attributes = self.file_system.make_directory(who, parent, name, mode).await?;
        self.inodes.looked_up(&attributes);
        Ok(attributes)
    }

    /// mknod: regular files only.
    pub(crate) async fn make_node(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
        mode: u32,
    ) -> Result<Attributes> {
        if !matches!(mode & libc::S_IFMT, 0 | libc::S_IFREG) {
            let message = "only regular files, directories and symbolic links";
            return Err(Error::new(ErrorKind::NotPermitted, message));
        }
        let options = CreateOptions {
            mode: mode & PERMISSION_BITS,
            exclusive: true,
            ..CreateOptions::default()
        };
        let (file, attributes, _) = self.file_system.create(who, parent, name, options).await?;
        file.close().await?;
        self.inodes.looked_up(&attributes);
        Ok(attributes)
    }

    pub(crate) async fn make_symlink(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attributes> {
        let attributes = self.file_system.make_symlink(who, parent, name, target).await?;
        self.inodes.looked_up(&attributes);
        Ok(attributes)
    }

    pub(crate) async fn link(
        &self,
        who: &Credentials,
        inode: InodeId,
        parent: InodeId,
        name: &[u8],
    ) -> Result<Attributes> {
        let attributes = self.file_system.link(who, inode, parent, name).await?;
        self.inodes.looked_up(&attributes);
        Ok(attributes)
    }

    pub(crate) async fn unlink(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
    ) -> Result<()> {
        self.file_system.unlink(who, parent, name).await
    }

    pub(crate) async fn remove_directory(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
    ) -> Result<()> {
        self.file_system.remove_directory(who, parent, name).await
    }

    pub(crate) async fn rename(
        &self,
        who: &Credentials,
        from: (InodeId, &[u8]),
        to: (InodeId, &[u8]),
        mode: RenameMode,
    ) -> Result<()> {
        self.file_system.rename(who, from, to, mode).await
    }

    pub(crate) async fn read_link(&self, who: &Credentials, inode: InodeId) -> Result<Vec<u8>> {
        self.file_system.read_link(who, inode).await
    }

    pub(crate) async fn stat_file_system(&self, who: &Credentials) -> Result<FileSystemStat> {
        self.file_system.stat_file_system(who).await
    }
}
