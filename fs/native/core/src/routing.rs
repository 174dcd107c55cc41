//! The cluster as the manager last published it, and a handle that everyone shares.
//!
//! Why: clients and servers decide by arithmetic over one immutable snapshot; a newer one replaces
//! it at once and wakes whoever waits for it. The manager (Python) encodes it as a MessagePack map;
//! the Python side that follows the manager hands it to `RoutingHandle::publish`.
//! Invariants: a handle's version never goes back; a snapshot never changes.

use crate::ids::{
    ChainId, ChainTableId, ChainTableVersion, ChainVersion, Incarnation, NamespaceId, NodeId,
    RoutingVersion, TargetId,
};
use crate::sys::clock::{Instant, timeout_at};
use crate::transport::{PeerAddress, malformed};
use crate::watch;
use crate::{Error, ErrorKind, Result};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its id.
    pub id: NodeId,
    /// Data port, "host:port"; empty for a node that serves no data.
    pub data_address: String,
    /// Admin port, "host:port".
    pub admin_address: String,
    /// "manager", "meta", "storage".
    pub roles: Vec<String>,
    /// Which life of the process.
    pub incarnation: Incarnation,
    /// Whether the manager believes that it lives.
    pub alive: bool,
}

/// What a target may do, as the manager decided. The transition table is in `fs/manager`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicState {
    /// Complete; serves reads and updates.
    Serving,
    /// Was complete when the last replica went away; comes back first.
    LastServing,
    /// Receives updates and the chunks it lacks; serves nothing.
    Syncing,
    /// Alive, and waits until another target has finished syncing.
    Waiting,
    /// Away.
    Offline,
}

/// What a node says of its own target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocalState {
    /// Open, and holds all committed data.
    UpToDate,
    /// Open, not known to be complete.
    Online,
    /// Its node or disk is gone.
    Offline,
}

/// A target's place in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainTarget {
    /// The target.
    pub target: TargetId,
    /// The node that has it.
    pub node: NodeId,
    /// What it may do.
    pub state: PublicState,
}

/// How much a chain's acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// On stable storage of every serving replica.
    Durable,
    /// In the memory of every serving replica: loss is a miss.
    Cache,
}

/// A chain: targets in order, serving ones first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainInfo {
    /// Its id.
    pub id: ChainId,
    /// Grows with each change.
    pub version: ChainVersion,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Head first.
    pub targets: Vec<ChainTarget>,
}

/// A list of chains that layouts index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainTable {
    /// Its id: 1 is for files, 2 for KV values of the class `cache`.
    pub id: ChainTableId,
    /// Its edition.
    pub version: ChainTableVersion,
    /// The chains by slot.
    pub chains: Vec<ChainId>,
}

/// A KV namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceInfo {
    /// Its id, below 2^24.
    pub id: NamespaceId,
    /// Its name.
    pub name: String,
    /// The table whose chains hold its values.
    pub table: ChainTableId,
    /// The edition of the table.
    pub table_version: ChainTableVersion,
    /// What an acknowledgement promises.
    pub class: Durability,
    /// Bytes of values it may hold, before replication.
    pub capacity_bytes: u64,
}

/// All that clients and servers know of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// The version of this snapshot.
    pub version: RoutingVersion,
    /// How long a heartbeat lets a node serve, in milliseconds.
    pub lease_ms: u64,
    /// All nodes.
    pub nodes: Vec<NodeInfo>,
    /// All chains.
    pub chains: Vec<ChainInfo>,
    /// All editions of all tables.
    pub tables: Vec<ChainTable>,
    /// All KV namespaces.
    pub namespaces: Vec<NamespaceInfo>,
    #[serde(skip)]
    chain_index: HashMap<ChainId, usize>,
    #[serde(skip)]
    node_index: HashMap<NodeId, usize>,
}

impl ChainInfo {
    /// Targets that serve, head first.
    pub fn serving(&self) -> impl DoubleEndedIterator<Item = &ChainTarget> {
        self.targets.iter().filter(|target| target.state == PublicState::Serving)
    }

    /// The target that takes updates from clients.
    pub fn head(&self) -> Option<&ChainTarget> {
        self.targets.first().filter(|target| target.state == PublicState::Serving)
    }

