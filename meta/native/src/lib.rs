//! The metadata service: POSIX operations as transactions over an ordered key-value store.
