//! Operations on values of the KV tier.

use super::{Client, not_done};
use crate::history::{Begun, Deed};
use crate::plan::marker;
use bytes::Bytes;
use firepond_client::kv::{KvRead, PutOutcome};
use firepond_core::sys::clock::Instant;
use firepond_core::transport::SinkSlice;
use std::sync::Arc;

/// Longer than any value of a plan.
const VALUE_MAX_BYTES: usize = 16 << 10;

fn name(key: u32) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

impl Client<'_> {
    pub(super) async fn kv_put(&self, entry: u32, key: u32, len: u32, deadline: Instant) -> Deed {
        let Some(kv) = &self.handles.kv else { return not_done("no values") };
        let Ok(digest) = kv.digest(&name(key)) else { return not_done("no such key") };
        let value = Bytes::from(marker(entry, len));
        let outcome = kv.put(vec![(digest, value)], deadline).await.pop();
        let stored = match outcome {
            Some(Ok(PutOutcome::Stored)) => Some(true),
            Some(Ok(PutOutcome::Exists)) => Some(false),
            _ => None,
        };
        Deed::KvPut { key, len, stored }
    }

    pub(super) async fn kv_get(&self, keys: &[u32], begun: Begun, deadline: Instant) -> Deed {
        let Some(kv) = &self.handles.kv else { return not_done("no values") };
        let mut reads = Vec::new();
        let memory: Vec<Arc<Vec<u8>>> =
            keys.iter().map(|_| Arc::new(vec![b'?'; VALUE_MAX_BYTES])).collect();
        for (key, memory) in keys.iter().zip(&memory) {
            let Ok(key) = kv.digest(&name(*key)) else { return not_done("no such key") };
            let owner: Arc<Vec<u8>> = Arc::clone(memory);
            let start = owner.as_ptr().cast_mut();
            // SAFETY: the vector lives as long as the slice, which holds it, and nobody looks at it
            // before the read has ended.
            let sink = unsafe { SinkSlice::new(start, VALUE_MAX_BYTES, owner) };
            reads.push(KvRead { key, sink });
        }
        let found = kv.get(reads, deadline).await;
        for ((key, memory), len) in keys.iter().zip(&memory).zip(found) {
            let bytes = len.map(|len| Bytes::copy_from_slice(&memory[..len as usize]));
            self.history.part(begun, Deed::KvGet { key: *key, bytes });
        }
        Deed::Names("end of the gets".to_owned())
    }

    pub(super) async fn kv_delete(&self, key: u32, deadline: Instant) -> Deed {
        let Some(kv) = &self.handles.kv else { return not_done("no values") };
        let Ok(digest) = kv.digest(&name(key)) else { return not_done("no such key") };
        let outcome = kv.delete(&[digest], deadline).await.pop();
        Deed::KvDelete { key, done: matches!(outcome, Some(Ok(()))) }
    }
}