    /// The last serving target: the one that knows what is committed.
    pub fn tail(&self) -> Option<&ChainTarget> {
        self.serving().next_back()
    }

    /// Who receives updates after `target`: the next one that serves or syncs.
    pub fn successor(&self, target: TargetId) -> Option<&ChainTarget> {
        let position = self.targets.iter().position(|entry| entry.target == target)?;
        let next = self.targets.get(position + 1)?;
        matches!(next.state, PublicState::Serving | PublicState::Syncing).then_some(next)
    }

    /// A member by its id.
    pub fn member(&self, target: TargetId) -> Option<&ChainTarget> {
        self.targets.iter().find(|entry| entry.target == target)
    }
}

impl Routing {
    /// Decodes what the manager published.
    ///
    /// # Errors
    /// `FrameInvalid` when the bytes are not routing information.
    pub fn decode(bytes: &[u8]) -> Result<Routing> {
        let mut routing: Routing =
            rmp_serde::from_slice(bytes).map_err(|error| malformed("routing", error))?;
        routing.reindex();
        Ok(routing)
    }

    /// The bytes that `decode` reads.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).unwrap_or_else(|_| unreachable!("plain data encodes"))
    }

    /// Rebuilds the look-up tables after the lists were changed by hand.
    pub fn reindex(&mut self) {
        self.chain_index = self.chains.iter().enumerate().map(|(at, one)| (one.id, at)).collect();
        self.node_index = self.nodes.iter().enumerate().map(|(at, one)| (one.id, at)).collect();
    }

    /// A chain by id.
    ///
    /// # Errors
    /// `NoSuchTarget` when this version does not know it.
    pub fn chain(&self, id: ChainId) -> Result<&ChainInfo> {
        let at = self.chain_index.get(&id).copied();
        at.map(|at| &self.chains[at]).ok_or_else(|| {
            Error::new(ErrorKind::NoSuchTarget, "no such chain")
                .with("chain", id)
                .with("routing", self.version)
        })
    }

    /// A node by id.
    ///
    /// # Errors
    /// `NodeUnknown` when this version does not know it.
    pub fn node(&self, id: NodeId) -> Result<&NodeInfo> {
        let at = self.node_index.get(&id).copied();
        at.map(|at| &self.nodes[at]).ok_or_else(|| {
            Error::new(ErrorKind::NodeUnknown, "no such node")
                .with("node", id)
                .with("routing", self.version)
        })
    }

    /// Where a node's data port is.
    ///
    /// # Errors
    /// As `node`.
    pub fn data_address(&self, id: NodeId) -> Result<PeerAddress> {
        Ok(PeerAddress(self.node(id)?.data_address.clone()))
    }

    /// An edition of a chain table.
    ///
    /// # Errors
    /// `ClusterNotReady` when this version does not know it.
    pub fn table(&self, id: ChainTableId, version: ChainTableVersion) -> Result<&ChainTable> {
        self.tables.iter().find(|table| table.id == id && table.version == version).ok_or_else(
            || {
                Error::new(ErrorKind::ClusterNotReady, "no such chain table")
                    .with("table", id)
                    .with("table_version", version)
            },
        )
    }

    /// The newest edition of a chain table.
    ///
    /// # Errors
    /// `ClusterNotReady` when there is none.
    pub fn table_newest(&self, id: ChainTableId) -> Result<&ChainTable> {
        let editions = self.tables.iter().filter(|table| table.id == id);
        editions.max_by_key(|table| table.version).ok_or_else(|| {
            Error::new(ErrorKind::ClusterNotReady, "the chain table does not exist yet")
                .with("table", id)
        })
    }

    /// Living metadata servers.
    pub fn meta_nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.iter().filter(|node| node.alive && node.roles.iter().any(|role| role == "meta"))
    }

    /// A namespace by name.
    ///
    /// # Errors
    /// `NamespaceUnknown`.
    pub fn namespace(&self, name: &str) -> Result<&NamespaceInfo> {
        self.namespaces.iter().find(|one| one.name == name).ok_or_else(|| {
            Error::new(ErrorKind::NamespaceUnknown, "no such namespace").with("namespace", name)
        })
    }
}

