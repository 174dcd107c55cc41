//! The storage engine.
//!
//! Why start and stop are apart from construction: the role makes the object first, so that bad
//! options are refused before anything listens.

use crate::error::IntoPython;
use crate::routing::PyRoutingHandle;
use firepond_core::ids::{ChainId, Incarnation, NodeId, TargetId};
use firepond_core::routing::{LocalState, RoutingHandle};
use firepond_core::{Error, ErrorKind, Result};
use firepond_storage::service::{
    DiskStatus, EngineOptions, EngineStatus, ScrubStatus, StorageEngine, TargetStatus,
};
use parking_lot::RwLock;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use std::path::PathBuf;
use std::time::Duration;

/// The smallest buffers that hold one of the largest messages.
const BUFFER_MIN_BYTES: usize = 64 << 20;

/// A storage service of this process.
#[pyclass(name = "StorageEngine", module = "firepond._native", frozen)]
struct PyStorageEngine {
    options: EngineOptions,
    routing: RoutingHandle,
    running: RwLock<Option<StorageEngine>>,
}

#[pymethods]
impl PyStorageEngine {
    /// Checks the options; `start` opens the disks and listens.
    ///
    /// Options: `buffer_bytes`, `cache_bytes`, `worker_count`, `resync_bytes_per_second`,
    /// `scrub_bytes_per_second`, `disk_engine` ("auto", "io_uring" or "positional").
    #[new]
    fn new(
        node_id: u32,
        incarnation: u64,
        listen: String,
        disks: Vec<PathBuf>,
        routing: &Bound<'_, PyRoutingHandle>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<PyStorageEngine> {
        let mut parsed = EngineOptions {
            node: NodeId(node_id),
            incarnation: Incarnation(incarnation),
            listen,
            disks,
            buffer_bytes: 256 << 20,
            cache_bytes: 64 << 20,
            worker_count: 2,
            resync_bytes_per_second: 256 << 20,
            scrub_bytes_per_second: 32 << 20,
            disk_engine: "auto".to_owned(),
        };
        for (name, value) in options {
            let name = name.cast::<PyString>()?.to_str()?.to_owned();
            apply(&mut parsed, &name, &value)?;
        }
        let routing = routing.get().handle.clone();
        Ok(PyStorageEngine { options: parsed, routing, running: RwLock::new(None) })
    }

    /// Opens the disks, listens and serves.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            let mut running = self.running.write();
            if running.is_some() {
                return Err(Error::invalid("the engine was started before"));
            }
            *running = Some(StorageEngine::start(self.options.clone(), self.routing.clone())?);
            Ok(())
        })
        .into_python()
    }

    /// Where it listens, with the port that was picked.
    #[getter]
    fn data_address(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |engine| Ok(engine.data_address()))
    }

    /// Opens the assigned targets (target, chain, disk path) and makes those that are missing.
    fn set_targets(&self, py: Python<'_>, targets: Vec<(u64, u32, PathBuf)>) -> PyResult<()> {
        let targets: Vec<_> = targets
            .into_iter()
            .map(|(target, chain, disk)| (TargetId(target), ChainId(chain), disk))
            .collect();
        self.with(py, |engine| engine.set_targets(&targets))
    }

    /// Asks targets to leave their chains: they report themselves offline and serve nothing.
    fn step_down(&self, py: Python<'_>, targets: Vec<u64>) -> PyResult<()> {
        let targets: Vec<_> = targets.into_iter().map(TargetId).collect();
        self.with(py, |engine| {
            engine.step_down(&targets);
            Ok(())
        })
    }

    /// Forgets targets that no chain has any more, with their chunks; unknown ones are fine.
    fn drop_targets(&self, py: Python<'_>, targets: Vec<u64>) -> PyResult<()> {
        let targets: Vec<_> = targets.into_iter().map(TargetId).collect();
        self.with(py, |engine| engine.drop_targets(&targets))
    }

    /// Has `listener()` called, from any thread, when a target took itself out of its chain.
    fn set_listener(&self, py: Python<'_>, listener: Py<PyAny>) -> PyResult<()> {
        let call = move || {
            Python::attach(|py| {
                if let Err(error) = listener.call0(py) {
                    error.write_unraisable(py, None);
                }
            });
        };
        self.with(py, |engine| {
            engine.set_listener(Box::new(call));
            Ok(())
        })
    }

    /// A heartbeat is being sent now; give the token to `heartbeat_end`.
    fn heartbeat_begin(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |engine| Ok(engine.heartbeat_begin()))
    }

    /// The heartbeat was answered: the lease lasts `lease_ms` from when it was sent.
    fn heartbeat_end(&self, py: Python<'_>, token: u64, lease_ms: u64) -> PyResult<()> {
        self.with(py, |engine| {
            engine.heartbeat_end(token, Duration::from_millis(lease_ms));
            Ok(())
        })
    }

    /// The manager does not know this node: serve nothing until it is registered again.
    fn lease_lost(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |engine| {
            engine.lease_lost();
            Ok(())
        })
    }

    /// Targets, disks, `repaired_blocks` and `evicted_values`.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, &self.with(py, |engine| Ok(engine.status()))?)
    }

    /// Stops serving and closes the stores. Stopping twice is fine.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| {
            let engine = self.running.write().take();
            if let Some(engine) = engine {
                engine.stop();
            }
        });
    }
}

