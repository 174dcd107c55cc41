//! The processes of a world and their lives: who runs, who is dead, and what may be destroyed.
//!
//! Invariants: a process has at most one life at a time; a disk is crashed exactly when its machine
//! dies; a copy of a durable chain is destroyed only while another complete one exists on a disk
//! that nobody harmed and that works (see `plan`).

use super::manager_link::ManagerLink;
use super::managers::ManagerPort;
use super::meta::{self, MetaState};
use super::observer::Observer;
use super::site::Site;
use super::storage::{HardDisk, StorageLife};
use crate::history::History;
use crate::plan::{Dice, Fault, Plan, Process};
use crate::workload::FILE_TABLE;
use firepond_core::ids::NodeId;
use firepond_core::routing::{ChainInfo, ChainTarget, Durability, PublicState, Routing};
use firepond_core::sys::machine::Machine;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Most index batches of the last moment that a crash may keep.
const KEPT_BATCHES_COUNT: u32 = 4;

/// All processes of one world.
pub(super) struct Cluster {
    pub(super) plan: Arc<Plan>,
    pub(super) site: Arc<Site>,
    pub(super) port: ManagerPort,
    pub(super) observer: Arc<Observer>,
    pub(super) history: History,
    pub(super) lives: Mutex<Lives>,
    pub(super) faults_done: Mutex<Vec<Fault>>,
}

/// Who lives now.
pub(super) struct Lives {
    pub(super) disks: Vec<HardDisk>,
    pub(super) storages: Vec<Option<StorageLife>>,
    pub(super) meta: Option<Machine>,
    meta_state: MetaState,
    pub(super) manager: bool,
    /// The last life on any machine when its disk was replaced.
    wiped: BTreeMap<u32, u64>,
    /// The one machine whose disk may rot.
    harmed: Option<u32>,
    pub(super) dice: Dice,
}

impl Cluster {
    pub(super) fn new(
        plan: Arc<Plan>,
        site: Arc<Site>,
        port: ManagerPort,
        history: History,
    ) -> Cluster {
        let mut dice = Dice::new(plan.seed ^ 0x636c_7573_7465_7221);
        let disks =
            (0..plan.topology.storage_count).map(|_| HardDisk::new(dice.number())).collect();
        let storages = (0..plan.topology.storage_count).map(|_| None).collect();
        let lives = Lives {
            disks,
            storages,
            meta: None,
            meta_state: MetaState::default(),
            manager: false,
            wiped: BTreeMap::new(),
            harmed: None,
            dice,
        };
        let observer = Observer::start(&site, &port);
        let (lives, faults_done) = (Mutex::new(lives), Mutex::default());
        Cluster { plan, site, port, observer, history, lives, faults_done }
    }

    pub(super) fn link(&self, process: Process) -> ManagerLink {
        let count = self.plan.topology.manager_count;
        ManagerLink::new(&self.site, &self.port, process, count)
    }

    /// Starts a storage process that does not run.
    pub(super) fn start_storage(&self, index: u32) {
        let link = self.link(Process::Storage(index));
        let mut lives = self.lives.lock();
        if lives.storages[index as usize].is_some() {
            return;
        }
        self.site.trace.line(format_args!("storage-{index} starts"));
        let disk = &lives.disks[index as usize];
        let life = StorageLife::start(&self.site, link, index, disk);
        lives.storages[index as usize] = Some(life);
    }

    /// Ends a storage process, with what its disk loses; false when it did not run.
    pub(super) fn kill_storage(&self, index: u32, wipe: bool) -> bool {
        let may_wipe = wipe && self.may_destroy(index);
        let mut lives = self.lives.lock();
        let Some(life) = lives.storages[index as usize].take() else { return false };
        life.kill();
        let keep = lives.dice.below(KEPT_BATCHES_COUNT) as usize;
        let seed = lives.dice.number();
        let disk = &mut lives.disks[index as usize];
        disk.disk.crash();
        disk.index.crash(keep);
        if may_wipe {
            *disk = disk.replaced(seed);
            let life = self.site.last_incarnation();
            lives.wiped.insert(index, life);
        }
        drop(lives);
        let how = if may_wipe { ", its disk is replaced" } else { "" };
        self.site.trace.line(format_args!("storage-{index} dies{how}"));
        self.note_death(Process::Storage(index));
        true
    }

    /// Starts the metadata process if it does not run.
    pub(super) fn start_meta(&self) {
        let mut lives = self.lives.lock();
        if lives.meta.is_none() {
            self.site.trace.line("meta starts");
            let link = self.link(Process::Meta);
            lives.meta = Some(meta::start(&self.site, link, &lives.meta_state));
        }
    }

    /// Ends the metadata process; false when it did not run.
    pub(super) fn kill_meta(&self) -> bool {
        let Some(machine) = self.lives.lock().meta.take() else { return false };
        self.site.trace.line("meta dies");
        machine.kill();
        self.note_death(Process::Meta);
        true
    }

    /// Starts a manager process: a new term.
    pub(super) fn start_manager(&self, index: u32) {
        self.lives.lock().manager = true;
        self.site.trace.line(format_args!("manager-{index} starts"));
        self.port.boot(index);
    }

    /// Ends the manager process that leads; which one that was, if one did.
    pub(super) fn kill_manager(&self) -> Option<u32> {
        if !std::mem::take(&mut self.lives.lock().manager) {
            return None;
        }
        let index = self.port.newest();
        self.site.trace.line(format_args!("manager-{index} dies"));
        self.port.kill(index);
        Some(index)
    }

