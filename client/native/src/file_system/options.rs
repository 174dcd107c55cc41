//! Settings of a client, each with a default that suits a workstation.

use std::time::Duration;

/// How a `FileSystem` behaves.
#[derive(Clone, Debug)]
pub struct FileSystemOptions {
    /// No operation takes longer than this, in milliseconds.
    pub operation_timeout_ms: u64,
    /// One try of a metadata request, in milliseconds; then the same request goes out again.
    pub try_timeout_ms: u64,
    /// Bytes that were written and not yet acknowledged, over all files; at least 64 MiB.
    pub dirty_max_bytes: usize,
    /// The same for one file; a writer that is ahead of the cluster waits here.
    pub file_dirty_max_bytes: usize,
    /// Chunk updates on their way at the same time, over all files.
    pub write_window_count: usize,
    /// How long small writes are gathered before they go out by themselves, in milliseconds.
    pub write_back_delay_ms: u64,
    /// Bytes of buffers for reads and read-ahead; at least 64 MiB.
    pub read_buffer_max_bytes: usize,
    /// The widest read-ahead of one open file in bytes; 0 turns it off.
    pub read_ahead_max_bytes: usize,
    /// How long a file's size is believed by a read that reaches its end, in milliseconds. 0: such
    /// a read asks, so that what another client has synced is seen at once.
    pub attributes_valid_ms: u64,
}

impl Default for FileSystemOptions {
    fn default() -> FileSystemOptions {
        FileSystemOptions {
            operation_timeout_ms: 30_000,
            try_timeout_ms: 3_000,
            dirty_max_bytes: 128 << 20,
            file_dirty_max_bytes: 64 << 20,
            write_window_count: 16,
            write_back_delay_ms: 1_000,
            read_buffer_max_bytes: 128 << 20,
            read_ahead_max_bytes: 16 << 20,
            attributes_valid_ms: 0,
        }
    }
}

impl FileSystemOptions {
    pub(super) fn operation_timeout(&self) -> Duration {
        Duration::from_millis(self.operation_timeout_ms)
    }
}
