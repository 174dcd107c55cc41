//! The one file that speaks the FUSE library's language: decodes a request, runs the operation,
//! sends the reply.
//!
//! Why a first poll on the thread that took the request: what needs no waiting (a buffered write, a
//! cached read) is answered without waking another thread, and a message to a server leaves at
//! once. What does wait goes on as a task of the runtime and replies from there, so that a slow
//! operation holds up nobody.
//! Invariants: every request gets exactly one reply (the library answers EIO when a reply is
//! dropped).

use super::attributes::{file_type, time_update};
use super::credentials::CredentialCache;
use super::flags::{OpenRequest, is_synchronous, rename_mode};
use super::operations::{ListedEntry, Operations};
use super::reply::{
    add_plus, send_attributes, send_created, send_data, send_empty, send_entry, send_statfs,
};
use super::{connection, errno};
use bytes::Bytes;
use firepond_core::ids::InodeId;
use firepond_core::wire::meta::{AttributeChanges, Credentials};
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::SystemTime;
use tokio::runtime::Handle;

/// The FUSE library's view of a mount.
pub(super) struct Adapter {
    operations: Arc<Operations>,
    runtime: Handle,
    credentials: CredentialCache,
}

impl Adapter {
    pub(super) fn new(operations: Arc<Operations>, runtime: Handle) -> Adapter {
        Adapter { operations, runtime, credentials: CredentialCache::default() }
    }