impl PyStorageEngine {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        look: impl FnOnce(&StorageEngine) -> Result<T> + Send,
    ) -> PyResult<T> {
        let seen: Result<T> = py.detach(|| match self.running.read().as_ref() {
            Some(engine) => look(engine),
            None => Err(Error::new(ErrorKind::Closed, "the engine is not running")),
        });
        seen.into_python()
    }
}

fn apply(options: &mut EngineOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    match name {
        "buffer_bytes" => options.buffer_bytes = value.extract()?,
        "cache_bytes" => options.cache_bytes = value.extract()?,
        "worker_count" => options.worker_count = value.extract()?,
        "resync_bytes_per_second" => options.resync_bytes_per_second = value.extract()?,
        "scrub_bytes_per_second" => options.scrub_bytes_per_second = value.extract()?,
        "disk_engine" => options.disk_engine = value.extract()?,
        _ => {
            let error = Error::new(ErrorKind::ConfigInvalid, "no such option of the engine");
            return Err(error.with("option", name)).into_python();
        }
    }
    if options.buffer_bytes < BUFFER_MIN_BYTES {
        let error = Error::new(ErrorKind::ConfigInvalid, "the buffers are too small");
        let error = error.with("buffer_bytes", options.buffer_bytes);
        return Err(error.with("min", BUFFER_MIN_BYTES)).into_python();
    }
    Ok(())
}

fn to_dict<'py>(py: Python<'py>, status: &EngineStatus) -> PyResult<Bound<'py, PyDict>> {
    let targets = PyList::empty(py);
    for target in &status.targets {
        targets.append(target_dict(py, target)?)?;
    }
    let disks = PyList::empty(py);
    for disk in &status.disks {
        disks.append(disk_dict(py, disk)?)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("targets", targets)?;
    dict.set_item("disks", disks)?;
    dict.set_item("repaired_blocks", status.repaired_blocks)?;
    dict.set_item("evicted_values", status.evicted_values)?;
    Ok(dict)
}

fn target_dict<'py>(py: Python<'py>, target: &TargetStatus) -> PyResult<Bound<'py, PyDict>> {
    let local_state = match target.local_state {
        LocalState::UpToDate => "up-to-date",
        LocalState::Online => "online",
        LocalState::Offline => "offline",
    };
    let dict = PyDict::new(py);
    dict.set_item("target", target.target.0)?;
    dict.set_item("chain", target.chain.0)?;
    dict.set_item("chain_version", target.chain_version.0)?;
    dict.set_item("disk", target.disk.to_string_lossy())?;
    dict.set_item("generation", target.generation)?;
    dict.set_item("served", target.served)?;
    dict.set_item("local_state", local_state)?;
    dict.set_item("used_bytes", target.used_bytes)?;
    dict.set_item("chunk_count", target.chunk_count)?;
    let namespaces = target.namespaces.iter().map(|one| {
        let dict = PyDict::new(py);
        dict.set_item("id", one.namespace.0)?;
        dict.set_item("used_bytes", one.usage.used_bytes)?;
        dict.set_item("chunk_count", one.usage.chunk_count)?;
        Ok(dict)
    });
    dict.set_item("namespaces", namespaces.collect::<PyResult<Vec<_>>>()?)?;
    dict.set_item("dirty_count", target.dirty_count)?;
    dict.set_item("complete_through", target.complete_through.0)?;
    dict.set_item("lost_version", target.lost_version.0)?;
    dict.set_item("full", target.full)?;
    dict.set_item("scrub", scrub_dict(py, &target.scrub)?)?;
    let resync = target.resync.as_ref().map(|resync| {
        let dict = PyDict::new(py);
        dict.set_item("successor", resync.successor.0)?;
        dict.set_item("chunks_done", resync.chunks_done)?;
        dict.set_item("chunks_total", resync.chunks_total)?;
        dict.set_item("bytes_moved", resync.bytes_moved)?;
        dict.set_item("started_ms", resync.started_ms)?;
        Ok::<_, PyErr>(dict)
    });
    dict.set_item("resync", resync.transpose()?)?;
    Ok(dict)
}

fn scrub_dict<'py>(py: Python<'py>, scrub: &ScrubStatus) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("chunks_checked", scrub.chunks_checked)?;
    dict.set_item("bytes_checked", scrub.bytes_checked)?;
    dict.set_item("bad_count", scrub.bad_count)?;
    dict.set_item("repaired_count", scrub.repaired_count)?;
    dict.set_item("unrepairable_count", scrub.unrepairable_count)?;
    dict.set_item("last_pass_unix_s", scrub.last_pass_unix_s)?;
    Ok(dict)
}

fn disk_dict<'py>(py: Python<'py>, disk: &DiskStatus) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("path", disk.path.to_string_lossy())?;
    dict.set_item("engine", disk.engine)?;
    dict.set_item("total_bytes", disk.total_bytes)?;
    dict.set_item("free_bytes", disk.free_bytes)?;
    dict.set_item("failed", disk.failed.as_deref())?;
    Ok(dict)
}

/// Adds this part's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyStorageEngine>()
}
