//! The KV tier: whole values by key, without a metadata server.
//!
//! Why this way: the digest of (namespace, key) gives the chain by arithmetic, so one round trip
//! gives the value. A value is one chunk: the chain replicates, checksums and removes it like any
//! other, and `Create` makes publishing atomic: the first writer wins, readers see all or nothing.
//! Invariants: a value is returned only if its stored tag is the whole digest of the asked key;
//! every key of a batch has its own outcome; a call ends at its deadline at the latest.
//! Eviction is the storage servers' matter: a value that was evicted is simply not there.

mod bounded;
mod delete;
mod get;
mod identity;
mod put;
mod query;
mod stats;

pub use get::KvRead;
pub use identity::{KEY_MAX_BYTES, KeyDigest, VALUE_MAX_BYTES, digest};
pub use put::PutOutcome;
pub use stats::KvStats;

use firepond_core::ids::{ChainId, ChunkId, ClientId, NamespaceId};
use firepond_core::peer::{ChainClient, Peers};
use firepond_core::routing::{NamespaceInfo, Routing, RoutingHandle};
use firepond_core::sys::clock::Instant;
use firepond_core::sys::random;
use firepond_core::{Error, ErrorKind, Result};
use stats::Counters;

/// One namespace of a cluster.
pub struct KvCache {
    chains: ChainClient,
    namespace: NamespaceId,
    name: String,
    counters: Counters,
}

/// Where a value is.
#[derive(Clone, Copy, Debug)]
struct Place {
    chain: ChainId,
    chunk: ChunkId,
}

impl KvCache {
    /// Opens a namespace by name; waits until routing knows it.
    ///
    /// # Errors
    /// `NamespaceUnknown` when it has not appeared by the deadline.
    pub async fn open(peers: Peers, name: &str, deadline: Instant) -> Result<KvCache> {
        let namespace = wait_namespace(peers.routing(), name, deadline).await?.id;
        let chains = ChainClient::new(peers, ClientId(random::u64()));
        Ok(KvCache { chains, namespace, name: name.to_owned(), counters: Counters::default() })
    }

    /// The digest of a key in this namespace.
    ///
    /// # Errors
    /// `InvalidArgument` when the key is empty or too long.
    pub fn digest(&self, key: &[u8]) -> Result<KeyDigest> {
        digest(self.namespace, key)
    }

    /// What this client did so far.
    pub fn stats(&self) -> KvStats {
        self.counters.snapshot()
    }

    /// The places of some keys under the newest routing.
    fn places(&self, keys: &[KeyDigest]) -> Result<Vec<Place>> {
        let routing = self.chains.peers().routing().current();
        let namespace = self.find(&routing)?;
        let table = routing.table(namespace.table, namespace.table_version)?;
        if table.chains.is_empty() {
            return Err(Error::new(ErrorKind::ClusterNotReady, "the chain table is empty"));
        }
        let place = |key: &KeyDigest| Place {
            chain: table.chains[key.slot(table.chains.len())],
            chunk: key.chunk(self.namespace),
        };
        Ok(keys.iter().map(place).collect())
    }

    fn find<'a>(&self, routing: &'a Routing) -> Result<&'a NamespaceInfo> {
        routing.namespaces.iter().find(|one| one.id == self.namespace).ok_or_else(|| {
            Error::new(ErrorKind::NamespaceUnknown, "the namespace was deleted")
                .with("namespace", &self.name)
        })
    }
}

async fn wait_namespace(
    routing: &RoutingHandle,
    name: &str,
    deadline: Instant,
) -> Result<NamespaceInfo> {
    loop {
        let current = routing.current();
        match current.namespace(name) {
            Ok(found) => return Ok(found.clone()),
            Err(unknown) => {
                let newer = routing.wait_newer(current.version, deadline).await;
                newer.map_err(|_| unknown.with("routing", current.version))?;
            }
        }
    }
}

/// The same outcome for every key of a batch that could not even be placed.
fn all_failed<T>(count: usize, error: &Error) -> Vec<Result<T>> {
    (0..count).map(|_| Err(error.clone())).collect()
}
