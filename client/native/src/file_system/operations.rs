//! Operations on names and attributes: thin calls to the metadata service.
//!
//! Invariants: what a caller sees of a file includes what this client has written and not settled;
//! a change of size or times comes after all earlier writes of this client.

use super::open_file::OpenFile;
use super::sessions::unexpected;
use super::{CreateOptions, FileSystem, FileSystemStat, OpenOptions};
use firepond_core::ids::InodeId;
use firepond_core::sys::clock;
use firepond_core::wire::meta::{
    AttributeChanges, Attributes, Credentials, DirectoryEntry, MetaReply, OpenFile as OpenRecord,
    Operation, RenameMode,
};
use firepond_core::{Error, ErrorKind, Result};
use serde_bytes::ByteBuf;
use std::sync::Arc;

/// All errors are those of the metadata service, or `DeadlineExceeded` after the operation timeout.
impl FileSystem {
    async fn call(&self, who: &Credentials, operation: Operation) -> Result<MetaReply> {
        let deadline = clock::now() + self.0.options.operation_timeout();
        self.0.sessions.call(who, operation, deadline).await
    }

    async fn call_attributes(&self, who: &Credentials, operation: Operation) -> Result<Attributes> {
        match self.call(who, operation).await? {
            MetaReply::Attributes(attributes) => Ok(self.0.inodes.merge(attributes)),
            other => Err(unexpected("attributes", &other)),
        }
    }

    async fn call_done(&self, who: &Credentials, operation: Operation) -> Result<()> {
        match self.call(who, operation).await? {
            MetaReply::Done => Ok(()),
            other => Err(unexpected("done", &other)),
        }
    }

    /// A name in a directory; "." and ".." too.
    pub async fn lookup(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
    ) -> Result<Attributes> {
        let name = ByteBuf::from(name);
        self.call_attributes(who, Operation::Lookup { parent, name }).await
    }

    /// What is known of an inode.
    pub async fn attributes(&self, who: &Credentials, inode: InodeId) -> Result<Attributes> {
        self.call_attributes(who, Operation::GetAttributes { inode }).await
    }

    /// chmod, chown, truncate, utimens.
    pub async fn set_attributes(
        &self,
        who: &Credentials,
        inode: InodeId,
        changes: AttributeChanges,
    ) -> Result<Attributes> {
        let resize = changes.size_bytes.is_some();
        let times = changes.modified.is_some();
        let operation = Operation::SetAttributes { inode, changes };
        let Some(state) = self.0.inodes.get(inode).filter(|_| resize || times) else {
            return self.call_attributes(who, operation).await;
        };
        // Alone: no write comes between the flush and the change.
        let _alone = state.changes.write().await;
        let errors_seen = state.local.lock().error_count();
        self.0.flush(&state, errors_seen).await?;
        match self.call(who, operation).await? {
            MetaReply::Attributes(attributes) => {
                let mut local = state.local.lock();
                match resize {
                    true => local.resized(&attributes),
                    false => local.learn(&attributes),
                }
                if times {
                    local.times_set();
                }
                Ok(local.visible())
            }
            other => Err(unexpected("attributes", &other)),
        }
    }

    /// Creates a file and opens it; the last value tells whether it is new.
    pub async fn create(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
        options: CreateOptions,
    ) -> Result<(Arc<OpenFile>, Attributes, bool)> {
        let handle = self.0.sessions.new_handle();
        let operation = Operation::Create {
            parent,
            name: ByteBuf::from(name),
            mode: options.mode,
            handle,
            exclusive: options.exclusive,
            write: options.write,
            chunk_size_bytes: options.chunk_size_bytes,
            stripe_count: options.stripe_count,
        };
        // The inode is not known yet, so the record of the open file follows the reply.
        let (attributes, created) = self.call_opened(who, operation).await?;
        let record = OpenRecord { inode: attributes.inode, handle, write: options.write };
        self.0.sessions.opened(record);
        let state = self.0.inodes.open(&attributes)?;
        let visible = state.local.lock().visible();
        let inner = Arc::clone(&self.0);
        let file = OpenFile::new(inner, state, who, handle, (options.read, options.write));
        Ok((Arc::new(file), visible, created))
    }

    /// Opens a file.
    pub async fn open(
        &self,
        who: &Credentials,
        inode: InodeId,
        options: OpenOptions,
    ) -> Result<Arc<OpenFile>> {
        let known = self.0.inodes.get(inode).filter(|_| options.truncate);
        let _alone = match &known {
            None => None,
            Some(state) => {
                let guard = state.changes.write().await;
                let errors_seen = state.local.lock().error_count();
                self.0.flush(state, errors_seen).await?;
                Some(guard)
            }
        };
        let OpenOptions { read, write, truncate } = options;
        let handle = self.0.sessions.new_handle();
        self.0.sessions.opened(OpenRecord { inode, handle, write });
        let operation = Operation::Open { inode, handle, read, write, truncate };
        let opened = self.call_opened(who, operation).await;
        let opened = opened.and_then(|(attributes, _)| {
            let state = self.0.inodes.open(&attributes)?;
            if truncate {
                state.local.lock().resized(&attributes);
            }
            Ok(state)
        });
        let state = opened.inspect_err(|_| self.0.sessions.closed(handle))?;
        let inner = Arc::clone(&self.0);
        Ok(Arc::new(OpenFile::new(inner, state, who, handle, (read, write))))
    }

