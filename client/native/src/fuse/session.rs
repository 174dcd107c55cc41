//! A mount from its start to its end.
//!
//! One thread carries the session: it waits for the FUSE library's threads, which end when the
//! mount point is unmounted by whomever, and then writes out what is left and closes the client's
//! sessions.
//! Invariants: once `wait` says that it has ended nothing is pending; a mount that is busy stays as
//! it is.
//! Locks: `state` only, never held while waiting for anything else.

use super::adapter::Adapter;
use super::operations::Operations;
use super::options::MountOptions;
use crate::file_system::FileSystem;
use firepond_core::sys::task;
use firepond_core::{Error, ErrorKind, Result};
use fuser::{Config, INodeNo, MountOption, Session, SessionACL};
use parking_lot::{Condvar, Mutex};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// The device that the kernel's side of FUSE is reached through.
const DEVICE: &str = "/dev/fuse";
/// What the table of mounts shows as the type, after "fuse.".
const SUBTYPE: &str = "firepond";

/// A mounted file system.
pub struct Mount {
    shared: Arc<Shared>,
}

struct Shared {
    mount_point: PathBuf,
    operations: Arc<Operations>,
    state: Mutex<State>,
    ended: Condvar,
}

enum State {
    Running,
    Ended(Option<Error>),
}

/// What a mount is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountStatus {
    /// Where it is.
    pub mount_point: PathBuf,
    /// Whether it still serves.
    pub running: bool,
    /// Open files.
    pub open_file_count: usize,
    /// Open directories.
    pub open_directory_count: usize,
    /// Inodes that the kernel holds.
    pub inode_count: usize,
    /// Bytes read since the start, without those that the kernel's cache gave.
    pub read_bytes: u64,
    /// Bytes written since the start.
    pub written_bytes: u64,
}

impl Mount {
    /// Mounts at an existing directory and serves from then on. The runtime carries the operations
    /// and must outlive the mount.
    ///
    /// # Errors
    /// `Unsupported` without FUSE, `NotPermitted` when the user may not mount, `InvalidArgument`
    /// when the mount point is none, `IoFailed` for what else the system refuses.
    pub fn start(
        file_system: FileSystem,
        runtime: Handle,
        mount_point: &Path,
        options: MountOptions,
    ) -> Result<Mount> {
        check_device()?;
        let mount_point = mount_point
            .canonicalize()
            .map_err(|error| refused(&error, mount_point, "the mount point"))?;
        let config = session_config(&options);
        let operations = Arc::new(Operations::new(file_system, options));
        let adapter = Adapter::new(Arc::clone(&operations), runtime.clone());
        let session = Session::new(adapter, &mount_point, &config)
            .map_err(|error| refused(&error, &mount_point, "mounting"))?;
        let notifier = session.notifier();
        operations.set_invalidate(Box::new(move |inode| {
            // A negative offset: attributes only. An inode that the kernel does not have is no
            // error.
            if let Err(error) = notifier.inval_inode(INodeNo(inode.0), -1, 0) {
                tracing::debug!(%error, %inode, "attributes were not invalidated");
            }
        }));
        let shared = Arc::new(Shared {
            mount_point,
            operations,
            state: Mutex::new(State::Running),
            ended: Condvar::new(),
        });
        let carrier = Arc::clone(&shared);
        task::spawn_thread("fuse-session", move || carrier.carry(session, &runtime))
            .map_err(|error| Error::io(&error, "starting the session's thread"))?;
        tracing::info!(mount_point = %shared.mount_point.display(), "mounted");
        Ok(Mount { shared })
    }

