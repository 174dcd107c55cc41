//! Random faults: nodes die, are cut off from the manager or from everybody, disks fill up, get
//! slow or rot, messages are late, lost or repeated. At the end all of it is healed.

use super::CHUNK_COUNT;
use super::audit::Audit;
use super::history::History;
use crate::harness::memory_store::Room;
use crate::harness::node::TestNode;
use crate::harness::{CHUNK_MAX, Cluster, chunk};
use firepond_core::routing::{LocalState, PublicState};
use firepond_core::sys::clock::{self, Instant, now};
use firepond_core::sys::random;
use std::sync::Arc;
use std::time::Duration;

/// The faults of one run.
pub struct Faults {
    pub audit: Audit,
    pub history: History,
    pub start: Instant,
    /// What happened and when, for a seed that fails.
    pub log: Vec<String>,
}

impl Faults {
    /// Faults and pauses, a number of times.
    pub async fn run(&mut self, cluster: &mut Cluster, count: u64) {
        for _ in 0..count {
            self.strike(cluster).await;
            let pause_ms = [30, 300, 2500][random::below(3) as usize];
            clock::sleep(Duration::from_millis(random::below(pause_ms))).await;
            if random::below(3) == 0 {
                self.heal(cluster).await;
                clock::sleep(Duration::from_millis(random::below(1500))).await;
            }
        }
        self.heal(cluster).await;
    }

    fn note(&mut self, what: String) {
        self.log.push(format!("{:?} {what}", self.start.elapsed()));
    }

    async fn strike(&mut self, cluster: &mut Cluster) {
        let index = random::below(cluster.nodes.len() as u64) as usize;
        let id = index as u32 + 1;
        match random::below(13) {
            0..3 => self.kill(cluster, index),
            3 => {
                let count = 1 + random::below(cluster.nodes.len() as u64) as usize;
                (0..count).for_each(|at| self.kill(cluster, (index + at) % cluster.nodes.len()));
            }
            4 => {
                self.note(format!("manager cut from {id}"));
                cluster.manager.lock().cut(id);
            }
            5 => {
                let id = if random::below(4) == 0 { 0 } else { id };
                self.note(format!("routing late at {id}"));
                cluster.manager.lock().delay(id);
            }
            6 => {
                self.note(format!("peers cut from {id}"));
                cluster.weather.cut(&format!("node{id}"));
            }
            7 => {
                self.note(format!("{id} is alone"));
                cluster.manager.lock().cut(id);
                cluster.weather.cut(&format!("node{id}"));
            }
            8 => {
                self.note("storm".to_owned());
                cluster.weather.storm(1 + random::below(40), random::below(8), random::below(15));
            }
            9 => {
                self.note(format!("disk of {id} is full"));
                let room = if random::below(2) == 0 { Room::None } else { Room::Scarce };
                cluster.nodes[index].store.set_room(room);
            }
            10 => {
                self.note(format!("disk of {id} is slow"));
                cluster.nodes[index].store.set_slow(random::below(200));
            }
            11 => self.rot(cluster, index).await,
            _ => {
                self.note("the manager hears all".to_owned());
                cluster.manager.lock().hear();
            }
        }
        if random::below(2) == 0 {
            self.restart_one(cluster).await;
        }
    }

    /// The manager learns of it at once, or when the lease runs out.
    fn kill(&mut self, cluster: &mut Cluster, index: usize) {
        if !cluster.nodes[index].is_alive() {
            return;
        }
        let seen = random::below(2) == 0;
        self.note(format!("kill {} seen {seen}", index + 1));
        match seen {
            true => cluster.kill(index),
            false => cluster.nodes[index].kill(),
        }
        let states = cluster.manager.lock().states();
        let serves = |state| matches!(state, PublicState::Serving | PublicState::LastServing);
        let mut complete = states.iter().filter(|(_, state)| serves(*state));
        let lost =
            |node: &TestNode| !node.is_alive() || node.replica.local_state() == LocalState::Offline;
        if complete.all(|(id, _)| lost(&cluster.nodes[*id as usize - 1])) {
            self.note("blackout".to_owned());
            self.audit.blackout(&self.history.blackout());
        }
    }

    async fn restart_one(&mut self, cluster: &mut Cluster) {
        let dead: Vec<usize> =
            (0..cluster.nodes.len()).filter(|index| !cluster.nodes[*index].is_alive()).collect();
        if dead.is_empty() {
            return;
        }
        let index = dead[random::below(dead.len() as u64) as usize];
        self.note(format!("restart {}", index + 1));
        cluster.restart(index).await;
        self.audit.watch(&cluster.nodes[index]);
    }

    /// Rot can only be mended while another replica is well.
    async fn rot(&mut self, cluster: &mut Cluster, index: usize) {
        self.heal(cluster).await;
        cluster.wait_serving().await;
        if cluster.nodes.len() < 2 {
            return;
        }
        self.note(format!("rot at {}", index + 1));
        let number = chunk(random::below(u64::from(CHUNK_COUNT)) as u32);
        let node = &cluster.nodes[index];
        node.store.rot(number);
        let deadline = now() + Duration::from_secs(20);
        while node.store.is_rotten(number) {
            assert!(now() < deadline, "a rotten chunk is not mended");
            let replica = Arc::clone(&node.replica);
            let limit = now() + Duration::from_secs(5);
            replica.read(&replica.standing(), number, 0, CHUNK_MAX, limit).await.ok();
            clock::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Nothing is wrong any more; the dead come back one after another.
    async fn heal(&mut self, cluster: &mut Cluster) {
        self.note("heal".to_owned());
        cluster.weather.clear();
        cluster.manager.lock().mend();
        for node in &cluster.nodes {
            node.store.set_room(Room::Ample);
            node.store.set_slow(0);
        }
        while cluster.nodes.iter().any(|node| !node.is_alive()) {
            self.restart_one(cluster).await;
            clock::sleep(Duration::from_millis(random::below(300))).await;
        }
    }
}
