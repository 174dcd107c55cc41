//! The native client: files, the KV tier and the FUSE mount over one connection to a cluster.

pub mod file_system;
pub mod fuse;
pub mod kv;
pub mod verify;
