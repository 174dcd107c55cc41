//! A model of the manager for one chain: the state table of the design, decided at each heartbeat.

use super::CHAIN;
use super::node::LEASE;
use firepond_core::ids::{ChainTableId, ChainTableVersion};
use firepond_core::ids::{ChainVersion, Incarnation, NodeId, RoutingVersion, TargetId};
use firepond_core::routing::PublicState::{LastServing, Offline, Serving, Syncing, Waiting};
use firepond_core::routing::{
    ChainInfo, ChainTable, ChainTarget, Durability, LocalState, NamespaceInfo, NodeInfo,
    PublicState, Routing, RoutingHandle,
};
use firepond_core::sys::clock::{Instant, now};
use std::collections::{BTreeMap, BTreeSet};

struct Member {
    info: NodeInfo,
    heard_at: Instant,
    local: LocalState,
}

pub struct Manager {
    replica_count: u64,
    version: u64,
    chain_version: u32,
    targets: Vec<(u64, PublicState)>,
    members: BTreeMap<u64, Member>,
    /// Who follows: nodes by id, clients by 0.
    handles: Vec<(u32, RoutingHandle)>,
    cut: BTreeSet<u32>,
    incarnations: u64,
    pub namespaces: Vec<NamespaceInfo>,
    pub durability: Durability,
}

impl Manager {
    pub fn new(replica_count: u64) -> Manager {
        Manager {
            replica_count,
            version: 0,
            chain_version: 0,
            targets: Vec::new(),
            members: BTreeMap::new(),
            handles: Vec::new(),
            cut: BTreeSet::new(),
            incarnations: 0,
            namespaces: Vec::new(),
            durability: Durability::Durable,
        }
    }

    pub fn next_incarnation(&mut self) -> u64 {
        self.incarnations += 1;
        self.incarnations
    }

    pub fn create_chain(&mut self) {
        self.targets = (1..=self.replica_count).map(|id| (id, Serving)).collect();
        self.chain_version = 1;
        self.publish();
    }

    pub fn follow(&mut self, handle: RoutingHandle) {
        handle.publish(self.routing());
        self.handles.push((0, handle));
    }

    /// A node that hears nothing from the manager any more, nor the manager from it.
    pub fn cut(&mut self, id: u32) {
        self.cut.insert(id);
    }

    /// The version of the routing.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn is_cut(&self, id: u32) -> bool {
        self.cut.contains(&id)
    }

    /// A new life of a node: the old one's absence is recorded first.
    pub fn register(
        &mut self,
        id: u32,
        incarnation: Incarnation,
        address: String,
        handle: RoutingHandle,
    ) {
        self.node_gone(u64::from(id));
        let info = NodeInfo {
            id: NodeId(id),
            data_address: address,
            admin_address: String::new(),
            roles: vec!["storage".into()],
            incarnation,
            alive: true,
        };
        let member = Member { info, heard_at: now(), local: LocalState::Online };
        self.members.insert(u64::from(id), member);
        self.handles.retain(|(other, _)| *other != id);
        self.handles.push((id, handle));
        self.publish();
    }

    /// The process is known to be gone.
    pub fn node_gone(&mut self, id: u64) {
        if let Some(member) = self.members.get_mut(&id) {
            member.local = LocalState::Offline;
            member.info.alive = false;
        }
        self.decide();
    }

    /// Whether the node is known; its lease is renewed then.
    pub fn heartbeat(
        &mut self,
        id: u32,
        incarnation: Incarnation,
        local: LocalState,
        chain_version: ChainVersion,
    ) -> bool {
        let current = self.chain_version;
        let Some(member) = self.members.get_mut(&u64::from(id)) else { return false };
        if member.info.incarnation != incarnation || !member.info.alive {
            return false;
        }
        member.heard_at = now();
        if chain_version.0 == current {
            member.local = local;
        }
        self.evict_silent();
        self.decide();
        true
    }

    /// A lease that must have ended is not waited for any longer.
    pub fn evict_silent(&mut self) {
        let late = now() - LEASE - LEASE / 10;
        for member in self.members.values_mut().filter(|one| one.heard_at < late) {
            member.local = LocalState::Offline;
            member.info.alive = false;
        }
    }

    fn local(&self, id: u64) -> LocalState {
        self.members.get(&id).map_or(LocalState::Offline, |member| member.local)
    }

    fn decide(&mut self) {
        let before = self.targets.clone();
        let survivors = before
            .iter()
            .any(|(id, state)| *state == Serving && self.local(*id) != LocalState::Offline);
        let mut syncing = before
            .iter()
            .any(|(id, state)| *state == Syncing && self.local(*id) == LocalState::Online);
        let mut serving = survivors;
        for (id, state) in &before {
            if *state == LastServing && self.local(*id) != LocalState::Offline {
                serving = true;
            }
            let _ = id;
        }
        let next = |id: u64, state: PublicState, syncing: &mut bool| {
            let local = self.local(id);
            let away = local == LocalState::Offline;
            match state {
                Serving if !away => Serving,
                Serving if survivors => Offline,
                Serving => LastServing,
                LastServing if survivors => Offline,
                LastServing if !away => Serving,
                LastServing => LastServing,
                Syncing if local == LocalState::UpToDate => Serving,
                Syncing if away => Offline,
                Syncing if serving => Syncing,
                Syncing => Waiting,
                Waiting | Offline if away => Offline,
                Waiting | Offline if serving && !*syncing && local == LocalState::Online => {
                    *syncing = true;
                    Syncing
                }
                Waiting | Offline => Waiting,
            }
        };
        let mut after: Vec<_> =
            before.iter().map(|(id, state)| (*id, next(*id, *state, &mut syncing))).collect();
        after.sort_by_key(|(_, state)| match state {
            Serving => 0,
            LastServing => 1,
            Syncing => 2,
            Waiting => 3,
            Offline => 4,
        });
        if after != before {
            self.targets = after;
            self.chain_version += 1;
            self.publish();
        }
    }

    /// Turns the order of the serving targets round at once, as the real manager never does.
    pub fn reverse(&mut self) {
        let serving = self.targets.iter().take_while(|one| one.1 == Serving).count();
        self.targets[..serving].reverse();
        self.chain_version += 1;
        self.publish();
    }

    pub fn states(&self) -> Vec<(u64, PublicState)> {
        self.targets.clone()
    }

    fn routing(&self) -> Routing {
        let entry = |(id, state): &(u64, PublicState)| ChainTarget {
            target: TargetId(*id),
            node: NodeId(*id as u32),
            state: *state,
        };
        let mut routing = Routing::default();
        routing.version = RoutingVersion(self.version);
        routing.nodes = self.members.values().map(|member| member.info.clone()).collect();
        routing.namespaces = self.namespaces.clone();
        if self.chain_version > 0 {
            routing.chains.push(ChainInfo {
                id: CHAIN,
                version: ChainVersion(self.chain_version),
                durability: self.durability,
                targets: self.targets.iter().map(entry).collect(),
            });
            routing.tables.push(ChainTable {
                id: ChainTableId(1),
                version: ChainTableVersion(1),
                chains: vec![CHAIN],
            });
        }
        routing.reindex();
        routing
    }

    pub fn publish(&mut self) {
        self.version += 1;
        let routing = self.routing();
        let hears = |id: &u32| !self.cut.contains(id);
        for (_, handle) in self.handles.iter().filter(|(id, _)| hears(id)) {
            handle.publish(routing.clone());
        }
    }
}