/// A peer that could not be reached; the manager probes it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// Who.
    pub node: NodeId,
    /// Which life of it was tried.
    pub incarnation: Incarnation,
}

/// The newest routing of this process. Cloning is cheap.
#[derive(Clone)]
pub struct RoutingHandle(Arc<HandleInner>);

struct HandleInner {
    current: ArcSwap<Routing>,
    version: watch::Sender<RoutingVersion>,
    suspicions: mpsc::Sender<Suspicion>,
}

impl RoutingHandle {
    /// An empty routing, version 0, and where suspicions come out (for the one that talks to the
    /// manager). The queue is bounded: what does not fit is dropped, as it will be reported again.
    pub fn new() -> (RoutingHandle, mpsc::Receiver<Suspicion>) {
        let (suspicions, receiver) = mpsc::channel(64);
        let handle = RoutingHandle(Arc::new(HandleInner {
            current: ArcSwap::from_pointee(Routing::default()),
            version: watch::Sender::new(RoutingVersion(0)),
            suspicions,
        }));
        (handle, receiver)
    }

    /// The newest snapshot.
    pub fn current(&self) -> Arc<Routing> {
        self.0.current.load_full()
    }

    /// Replaces the snapshot if `routing` is newer; says whether it was.
    pub fn publish(&self, routing: Routing) -> bool {
        self.0.version.send_if_modified(|version| {
            let newer = routing.version > *version;
            if newer {
                *version = routing.version;
                self.0.current.store(Arc::new(routing));
            }
            newer
        })
    }

    /// Waits for a snapshot newer than `version`.
    ///
    /// # Errors
    /// `DeadlineExceeded`.
    pub async fn wait_newer(
        &self,
        version: RoutingVersion,
        deadline: Instant,
    ) -> Result<Arc<Routing>> {
        let mut receiver = self.0.version.subscribe();
        let newer = timeout_at(deadline, receiver.wait_for(|seen| *seen > version)).await;
        match newer {
            Some(Ok(_)) => Ok(self.current()),
            _ => Err(Error::new(ErrorKind::DeadlineExceeded, "no newer routing arrived")
                .with("routing", version)),
        }
    }

    /// Sees every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<RoutingVersion> {
        self.0.version.subscribe()
    }

    /// Reports a peer that could not be reached.
    pub fn suspect(&self, node: NodeId) {
        if let Ok(info) = self.current().node(node) {
            let suspicion = Suspicion { node, incarnation: info.incarnation };
            if self.0.suspicions.try_send(suspicion).is_err() {
                tracing::debug!(%node, "suspicion dropped: the queue is full");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: u64, state: PublicState) -> ChainTarget {
        ChainTarget { target: TargetId(id), node: NodeId(id as u32), state }
    }

    /// Goal: head, tail and successor follow the states. Oracle: CRAQ's roles by hand.
    #[test]
    fn chain_roles() {
        use PublicState::{Offline, Serving, Syncing};
        let chain = ChainInfo {
            id: ChainId(1),
            version: ChainVersion(3),
            durability: Durability::Durable,
            targets: vec![
                target(1, Serving),
                target(2, Serving),
                target(3, Syncing),
                target(4, Offline),
            ],
        };
        assert_eq!(chain.head().map(|one| one.target), Some(TargetId(1)));
        assert_eq!(chain.tail().map(|one| one.target), Some(TargetId(2)));
        assert_eq!(chain.successor(TargetId(2)).map(|one| one.target), Some(TargetId(3)));
        assert_eq!(chain.successor(TargetId(3)), None);
    }

    /// Goal: a snapshot survives encoding, and versions never go back. Oracle: equality.
    #[tokio::test]
    async fn publish_only_newer() {
        let (handle, _suspicions) = RoutingHandle::new();
        let mut routing = Routing { version: RoutingVersion(5), ..Routing::default() };
        routing.reindex();
        assert_eq!(Routing::decode(&routing.encode()).expect("decodes"), routing);
        assert!(handle.publish(routing.clone()));
        assert!(!handle.publish(routing));
        let newer = handle.wait_newer(RoutingVersion(4), crate::sys::clock::now()).await;
        assert_eq!(newer.expect("is newer").version, RoutingVersion(5));
    }
}
