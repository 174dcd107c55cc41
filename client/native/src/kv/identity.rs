//! Who a value is: the digest of namespace and key, and what follows from it.
//!
//! Invariants: these rules never change, or stored values would be lost. The digest is BLAKE3 over
//! the namespace's id (4 bytes, big-endian), the length of the key (4, big-endian) and the key.
//! Bytes 0 to 11 name the chunk; bytes 24 to 31, as a little-endian number modulo the length of the
//! chain table, choose the chain; all 32 travel as the chunk's tag.

use firepond_core::ids::{ChunkId, NamespaceId};
use firepond_core::wire::CHUNK_MAX_BYTES;
use firepond_core::{Error, Result};

/// The longest key in bytes.
pub const KEY_MAX_BYTES: usize = 1024;
/// The longest value in bytes.
pub const VALUE_MAX_BYTES: usize = CHUNK_MAX_BYTES;

/// The digest of a key within its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub [u8; 32]);

/// The digest of a key.
///
/// # Errors
/// `InvalidArgument` when the key is empty or longer than `KEY_MAX_BYTES`.
pub fn digest(namespace: NamespaceId, key: &[u8]) -> Result<KeyDigest> {
    if key.is_empty() || key.len() > KEY_MAX_BYTES {
        return Err(Error::invalid("a key has 1 to 1024 bytes").with("len", key.len()));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&namespace.0.to_be_bytes());
    hasher.update(&(key.len() as u32).to_be_bytes());
    hasher.update(key);
    Ok(KeyDigest(*hasher.finalize().as_bytes()))
}

impl KeyDigest {
    /// The chunk that holds the value.
    pub(super) fn chunk(&self, namespace: NamespaceId) -> ChunkId {
        ChunkId::kv(namespace, &self.0)
    }

    /// The slot of a chain table of `chain_count` chains, at least 1.
    pub(super) fn slot(&self, chain_count: usize) -> usize {
        assert!(chain_count > 0, "a chain table has at least one chain");
        let mut number = [0; 8];
        number.copy_from_slice(&self.0[24..]);
        (u64::from_le_bytes(number) % chain_count as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: identities never change. Oracle: golden values, never edited.
    #[test]
    fn golden_digest() {
        let found = digest(NamespaceId(7), b"layer0/block42").expect("a good key");
        let text: String = found.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "b035c952850c524815a83d27b77195b86008ed3fce60be22db71f86bbb9888b1");
        assert_eq!(found.slot(6), 1);
        assert_eq!(found.chunk(NamespaceId(7)).namespace(), Some(NamespaceId(7)));
    }

    /// Goal: neither namespaces nor keys are confused. Oracle: digests differ; bad keys are
    /// refused.
    #[test]
    fn namespaces_and_keys_are_apart() {
        let of = |namespace, key: &[u8]| digest(NamespaceId(namespace), key).expect("a good key");
        assert_ne!(of(1, b"a"), of(2, b"a"));
        assert_ne!(of(1, b"a"), of(1, b"a\0"));
        assert!(digest(NamespaceId(1), b"").is_err());
        assert!(digest(NamespaceId(1), &[0; KEY_MAX_BYTES + 1]).is_err());
    }
}
