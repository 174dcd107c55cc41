//! Files: namespace operations, open files, buffered writes, read-ahead.
//!
//! Why one type for SDK and mount: both see the same sizes and the same unsent bytes, and every
//! rule of coherence is written once. Reading order: `open_file`, `inode_state`, `write`,
//! `write_back`, `read`, `operations`. Invariants: no operation outlives its timeout; memory is
//! bounded by the two pools; what `flush` returned for is durable on every serving replica.

mod by_path;
mod chunk_map;
mod closing;
mod destination;
mod dirty;
mod inode_state;
mod inodes;
mod meta_calls;
mod open_file;
mod operations;
mod options;
mod punch;
mod read;
mod read_ahead;
mod resolve;
mod sessions;
mod write;
mod write_back;

pub use open_file::OpenFile;
pub use options::FileSystemOptions;

use firepond_core::buffer::BufferPool;
use firepond_core::ids::ClientId;
use firepond_core::peer::{ChainClient, Peers};
use firepond_core::sys::{random, task};
use inodes::Inodes;
use meta_calls::MetaCaller;
use parking_lot::Mutex;
use sessions::Sessions;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A connection to the file system of a cluster. Cloning is cheap.
#[derive(Clone)]
pub struct FileSystem(Arc<Inner>);

struct Inner {
    options: FileSystemOptions,
    chains: ChainClient,
    sessions: Arc<Sessions>,
    inodes: Inodes,
    dirty_pool: BufferPool,
    read_pool: BufferPool,
    /// One permit is one chunk update on its way.
    window: Semaphore,
    /// Closes that nobody waits for.
    closing: Mutex<JoinSet<()>>,
}

/// How a file is created.
#[derive(Clone, Copy, Debug, Default)]
pub struct CreateOptions {
    /// Permission bits, with the umask already applied.
    pub mode: u32,
    /// `AlreadyExists` when the name exists (O_EXCL).
    pub exclusive: bool,
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Bytes of a chunk; 0: the cluster's default.
    pub chunk_size_bytes: u32,
    /// Chains that the file is spread over; 0: the cluster's default.
    pub stripe_count: u32,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Cut to no bytes (O_TRUNC).
    pub truncate: bool,
}

/// Space of the file system, already divided by the number of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemStat {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes free.
    pub free_bytes: u64,
    /// Inodes in use.
    pub inode_count: u64,
}

impl FileSystem {
    /// A client with an id of its own. Must be called inside a tokio runtime, which carries its
    /// tasks.
    pub fn new(peers: Peers, options: FileSystemOptions) -> FileSystem {
        let client = ClientId(random::u64());
        let caller = MetaCaller::new(peers.clone(), client, options.try_timeout_ms);
        let delay = Duration::from_millis(options.write_back_delay_ms.max(2));
        let inner = Arc::new(Inner {
            chains: ChainClient::new(peers, client),
            sessions: Sessions::new(caller),
            inodes: Inodes::default(),
            dirty_pool: BufferPool::new(options.dirty_max_bytes),
            read_pool: BufferPool::new(options.read_buffer_max_bytes),
            window: Semaphore::new(options.write_window_count),
            closing: Mutex::new(JoinSet::new()),
            options,
        });
        task::spawn(write_back::write_back_old(Arc::downgrade(&inner), delay));
        FileSystem(inner)
    }

    /// Bytes that were written and are not yet acknowledged, for metrics and tests.
    pub fn dirty_bytes(&self) -> usize {
        self.0.dirty_pool.used_bytes()
    }
}
