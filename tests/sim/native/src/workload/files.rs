//! Operations on files: whatever a name is when it is looked up.
//!
//! A file is known by its inode: what is written into it before a rename is there after it.

use super::{Client, not_done};
use crate::history::{Begun, Deed, FileDeed};
use crate::plan::marker;
use bytes::Bytes;
use firepond_client::file_system::{CreateOptions, FileSystem, OpenFile, OpenOptions};
use firepond_core::ids::InodeId;
use firepond_core::sys::clock::{Instant, timeout_at};
use firepond_core::wire::meta::{AttributeChanges, Credentials, RenameMode};
use firepond_core::{Error, Result};
use std::sync::Arc;

/// Longer than any file of a plan.
const FILE_MAX_BYTES: usize = 256 << 10;

fn name(file: u32) -> Vec<u8> {
    format!("file-{file}").into_bytes()
}

fn root() -> Credentials {
    Credentials::default()
}

impl Client<'_> {
    pub(super) async fn file_write(
        &self,
        entry: u32,
        file: u32,
        pieces: &[(u32, u32)],
        close: bool,
        begun: Begun,
        deadline: Instant,
    ) -> Deed {
        let Some(files) = &self.handles.files else { return not_done("no files") };
        let opened = timeout_at(deadline, open_or_create(files, file)).await;
        let Some(Ok(open)) = opened else { return not_done("the file could not be opened") };
        let inode = open.inode();
        let pieces = pieces.to_vec();
        let deed = |settled| {
            let pieces = pieces.clone();
            Deed::File { inode, deed: FileDeed::Write { pieces, settled } }
        };
        let written = timeout_at(deadline, write(&open, entry, &pieces, close)).await;
        let settled = matches!(written, Some(Ok(())));
        self.history.part(begun, deed(settled));
        if !close {
            timeout_at(deadline, open.close()).await;
        }
        Deed::Names("the file is closed".to_owned())
    }

    pub(super) async fn file_read(&self, file: u32, deadline: Instant) -> Deed {
        let Some(files) = &self.handles.files else { return not_done("no files") };
        let read = async {
            let found = files.lookup(&root(), InodeId::ROOT, &name(file)).await?;
            let options = OpenOptions { read: true, ..OpenOptions::default() };
            let open = files.open(&root(), found.inode, options).await?;
            let parts = open.read(0, FILE_MAX_BYTES).await?;
            let mut bytes = Vec::new();
            for part in &parts {
                bytes.extend_from_slice(part.complete().await?);
            }
            open.close().await?;
            Result::<_, Error>::Ok((found.inode, Bytes::from(bytes)))
        };
        match timeout_at(deadline, read).await {
            Some(Ok((inode, bytes))) => Deed::File { inode, deed: FileDeed::Read { bytes } },
            Some(Err(error)) => Deed::Names(format!("{:?}", error.kind())),
            None => not_done("too late"),
        }
    }

    pub(super) async fn file_rename(&self, file: u32, to: u32, deadline: Instant) -> Deed {
        let Some(files) = &self.handles.files else { return not_done("no files") };
        let (who, from, to) = (root(), name(file), name(to));
        let (from, to) = ((InodeId::ROOT, &from[..]), (InodeId::ROOT, &to[..]));
        let renamed = files.rename(&who, from, to, RenameMode::Replace);
        Deed::Names(match timeout_at(deadline, renamed).await {
            Some(Ok(())) => "renamed".to_owned(),
            Some(Err(error)) => format!("{:?}", error.kind()),
            None => "too late".to_owned(),
        })
    }

    pub(super) async fn file_unlink(&self, file: u32, deadline: Instant) -> Deed {
        let Some(files) = &self.handles.files else { return not_done("no files") };
        let who = root();
        let (name, parent) = (name(file), InodeId::ROOT);
        Deed::Names(match timeout_at(deadline, files.unlink(&who, parent, &name)).await {
            Some(Ok(())) => "unlinked".to_owned(),
            Some(Err(error)) => format!("{:?}", error.kind()),
            None => "too late".to_owned(),
        })
    }

    pub(super) async fn file_truncate(
        &self,
        file: u32,
        len: u32,
        begun: Begun,
        deadline: Instant,
    ) -> Deed {
        let Some(files) = &self.handles.files else { return not_done("no files") };
        let who = root();
        let name = name(file);
        let found = timeout_at(deadline, files.lookup(&who, InodeId::ROOT, &name)).await;
        let Some(Ok(found)) = found else { return not_done("no such file") };
        let changes =
            AttributeChanges { size_bytes: Some(u64::from(len)), ..AttributeChanges::default() };
        let cut = timeout_at(deadline, files.set_attributes(&who, found.inode, changes)).await;
        let settled = matches!(cut, Some(Ok(_)));
        let deed = Deed::File { inode: found.inode, deed: FileDeed::Truncate { len, settled } };
        self.history.part(begun, deed);
        Deed::Names("end of the truncation".to_owned())
    }
}

async fn open_or_create(files: &FileSystem, file: u32) -> Result<Arc<OpenFile>> {
    let options = CreateOptions { mode: 0o644, read: true, write: true, ..Default::default() };
    let created = files.create(&root(), InodeId::ROOT, &name(file), options).await?;
    Ok(created.0)
}

async fn write(open: &OpenFile, entry: u32, pieces: &[(u32, u32)], close: bool) -> Result<()> {
    for (offset, len) in pieces {
        open.write(u64::from(*offset), Bytes::from(marker(entry, *len))).await?;
    }
    if close { open.close().await } else { open.sync().await }
}
