//! The routing handle, which Python feeds and the native engines read.

use crate::error::IntoPython;
use firepond_core::routing::{Routing, RoutingHandle, Suspicion};
use firepond_core::sys::clock;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::time::Duration;
use tokio::sync::mpsc;

/// The newest routing of this process, shared by every engine and client that it is given to.
#[pyclass(name = "RoutingHandle", module = "firepond._native", frozen)]
pub(crate) struct PyRoutingHandle {
    pub(crate) handle: RoutingHandle,
    suspicions: Mutex<mpsc::Receiver<Suspicion>>,
}

#[pymethods]
impl PyRoutingHandle {
    #[new]
    fn new() -> PyRoutingHandle {
        let (handle, suspicions) = RoutingHandle::new();
        PyRoutingHandle { handle, suspicions: Mutex::new(suspicions) }
    }

    /// Publishes MessagePack-encoded routing; says whether it was newer.
    fn publish(&self, encoded: &[u8]) -> PyResult<bool> {
        Ok(self.handle.publish(Routing::decode(encoded).into_python()?))
    }

    /// The version of the newest routing, 0 before the first.
    #[getter]
    fn version(&self) -> u64 {
        self.handle.current().version.0
    }

    /// The newest routing as MessagePack.
    fn encoded(&self) -> Vec<u8> {
        self.handle.current().encode()
    }

    /// Waits up to `timeout_ms` for suspicions: a list of (node, incarnation), possibly empty.
    fn wait_suspicions(&self, py: Python<'_>, timeout_ms: u64) -> Vec<(u32, u64)> {
        py.detach(|| {
            let mut receiver = self.suspicions.lock();
            let mut found = Vec::new();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let Ok(runtime) = runtime else { return found };
            let wait = Duration::from_millis(timeout_ms).min(Duration::from_secs(60));
            let first = runtime.block_on(async {
                clock::timeout_at(clock::now() + wait, receiver.recv()).await.flatten()
            });
            found.extend(first.map(|one| (one.node.0, one.incarnation.0)));
            while let Ok(one) = receiver.try_recv() {
                found.push((one.node.0, one.incarnation.0));
            }
            found
        })
    }
}

/// Adds this part's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyRoutingHandle>()
}
