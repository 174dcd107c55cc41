//! The native side of a client's connection to a cluster: one runtime, one transport, one set of
//! peers, shared by the files and the KV tier of the process.
//!
//! Invariant: in a forked child nothing of the parent's connection is touched or ended: its threads
//! do not exist there, and its sockets belong to the parent. Python makes a new connection then.

use crate::error::IntoPython;
use crate::routing::PyRoutingHandle;
use firepond_core::buffer::BufferPool;
use firepond_core::peer::Peers;
use firepond_core::sys;
use firepond_core::transport::tcp::TcpTransport;
use firepond_core::{Error, ErrorKind};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Bytes of receive buffers, unless told otherwise.
const BUFFER_BYTES: usize = 256 << 20;
/// Threads that carry the calls, unless told otherwise.
const WORKER_COUNT: usize = 2;

/// What the clients of a process share. Ends with its last user.
pub(crate) struct Connection {
    runtime: ManuallyDrop<Runtime>,
    peers: ManuallyDrop<Peers>,
    process: u32,
}

impl Connection {
    /// Where calls run.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Whom calls go to.
    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            return;
        }
        // SAFETY: both are taken once, here, and never used again.
        let (runtime, peers) =
            unsafe { (ManuallyDrop::take(&mut self.runtime), ManuallyDrop::take(&mut self.peers)) };
        {
            let _inside = runtime.enter();
            drop(peers);
        }
        runtime.shutdown_background();
    }
}

/// A connection to a cluster, found through a routing handle that a follower keeps current.
#[pyclass(name = "Connection", module = "firepond._native", frozen)]
pub(crate) struct PyConnection {
    open: Mutex<Option<Arc<Connection>>>,
}

impl PyConnection {
    /// The connection, while it is open.
    pub(crate) fn get(&self) -> PyResult<Arc<Connection>> {
        let closed = || Error::new(ErrorKind::Closed, "the connection is closed");
        self.open.lock().clone().ok_or_else(closed).into_python()
    }
}

#[pymethods]
impl PyConnection {
    #[new]
    #[pyo3(signature = (routing, buffer_bytes=BUFFER_BYTES, worker_count=WORKER_COUNT))]
    fn new(
        routing: &PyRoutingHandle,
        buffer_bytes: usize,
        worker_count: usize,
    ) -> PyResult<PyConnection> {
        if buffer_bytes < firepond_core::buffer::BUFFER_MAX_BYTES || worker_count == 0 {
            return Err(Error::invalid("a connection needs 64 MiB of buffers and one worker"))
                .into_python();
        }
        let runtime = sys::task::runtime("client", worker_count)
            .map_err(|error| Error::io(&error, "start the client's runtime"))
            .into_python()?;
        let transport = {
            let _inside = runtime.enter();
            Arc::new(TcpTransport::new(BufferPool::new(buffer_bytes)))
        };
        let connection = Connection {
            runtime: ManuallyDrop::new(runtime),
            peers: ManuallyDrop::new(Peers::new(transport, routing.handle.clone())),
            process: std::process::id(),
        };
        Ok(PyConnection { open: Mutex::new(Some(Arc::new(connection))) })
    }

    /// Read requests of all clients of this connection: requests, how many were asked of a second
    /// replica because the first was slow, and how often that was faster.
    fn read_counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = self.get()?.peers().read_counts();
        let found = PyDict::new(py);
        found.set_item("request_count", counts.request_count)?;
        found.set_item("hedge_count", counts.hedge_count)?;
        found.set_item("hedge_won_count", counts.hedge_won_count)?;
        Ok(found)
    }

    /// Lets the connection go; it ends when the clients made from it are gone, too.
    fn close(&self) {
        drop(self.open.lock().take());
    }
}

/// Adds this part's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyConnection>()
}
