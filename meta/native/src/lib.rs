//! The metadata service: POSIX operations as transactions over an ordered key-value store.
//!
//! Reading order: `keys`, `records`, `view`, `transact`, one operation in `ops` (begin with
//! `unlink`), then `truncate`, `settle`, `collect`. Docs: docs/metadata.md.
//! Invariants: no metadata lives outside the store, except who has which file open for reading;
//! nothing here touches a chunk except through `Chunks`.

mod background;
mod chunks;
mod collect;
mod concurrent;
mod counters;
mod engine;
mod inode_ids;
mod keys;
mod layouts;
mod locks;
mod names;
mod ops;
mod permissions;
pub mod records;
mod root;
mod service;
mod sessions;
mod settle;
mod transact;
mod truncate;
mod view;

pub use background::run as run_background;
pub use chunks::{ChunkRange, Chunks};
pub use counters::OperationStatus;
pub use engine::{EngineOptions, MetaEngine, StoreKind};
pub use layouts::LayoutDefaults;
pub use service::{MetaService, ServiceOptions, ServiceStatus};