    /// Waits until the mount has ended and everything is written out, at most `timeout`; says
    /// whether it has ended. In steps, so that Python can look at its signals in between.
    ///
    /// # Errors
    /// What ended it, unless it was unmounted.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let mut state = self.shared.state.lock();
        if matches!(*state, State::Running) {
            self.shared.ended.wait_for(&mut state, timeout);
        }
        match &*state {
            State::Running => Ok(false),
            State::Ended(None) => Ok(true),
            State::Ended(Some(error)) => Err(error.clone()),
        }
    }

    /// Takes the mount point away; `wait` returns a little later. With `detach` it disappears at
    /// once and open files keep working until they are closed.
    ///
    /// # Errors
    /// `MountBusy` while something is open below it and `detach` is not set.
    pub fn unmount(&self, detach: bool) -> Result<()> {
        if !matches!(*self.shared.state.lock(), State::Running) {
            return Ok(());
        }
        unmount(&self.shared.mount_point, detach)
    }

    /// What it is doing.
    pub fn status(&self) -> MountStatus {
        let counts = self.shared.operations.counts();
        MountStatus {
            mount_point: self.shared.mount_point.clone(),
            running: matches!(*self.shared.state.lock(), State::Running),
            open_file_count: counts.open_file_count,
            open_directory_count: counts.open_directory_count,
            inode_count: counts.inode_count,
            read_bytes: counts.read_bytes,
            written_bytes: counts.written_bytes,
        }
    }
}

impl Shared {
    fn carry(&self, session: Session<Adapter>, runtime: &Handle) {
        let result = session.run();
        if let Err(error) = &result {
            tracing::error!(%error, "the FUSE session broke");
        }
        let flushed = runtime.block_on(self.operations.file_system.shutdown());
        if let Err(error) = &flushed {
            tracing::error!(%error, "writing out at the end of the mount failed");
        }
        tracing::info!(mount_point = %self.mount_point.display(), "unmounted");
        let result = result.map_err(|error| Error::io(&error, "the FUSE session"));
        *self.state.lock() = State::Ended(result.and(flushed).err());
        self.ended.notify_all();
    }
}

fn session_config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(options.source.clone()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
        // The kernel knows the type only by this name; the library hands its own option to
        // fusermount alone.
        MountOption::CUSTOM(format!("subtype={SUBTYPE}")),
    ];
    if options.read_only {
        config.mount_options.push(MountOption::RO);
    }
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.thread_count.max(1));
    config.clone_fd = true;
    config
}

fn check_device() -> Result<()> {
    if Path::new(DEVICE).exists() {
        return Ok(());
    }
    let message = "this system has no /dev/fuse: load the kernel module (`modprobe fuse`), or give \
                   the container the device (`--device /dev/fuse --cap-add SYS_ADMIN`)";
    Err(Error::new(ErrorKind::Unsupported, message))
}

fn refused(error: &std::io::Error, mount_point: &Path, attempted: &str) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::NotADirectory => ErrorKind::NotADirectory,
        std::io::ErrorKind::PermissionDenied => ErrorKind::NotPermitted,
        std::io::ErrorKind::InvalidInput => ErrorKind::InvalidArgument,
        _ => ErrorKind::IoFailed,
    };
    Error::new(kind, format!("{attempted}: {error}")).with("mount_point", mount_point.display())
}

/// Takes a mount point away, whoever serves it. As root by the system call, else by fusermount3.
///
/// # Errors
/// `MountBusy` while something is open below it and `detach` is not set.
pub fn unmount(mount_point: &Path, detach: bool) -> Result<()> {
    let path = CString::new(mount_point.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("a mount point has no NUL byte"))?;
    let flags = libc::UMOUNT_NOFOLLOW | if detach { libc::MNT_DETACH } else { 0 };
    // SAFETY: the path is a NUL-terminated string that lives through the call.
    if unsafe { libc::umount2(path.as_ptr(), flags) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EPERM) => unmount_with_helper(mount_point, detach),
        // Somebody else was faster.
        Some(libc::EINVAL) => Ok(()),
        Some(libc::EBUSY) => Err(busy(mount_point)),
        _ => Err(refused(&error, mount_point, "unmounting")),
    }
}

/// For users other than root.
fn unmount_with_helper(mount_point: &Path, detach: bool) -> Result<()> {
    let mut helper = Command::new("fusermount3");
    helper.arg("-u");
    if detach {
        helper.arg("-z");
    }
    let output = helper.arg("--").arg(mount_point).output();
    let output = output.map_err(|error| refused(&error, mount_point, "running fusermount3"))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if message.contains("busy") {
        return Err(busy(mount_point));
    }
    Err(Error::new(ErrorKind::IoFailed, message).with("mount_point", mount_point.display()))
}

fn busy(mount_point: &Path) -> Error {
    let message = "files below the mount point are open, or a process works in it";
    Error::new(ErrorKind::MountBusy, message).with("mount_point", mount_point.display())
}