    /// What a death means for others: idle connections break, and a chain may have lost everyone.
    fn note_death(&self, process: Process) {
        let manager = Process::Manager(self.port.newest());
        if let Some(node) = self.site.node_of(process)
            && !self.site.weather.is_cut(process, manager)
        {
            let port = self.port.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                port.broken(node);
            });
        }
        let routing = self.observer.current();
        for slot in 0..self.plan.topology.chain_count {
            let Some(chain) = file_chain(&routing, slot) else { continue };
            let mut complete = chain.targets.iter().filter(|one| is_complete(one)).peekable();
            let any = complete.peek().is_some();
            if any && complete.all(|one| self.site.is_node_dead(one.node.0)) {
                self.site.trace.line(format_args!("all of slot {slot} are dead"));
                self.history.blackout(slot);
            }
        }
    }

    /// Whether every durable chain of a node has another complete copy on a sound disk.
    fn may_destroy(&self, index: u32) -> bool {
        let Some(node) = self.site.node_of(Process::Storage(index)) else { return true };
        let unsound = [self.harmed(), self.empty(), self.failing()].concat();
        let routing = self.observer.current();
        let mut durable =
            routing.chains.iter().filter(|chain| chain.durability == Durability::Durable);
        durable.all(|chain| leaves_a_copy(chain, node, &unsound))
    }

    /// The node whose disk rotted.
    fn harmed(&self) -> Vec<u32> {
        let harmed = self.lives.lock().harmed;
        harmed.and_then(|one| self.site.node_of(Process::Storage(one))).into_iter().collect()
    }

    /// The nodes with a new disk of which the manager may not know yet that it is one.
    fn empty(&self) -> Vec<u32> {
        let routing = self.observer.current();
        let is_unknown = |(index, life): (&u32, &u64)| {
            let node = self.site.node_of(Process::Storage(*index))?;
            let known = routing.node(NodeId(node)).map_or(0, |info| info.incarnation.0);
            (known <= *life).then_some(node)
        };
        self.lives.lock().wiped.iter().filter_map(is_unknown).collect()
    }

    /// The nodes whose disks take nothing now.
    fn failing(&self) -> Vec<u32> {
        let lives = self.lives.lock();
        let failing = (0..).zip(&lives.disks).filter(|(_, one)| one.disk.is_failing());
        failing.filter_map(|(index, _)| self.site.node_of(Process::Storage(index))).collect()
    }

    /// Whether a disk may fail for a while: not while the manager may still count on a disk that is
    /// empty, as it would leave the chain to that, and cannot know that nobody served from there.
    pub(super) fn may_fail(&self, index: u32) -> bool {
        let node = self.site.node_of(Process::Storage(index));
        self.empty().iter().all(|one| Some(*one) == node)
    }

    /// Whether this disk may rot now; from then on no other may.
    pub(super) fn may_rot(&self, index: u32) -> bool {
        if !self.may_destroy(index) {
            return false;
        }
        let mut lives = self.lives.lock();
        *lives.harmed.get_or_insert(index) == index
    }

    /// Whether every target of every chain serves.
    pub(super) fn is_settled(&self) -> bool {
        let routing = self.observer.current();
        let serves =
            |chain: &ChainInfo| chain.targets.iter().all(|one| one.state == PublicState::Serving);
        !routing.chains.is_empty()
            && routing.chains.iter().all(serves)
            && routing.nodes.iter().all(|node| node.alive)
    }
}

/// Whether a chain has a complete copy on a sound disk when this node's is destroyed. A copy that
/// is not complete counts, too: it may have the only sound bytes of a block.
fn leaves_a_copy(chain: &ChainInfo, node: u32, unsound: &[u32]) -> bool {
    let has = chain.targets.iter().any(|one| one.node.0 == node);
    let is_other = |one: &ChainTarget| {
        let id = one.node.0;
        is_complete(one) && id != node && !unsound.contains(&id)
    };
    !has || chain.targets.iter().any(is_other)
}

fn is_complete(target: &ChainTarget) -> bool {
    matches!(target.state, PublicState::Serving | PublicState::LastServing)
}

/// The chain of a slot of the file table.
pub(super) fn file_chain(routing: &Routing, slot: u32) -> Option<&ChainInfo> {
    let table = routing.table_newest(FILE_TABLE).ok()?;
    routing.chain(*table.chains.get(slot as usize)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::{ChainId, ChainVersion, TargetId};

    fn chain(states: [PublicState; 2]) -> ChainInfo {
        let target =
            |(id, state)| ChainTarget { target: TargetId(id), node: NodeId(id as u32), state };
        ChainInfo {
            id: ChainId(1),
            version: ChainVersion(1),
            durability: Durability::Durable,
            targets: (1..).zip(states).map(target).collect(),
        }
    }

    /// Goal: the last sound bytes are never destroyed, be they on a copy that is behind (seed
    /// 80394: one disk had rotted, the other was wiped while it synced). Oracle: the rows.
    #[test]
    fn a_sound_and_complete_copy_stays() {
        use PublicState::{LastServing, Offline, Serving, Syncing};
        let rows: [(_, u32, &[u32], bool); 7] = [
            ([Serving, Serving], 2, &[], true),
            ([Serving, Serving], 2, &[1], false),
            ([Serving, Syncing], 2, &[], true),
            ([Serving, Syncing], 2, &[1], false),
            ([Serving, Syncing], 1, &[], false),
            ([LastServing, Offline], 2, &[], true),
            ([LastServing, Offline], 3, &[1, 2], true),
        ];
        for (states, node, unsound, allowed) in rows {
            assert_eq!(leaves_a_copy(&chain(states), node, unsound), allowed, "{states:?} {node}");
        }
    }
}
