//! Faults as they happen: each is a task of the world that begins it, waits, and ends it.

use super::cluster::Cluster;
use super::storage::{DISK_BYTES, RESERVE_BYTES};
use super::weather::{Cut, Storm};
use crate::plan::{Fault, OPERATION_PATIENCE, Process};
use firepond_core::sys::disk::ALIGNMENT_BYTES;
use firepond_core::sys::disk::simulated::SimulatedDisk;
use firepond_core::sys::machine::Machine;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// The data file of a chunk store.
const DATA_FILE: &str = "chunks.data";

/// Starts a fault's task.
pub(super) fn schedule(
    cluster: &Arc<Cluster>,
    at: Instant,
    fault: Fault,
) -> tokio::task::JoinHandle<()> {
    let cluster = Arc::clone(cluster);
    tokio::spawn(async move {
        sleep_until(at).await;
        cluster.site.trace.line(format_args!("FAULT {fault}"));
        if cluster.strike(fault).await {
            cluster.faults_done.lock().push(fault);
        } else {
            cluster.site.trace.line("(not possible now)");
        }
    })
}

impl Cluster {
    async fn strike(&self, fault: Fault) -> bool {
        match fault {
            Fault::Crash { process, away, wipe } => self.crash(process, away, wipe).await,
            Fault::CrashAtOperation { storage, operation, away } => {
                self.crash_at(storage, operation, away).await
            }
            Fault::Freeze { process, lasts } => self.freeze(process, lasts).await,
            Fault::Cut { from, to, both_ways, lasts } => {
                let back = both_ways.then(|| self.site.weather.cut(Cut::Between(to, from)));
                self.cut(Cut::Between(from, to), lasts).await;
                back.into_iter().for_each(|number| self.site.weather.end(number));
                true
            }
            Fault::Isolate { process, lasts } => self.cut(Cut::Around(process), lasts).await,
            Fault::Storm { lasts, delay_max, lost_per_mille, repeated_per_mille } => {
                let storm = Storm { delay_max, lost_per_mille, repeated_per_mille };
                let number = self.site.weather.storm(storm);
                sleep(lasts).await;
                self.site.weather.end(number);
                true
            }
            Fault::Rot { storage, page_count } => self.rot(storage, page_count),
            Fault::FullDisk { storage, lasts } => {
                self.with_disk(storage, lasts, fill, |disk| disk.set_capacity_bytes(DISK_BYTES))
                    .await
            }
            Fault::SlowDisk { storage, delay, lasts } => {
                let slow = |disk: &SimulatedDisk| disk.set_delay(delay);
                self.with_disk(storage, lasts, slow, |disk| disk.set_delay(Duration::ZERO)).await
            }
            Fault::FailingDisk { storage, lasts } => {
                if !self.may_fail(storage) {
                    return false;
                }
                let fail = |disk: &SimulatedDisk| disk.set_failing(true);
                self.with_disk(storage, lasts, fail, |disk| disk.set_failing(false)).await;
                // A disk that failed stays out of service until its process starts again.
                if self.kill_storage(storage, false) {
                    self.start_storage(storage);
                }
                true
            }
            Fault::Drift { process, parts_per_million } => {
                self.on_machine(process, |machine| machine.set_drift(parts_per_million))
            }
            Fault::Jump { process, milliseconds } => {
                self.on_machine(process, |machine| machine.jump(milliseconds * 1_000_000))
            }
            Fault::TakeOver => {
                self.start_manager(1 - self.port.newest());
                true
            }
        }
    }

    async fn crash(&self, process: Process, away: Duration, wipe: bool) -> bool {
        match process {
            Process::Storage(index) => {
                if !self.kill_storage(index, wipe) {
                    return false;
                }
                sleep(away).await;
                self.start_storage(index);
            }
            Process::Meta => {
                if !self.kill_meta() {
                    return false;
                }
                sleep(away).await;
                self.start_meta();
            }
            Process::Manager(_) => {
                let Some(index) = self.kill_manager() else { return false };
                sleep(away).await;
                if !self.lives.lock().manager {
                    self.start_manager(index);
                }
            }
            // A client that dies is one that nobody hears of any more: `Isolate`.
            Process::Client(_) => return false,
        }
        true
    }

    async fn crash_at(&self, storage: u32, operation: u64, away: Duration) -> bool {
        let machine = {
            let lives = self.lives.lock();
            let Some(life) = &lives.storages[storage as usize] else { return false };
            lives.disks[storage as usize].crash_point.stop_at(operation);
            life.machine.clone()
        };
        tokio::time::timeout(OPERATION_PATIENCE, machine.died()).await.ok();
        // Another fault may have ended this life, and somebody begun the next one.
        let same = self.site.machine(Process::Storage(storage)).is_some_and(|now| now.is(&machine));
        if same && self.kill_storage(storage, false) {
            sleep(away).await;
            self.start_storage(storage);
        }
        true
    }

    async fn freeze(&self, process: Process, lasts: Duration) -> bool {
        let Some(machine) = self.machine(process) else { return false };
        machine.freeze();
        sleep(lasts).await;
        machine.thaw();
        true
    }

    async fn cut(&self, cut: Cut, lasts: Duration) -> bool {
        let number = self.site.weather.cut(cut);
        sleep(lasts).await;
        self.site.weather.end(number);
        true
    }

    fn rot(&self, storage: u32, page_count: u32) -> bool {
        if !self.may_rot(storage) {
            return false;
        }
        let mut lives = self.lives.lock();
        let disk = lives.disks[storage as usize].disk.clone();
        let path = Path::new(DATA_FILE);
        let pages = disk.pages(path);
        for _ in 0..page_count.min(pages.len() as u32) {
            let page = lives.dice.pick(&pages);
            let byte = lives.dice.below(ALIGNMENT_BYTES as u32) as usize;
            disk.rot(path, page * ALIGNMENT_BYTES + byte);
        }
        true
    }

    async fn with_disk(
        &self,
        storage: u32,
        lasts: Duration,
        begin: impl FnOnce(&SimulatedDisk),
        end: impl FnOnce(&SimulatedDisk),
    ) -> bool {
        let disk = self.lives.lock().disks[storage as usize].disk.clone();
        begin(&disk);
        sleep(lasts).await;
        end(&disk);
        true
    }

    fn on_machine(&self, process: Process, act: impl FnOnce(&Machine)) -> bool {
        self.machine(process).as_ref().map(act).is_some()
    }

    /// The machine of a process; all managers share one.
    fn machine(&self, process: Process) -> Option<Machine> {
        self.site.machine(match process {
            Process::Manager(_) => Process::Manager(0),
            other => other,
        })
    }
}

/// Leaves so little room that only what frees space is accepted, and enough for the log to live: a
/// reserve is what that is for.
fn fill(disk: &SimulatedDisk) {
    use firepond_core::sys::disk::Disk;
    if let Ok((total, free)) = disk.space() {
        disk.set_capacity_bytes(total - free + RESERVE_BYTES * 3 / 8);
    }
}
