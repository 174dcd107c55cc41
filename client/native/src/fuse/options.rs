//! Settings of a mount, each with a default that suits a workstation.

use std::time::Duration;

/// How a mount behaves.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What the table of mounts shows as the source: the cluster's address.
    pub source: String,
    /// Whether users other than the one who mounts may enter.
    pub allow_other: bool,
    /// Whether the mount refuses every change.
    pub read_only: bool,
    /// Threads that take requests from the kernel, at least 1.
    pub thread_count: usize,
    /// How long the kernel may answer `stat` by itself, in milliseconds: the bound after which a
    /// change that another client made is seen.
    pub attribute_timeout_ms: u64,
    /// The same for names.
    pub entry_timeout_ms: u64,
    /// Read-ahead and other background requests that the kernel keeps in flight.
    pub background_max_count: u16,
}

/// The most threads that take requests; more only contend for the kernel's queue.
const THREAD_MAX_COUNT: usize = 8;

impl Default for MountOptions {
    fn default() -> MountOptions {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        MountOptions {
            source: "firepond".to_owned(),
            allow_other: false,
            read_only: false,
            thread_count: cores.min(THREAD_MAX_COUNT),
            attribute_timeout_ms: 1_000,
            entry_timeout_ms: 1_000,
            background_max_count: 64,
        }
    }
}

impl MountOptions {
    pub(super) fn attribute_timeout(&self) -> Duration {
        Duration::from_millis(self.attribute_timeout_ms)
    }

    pub(super) fn entry_timeout(&self) -> Duration {
        Duration::from_millis(self.entry_timeout_ms)
    }
}