    fn run<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        let mut future = Box::pin(future);
        let _entered = self.runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_pending() {
            self.runtime.spawn(future);
        }
    }

    fn start(&self, request: &Request) -> (Arc<Operations>, Credentials) {
        (Arc::clone(&self.operations), self.credentials.of(request))
    }

    fn start_named(
        &self,
        request: &Request,
        name: &OsStr,
    ) -> (Arc<Operations>, Credentials, Vec<u8>) {
        (Arc::clone(&self.operations), self.credentials.of(request), name.as_bytes().to_vec())
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        connection::configure(config, &self.operations.options);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (operations, who, name) = self.start_named(request, name);
        self.run(async move {
            let result = operations.lookup(&who, InodeId(parent.0), &name).await;
            send_entry(&operations, reply, result);
        });
    }

    fn forget(&self, _request: &Request, inode: INodeNo, count: u64) {
        self.operations.inodes.forget(InodeId(inode.0), count);
    }

    fn getattr(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let (operations, who) = self.start(request);
        self.run(async move {
            let handle = handle.map(|handle| handle.0);
            let result = operations.attributes(&who, InodeId(inode.0), handle).await;
            send_attributes(&operations, reply, result);
        });
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_macos: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (operations, who) = self.start(request);
        let changes = AttributeChanges {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size_bytes: size,
            accessed: accessed.map(time_update),
            modified: modified.map(time_update),
        };
        self.run(async move {
            let (inode, handle) = (InodeId(inode.0), handle.map(|handle| handle.0));
            let result = operations.set_attributes(&who, inode, changes, handle).await;
            send_attributes(&operations, reply, result);
        });
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        let (operations, who) = self.start(request);
        self.run(async move {
            match operations.read_link(&who, InodeId(inode.0)).await {
                Ok(target) => reply.data(&target),
                Err(error) => reply.error(errno::of_inode(&error)),
            }
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        let (operations, who, name) = self.start_named(request, name);
        self.run(async move {
            let result = operations.make_node(&who, InodeId(parent.0), &name, mode).await;
            send_entry(&operations, reply, result);
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (operations, who, name) = self.start_named(request, name);
        self.run(async move {
            let result = operations.make_directory(&who, InodeId(parent.0), &name, mode).await;
            send_entry(&operations, reply, result);
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (operations, who, name) = self.start_named(request, name);
        self.run(async move {
            send_empty(reply, operations.unlink(&who, InodeId(parent.0), &name).await);
        });
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (operations, who, name) = self.start_named(request, name);
        self.run(async move {
            send_empty(reply, operations.remove_directory(&who, InodeId(parent.0), &name).await);
        });
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (operations, who, name) = self.start_named(request, name);
        let target = target.as_os_str().as_bytes().to_vec();
        self.run(async move {
            let result = operations.make_symlink(&who, InodeId(parent.0), &name, &target).await;
            send_entry(&operations, reply, result);
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = rename_mode(flags) else { return reply.error(Errno::EINVAL) };
        let (operations, who, name) = self.start_named(request, name);
        let new_name = new_name.as_bytes().to_vec();
        self.run(async move {
            let from = (InodeId(parent.0), name.as_slice());
            let to = (InodeId(new_parent.0), new_name.as_slice());
            send_empty(reply, operations.rename(&who, from, to, mode).await);
        });
    }

    fn link(
        &self,
        request: &Request,
        inode: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let (operations, who, name) = self.start_named(request, name);
        self.run(async move {
            let (inode, parent) = (InodeId(inode.0), InodeId(parent.0));
            let result = operations.link(&who, inode, parent, &name).await;
            send_entry(&operations, reply, result);
        });
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (operations, who) = self.start(request);
        self.run(async move {
            let wanted = OpenRequest::new(flags.0);
            match operations.open(&who, InodeId(inode.0), wanted).await {
                Ok(opened) => {
                    let flags = wanted.kernel_flags(opened.unchanged);
                    reply.opened(FileHandle(opened.handle), flags);
                }
                Err(error) => reply.error(errno::of_inode(&error)),
            }
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (operations, who, name) = self.start_named(request, name);
        self.run(async move {
            let wanted = OpenRequest::new(flags);
            let result = operations.create(&who, InodeId(parent.0), &name, mode, wanted).await;
            send_created(&operations, reply, result, wanted.kernel_flags(false));
        });
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let operations = Arc::clone(&self.operations);
        self.run(async move {
            send_data(reply, operations.read(handle.0, offset, size as usize).await);
        });
    }

    fn write(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let operations = Arc::clone(&self.operations);
        let data = Bytes::copy_from_slice(data);
        let from_cache = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let synchronous = is_synchronous(flags);
        self.run(async move {
            let len = data.len() as u32;
            match operations.write(handle.0, offset, data, from_cache, synchronous).await {
                Ok(()) => reply.written(len),
                Err(error) => reply.error(errno::of(&error)),
            }
        });
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let operations = Arc::clone(&self.operations);
        self.run(async move { send_empty(reply, operations.flush(handle.0).await) });
    }

    fn release(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let operations = Arc::clone(&self.operations);
        self.run(async move {
            let result = operations.release(handle.0).await;
            if let Err(error) = &result {
                // Nobody waits for a release: close(2) has returned. Its flush reported lost
                // writes.
                tracing::info!(%error, inode = inode.0, "closing a file failed");
            }
            send_empty(reply, result);
        });
    }

    fn fsync(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let operations = Arc::clone(&self.operations);
        self.run(async move { send_empty(reply, operations.sync(handle.0).await) });
    }

    fn opendir(&self, request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let (operations, who) = self.start(request);
        let handle = operations.open_directory(who, InodeId(inode.0));
        reply.opened(FileHandle(handle), fuser::FopenFlags::empty());
    }

    fn readdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        position: u64,
        mut reply: ReplyDirectory,
    ) {
        let operations = Arc::clone(&self.operations);
        self.run(async move {
            let emit = |entry: ListedEntry<'_>| {
                let (inode, name) = (INodeNo(entry.inode.0), OsStr::from_bytes(entry.name));
                !reply.add(inode, entry.next_position, file_type(entry.kind), name)
            };
            match operations.read_directory(handle.0, position, false, emit).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno::of_inode(&error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        position: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let operations = Arc::clone(&self.operations);
        self.run(async move {
            let emit = |entry: ListedEntry<'_>| add_plus(&operations, &mut reply, entry);
            match operations.read_directory(handle.0, position, true, emit).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno::of_inode(&error)),
            }
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        send_empty(reply, self.operations.release_directory(handle.0));
    }

    /// Every change of a directory is durable when it is acknowledged.
    fn fsyncdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn statfs(&self, request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let (operations, who) = self.start(request);
        self.run(async move {
            match operations.stat_file_system(&who).await {
                Ok(stat) => send_statfs(reply, &stat),
                Err(error) => reply.error(errno::of(&error)),
            }
        });
    }

    fn fallocate(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (operations, who) = self.start(request);
        if mode == libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE {
            return self.run(async move {
                send_empty(reply, operations.punch_hole(handle.0, offset, length).await);
            });
        }
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        self.run(async move {
            let end = offset.saturating_add(length);
            send_empty(reply, operations.extend(&who, InodeId(inode.0), handle.0, end).await);
        });
    }

    /// Left to the kernel, which then treats the whole file as data: holes are not told apart.
    fn lseek(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }
}
