//! The KV tier: whole values by key, without a metadata server.
