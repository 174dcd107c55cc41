//! The storage service: all targets of one process behind one handler.
//!
//! Parts: `handler` (which message goes where), `batch_read` (the hot path), `queries`, `join`;
//! `engine` (disks, targets, listener, background work), `housekeeping` (reaction to routing,
//! roll-forward, resync), `evict` (capacity of KV namespaces), `status`.
//! Invariants: every queue and every batch is bounded; one I/O of a batch fails alone.

mod batch_read;
mod engine;
mod evict;
mod handler;
mod housekeeping;
mod join;
mod queries;
mod status;
mod targets;

pub use engine::{EngineOptions, OpenDisk, StorageEngine};
pub use handler::StorageService;
pub use housekeeping::Housekeeping;
pub use status::{DiskStatus, EngineStatus, ResyncStatus, ScrubStatus, TargetStatus};
pub use targets::Targets;
