//! The metadata engine.
//!
//! Why start and stop are apart from construction: the role makes the object first, so that bad
//! options are refused before anything listens.

use crate::error::IntoPython;
use crate::routing::PyRoutingHandle;
use firepond_core::ids::{Incarnation, NodeId};
use firepond_core::routing::RoutingHandle;
use firepond_core::{Error, ErrorKind, Result};
use firepond_meta::{EngineOptions, MetaEngine, ServiceOptions, ServiceStatus, StoreKind};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::path::PathBuf;
use std::time::Duration;

/// A metadata service of this process.
#[pyclass(name = "MetaEngine", module = "firepond._native", frozen)]
struct PyMetaEngine {
    options: EngineOptions,
    routing: RoutingHandle,
    running: Mutex<Option<MetaEngine>>,
}

#[pymethods]
impl PyMetaEngine {
    /// Checks the options; `start` opens and listens.
    ///
    /// Options: `store` ("embedded" or "memory"), `chunk_size_bytes`, `stripe_count`,
    /// `session_lease_ms`, `root_uid`, `root_gid`, `worker_count`.
    #[new]
    fn new(
        node_id: u32,
        incarnation: u64,
        listen: String,
        data_dir: PathBuf,
        routing: &Bound<'_, PyRoutingHandle>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<PyMetaEngine> {
        let mut parsed = EngineOptions {
            listen,
            data_dir,
            store: StoreKind::Embedded,
            worker_count: 2,
            service: ServiceOptions {
                node: NodeId(node_id),
                incarnation: Incarnation(incarnation),
                ..ServiceOptions::default()
            },
        };
        for (name, value) in options {
            let name = name.cast::<PyString>()?.to_str()?.to_owned();
            apply(&mut parsed, &name, &value)?;
        }
        let routing = routing.get().handle.clone();
        Ok(PyMetaEngine { options: parsed, routing, running: Mutex::new(None) })
    }

    /// Opens the store, listens and serves.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            let mut running = self.running.lock();
            if running.is_some() {
                return Err(Error::invalid("the engine was started before"));
            }
            *running = Some(MetaEngine::start(self.options.clone(), self.routing.clone())?);
            Ok(())
        })
        .into_python()
    }

    /// Where it listens, with the port that was picked.
    #[getter]
    fn data_address(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |engine| engine.data_address())
    }

    /// Counts: inodes, clients, open_files, collect_backlog, conflicts, operations by kind.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, &self.with(py, MetaEngine::status)?)
    }

    /// Stops serving and closes the store. Stopping twice is fine.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| {
            if let Some(engine) = self.running.lock().take() {
                engine.stop();
            }
        });
    }
}

impl PyMetaEngine {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        look: impl FnOnce(&MetaEngine) -> T + Send,
    ) -> PyResult<T> {
        let seen: Result<T> = py.detach(|| {
            let running = self.running.lock();
            running
                .as_ref()
                .map(look)
                .ok_or_else(|| Error::new(ErrorKind::Closed, "the engine is not running"))
        });
        seen.into_python()
    }
}

fn apply(options: &mut EngineOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let service = &mut options.service;
    match name {
        "store" => options.store = store_kind(value.extract()?).into_python()?,
        "worker_count" => options.worker_count = value.extract()?,
        "chunk_size_bytes" => service.layout.chunk_size_bytes = value.extract()?,
        "stripe_count" => service.layout.stripe_count = value.extract()?,
        "session_lease_ms" => service.session_lease = Duration::from_millis(value.extract()?),
        "root_uid" => service.root_uid = value.extract()?,
        "root_gid" => service.root_gid = value.extract()?,
        _ => {
            let error = Error::new(ErrorKind::ConfigInvalid, "no such option of the engine");
            return Err(error.with("option", name)).into_python();
        }
    }
    Ok(())
}

fn store_kind(name: &str) -> Result<StoreKind> {
    match name {
        "embedded" => Ok(StoreKind::Embedded),
        "memory" => Ok(StoreKind::Memory),
        _ => Err(Error::new(ErrorKind::ConfigInvalid, "a store is \"embedded\" or \"memory\"")
            .with("store", name)),
    }
}

fn to_dict<'py>(py: Python<'py>, status: &ServiceStatus) -> PyResult<Bound<'py, PyDict>> {
    let operations = PyDict::new(py);
    for one in &status.operations {
        let counts = PyDict::new(py);
        counts.set_item("count", one.count)?;
        counts.set_item("failed", one.failed)?;
        counts.set_item("total_us", one.total_us)?;
        counts.set_item("p50_us", one.p50_us)?;
        counts.set_item("p99_us", one.p99_us)?;
        operations.set_item(one.name, counts)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("inodes", status.inode_count)?;
    dict.set_item("clients", status.client_count)?;
    dict.set_item("open_files", status.open_file_count)?;
    dict.set_item("collect_backlog", status.collect_backlog)?;
    dict.set_item("conflicts", status.conflict_count)?;
    dict.set_item("operations", operations)?;
    Ok(dict)
}

/// Adds this part's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyMetaEngine>()
}
