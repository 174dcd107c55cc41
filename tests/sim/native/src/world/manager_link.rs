//! A process's way to the managers: as `fs/manager_client.py`, over the simulated network.
//!
//! Each address in turn, the one that answered last first; an error of a manager is final unless it
//! says that it is not the leader.

use super::managers::ManagerPort;
use super::network::pause;
use super::site::Site;
use super::weather::Fate;
use crate::plan::Process;
use firepond_core::sys::clock::{now, timeout_at};
use firepond_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// As in `manager_client.py`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Failure {
    code: u16,
    message: String,
}

/// The managers, as one process sees them.
pub(super) struct ManagerLink {
    site: Arc<Site>,
    port: ManagerPort,
    process: Process,
    manager_count: u32,
    first: AtomicU32,
}

impl ManagerLink {
    pub(super) fn new(
        site: &Arc<Site>,
        port: &ManagerPort,
        process: Process,
        manager_count: u32,
    ) -> ManagerLink {
        let (site, port) = (Arc::clone(site), port.clone());
        ManagerLink { site, port, process, manager_count, first: AtomicU32::new(0) }
    }

    /// One request to the first manager that answers.
    pub(super) async fn call<B: Serialize, T: for<'de> Deserialize<'de>>(
        &self,
        name: &'static str,
        body: &B,
        timeout: Duration,
    ) -> Result<T> {
        let body = rmp_serde::to_vec_named(body)
            .map_err(|error| Error::internal(format!("a request does not encode: {error}")))?;
        let mut last = unreachable("no manager");
        for turn in 0..self.manager_count {
            let index = (self.first.load(Ordering::Relaxed) + turn) % self.manager_count;
            let answer = timeout_at(now() + timeout, self.exchange(index, name, body.clone()));
            match answer.await.unwrap_or_else(|| Err(unreachable("no answer in time"))) {
                Ok(reply) => {
                    self.first.store(index, Ordering::Relaxed);
                    return rmp_serde::from_slice(&reply).map_err(|error| {
                        Error::internal(format!("a reply to {name} does not decode: {error}"))
                    });
                }
                Err(error) => last = error,
            }
            let elsewhere = [ErrorKind::ClusterUnreachable, ErrorKind::ManagerNotLeader];
            if !elsewhere.contains(&last.kind()) {
                break;
            }
        }
        let what = last.kind().name();
        self.site.trace.line(format_args!("{} {name}: {what}", self.process));
        Err(last)
    }

    async fn exchange(&self, index: u32, name: &'static str, body: Vec<u8>) -> Result<Vec<u8>> {
        let (here, there) = (self.process, Process::Manager(index));
        self.cross(here, there).await?;
        let answer = self.port.request(index, name, body).await;
        let Some((ok, reply)) = answer else { return Err(unreachable("the manager died")) };
        self.cross(there, here).await?;
        if ok {
            return Ok(reply);
        }
        let failure: Failure = rmp_serde::from_slice(&reply)
            .map_err(|error| Error::internal(format!("an error does not decode: {error}")))?;
        let kind = ErrorKind::from_code(failure.code).unwrap_or(ErrorKind::Internal);
        Err(Error::new(kind, failure.message))
    }

    async fn cross(&self, from: Process, to: Process) -> Result<()> {
        match self.site.weather.fate(from, to, false) {
            Fate::Arrives(delay) | Fate::Strays(delay) => pause(delay).await,
            Fate::Breaks(delay) => {
                pause(delay).await;
                return Err(unreachable("the connection broke"));
            }
            Fate::Vanishes => {
                pause(CONNECT_TIMEOUT).await;
                return Err(unreachable("no answer"));
            }
        }
        Ok(())
    }
}

fn unreachable(why: &str) -> Error {
    Error::new(ErrorKind::ClusterUnreachable, why)
}
