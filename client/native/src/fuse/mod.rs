//! The FUSE mount: the file system as a directory of this machine.
//!
//! How a request travels: `adapter` (the FUSE library's threads) decodes it, `operations` says what
//! it means, `file_system` does it; the reply leaves from whichever thread has it.
//! What programs may rely on is in docs/semantics.md. Why an adapter: the FUSE library changes its
//! trait with each release and will be joined by io_uring; only `adapter`, `reply`, `connection`
//! and `session` know it.
//! Invariants: `fsync` and `close` return after the chains have acknowledged and the length is
//! settled; nothing that the kernel caches outlives `attribute_timeout_ms` unnoticed.

mod adapter;
mod attributes;
mod connection;
mod credentials;
mod cursor;
mod errno;
mod flags;
mod handles;
mod inodes;
mod operations;
mod options;
mod reply;
mod session;

pub use options::MountOptions;
pub use session::{Mount, MountStatus, unmount};