    async fn call_opened(
        &self,
        who: &Credentials,
        operation: Operation,
    ) -> Result<(Attributes, bool)> {
        match self.call(who, operation).await? {
            MetaReply::Opened { attributes, created } => Ok((attributes, created)),
            other => Err(unexpected("an open file", &other)),
        }
    }

    /// mkdir.
    pub async fn make_directory(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
        mode: u32,
    ) -> Result<Attributes> {
        let name = ByteBuf::from(name);
        self.call_attributes(who, Operation::MakeDirectory { parent, name, mode }).await
    }

    /// rmdir.
    pub async fn remove_directory(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
    ) -> Result<()> {
        let name = ByteBuf::from(name);
        self.call_done(who, Operation::RemoveDirectory { parent, name }).await
    }

    /// Removes a name of a file or symbolic link.
    pub async fn unlink(&self, who: &Credentials, parent: InodeId, name: &[u8]) -> Result<()> {
        let name = ByteBuf::from(name);
        self.call_done(who, Operation::Unlink { parent, name }).await
    }

    /// Renames.
    pub async fn rename(
        &self,
        who: &Credentials,
        (parent, name): (InodeId, &[u8]),
        (new_parent, new_name): (InodeId, &[u8]),
        mode: RenameMode,
    ) -> Result<()> {
        let (name, new_name) = (ByteBuf::from(name), ByteBuf::from(new_name));
        self.call_done(who, Operation::Rename { parent, name, new_parent, new_name, mode }).await
    }

    /// A second name of a file.
    pub async fn link(
        &self,
        who: &Credentials,
        inode: InodeId,
        new_parent: InodeId,
        new_name: &[u8],
    ) -> Result<Attributes> {
        let new_name = ByteBuf::from(new_name);
        self.call_attributes(who, Operation::Link { inode, new_parent, new_name }).await
    }

    /// Makes a symbolic link.
    pub async fn make_symlink(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attributes> {
        let (name, target) = (ByteBuf::from(name), ByteBuf::from(target));
        self.call_attributes(who, Operation::MakeSymlink { parent, name, target }).await
    }

    /// The target of a symbolic link.
    pub async fn read_link(&self, who: &Credentials, inode: InodeId) -> Result<Vec<u8>> {
        match self.call(who, Operation::ReadLink { inode }).await? {
            MetaReply::LinkTarget(target) => Ok(target.into_vec()),
            other => Err(unexpected("a link target", &other)),
        }
    }

    /// Entries after `after` in name order, at most `limit`, and whether there are more.
    pub async fn read_directory(
        &self,
        who: &Credentials,
        inode: InodeId,
        after: Option<Vec<u8>>,
        limit: u32,
        attributes: bool,
    ) -> Result<(Vec<DirectoryEntry>, bool)> {
        let after = after.map(ByteBuf::from);
        let operation = Operation::ReadDirectory { inode, after, limit, attributes };
        match self.call(who, operation).await? {
            MetaReply::Entries { mut entries, more } => {
                for entry in &mut entries {
                    entry.attributes = entry.attributes.take().map(|one| self.0.inodes.merge(one));
                }
                Ok((entries, more))
            }
            other => Err(unexpected("entries", &other)),
        }
    }

    /// Space and inodes of the file system.
    pub async fn stat_file_system(&self, who: &Credentials) -> Result<FileSystemStat> {
        match self.call(who, Operation::StatFileSystem).await? {
            MetaReply::FileSystem { total_bytes, free_bytes, inode_count } => {
                Ok(FileSystemStat { total_bytes, free_bytes, inode_count })
            }
            other => Err(unexpected("space", &other)),
        }
    }

    /// Reads of several open files in one batch; each has its own result.
    pub async fn read_batch(
        &self,
        reads: Vec<(Arc<OpenFile>, u64, Vec<firepond_core::transport::SinkSlice>)>,
    ) -> Vec<Result<usize>> {
        let mut parts = Vec::with_capacity(reads.len());
        let mut refused: Vec<Option<Error>> = Vec::with_capacity(reads.len());
        for (file, offset, sinks) in reads {
            match file.batch_part(offset, sinks) {
                Ok(part) => {
                    parts.push(part);
                    refused.push(None);
                }
                Err(error) => refused.push(Some(error)),
            }
        }
        let deadline = clock::now() + self.0.options.operation_timeout();
        let mut results = self.0.read_files(parts, deadline).await.into_iter();
        let missing = || Err(Error::new(ErrorKind::Internal, "a read has no result"));
        refused
            .into_iter()
            .map(|error| match error {
                Some(error) => Err(error),
                None => results.next().unwrap_or_else(missing),
            })
            .collect()
    }
}
