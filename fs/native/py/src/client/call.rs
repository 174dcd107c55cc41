//! Running one operation: waiting for it, or having it announced.

use crate::connection::Connection;
use crate::error::{IntoPython, to_python};
use firepond_client::file_system::FileSystem;
use firepond_core::sys::clock;
use firepond_core::transport::tcp::on_waiting_thread;
use firepond_core::wire::meta::Credentials;
use firepond_core::{Error, ErrorKind, Result};
use pyo3::prelude::*;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

/// How often a waiting call looks for Ctrl-C.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// What a client and its files share.
pub(super) struct Shared {
    connection: ManuallyDrop<Arc<Connection>>,
    files: ManuallyDrop<FileSystem>,
    pub(super) who: Credentials,
    process: u32,
}

/// What an operation gives, in Python's terms.
pub(super) trait IntoObject: Send + 'static {
    /// The object.
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>>;
}

impl Shared {
    pub(super) fn new(connection: Arc<Connection>, files: FileSystem, who: Credentials) -> Shared {
        let (connection, files) = (ManuallyDrop::new(connection), ManuallyDrop::new(files));
        Shared { connection, files, who, process: std::process::id() }
    }

    /// The file system.
    ///
    /// # Errors
    /// `Closed` in a forked child.
    pub(super) fn files(&self) -> PyResult<&FileSystem> {
        if self.is_ours() {
            return Ok(&self.files);
        }
        Err(to_python(&Error::new(
            ErrorKind::Closed,
            "this was opened before a fork; open it again in the child",
        )))
    }

    /// False in a forked child.
    pub(super) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// Runs something that needs the runtime around it, such as a drop that starts a task.
    pub(super) fn inside<R>(&self, work: impl FnOnce() -> R) -> R {
        let _inside = self.connection.runtime().enter();
        work()
    }

    /// Runs an operation: waits for it, or lets `done(result, error)` be called at its end.
    pub(super) fn run<F, T>(
        &self,
        py: Python<'_>,
        done: Option<Py<PyAny>>,
        future: F,
    ) -> PyResult<Py<PyAny>>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: IntoObject,
    {
        self.files()?;
        let Some(done) = done else {
            return py.detach(|| self.wait(future))?.into_object(py);
        };
        self.connection.runtime().spawn(async move {
            let result = future.await;
            // Without an interpreter nobody waits any more.
            let _ = Python::try_attach(|py| announce(py, &done, result));
        });
        Ok(py.None())
    }

    fn wait<T>(&self, future: impl Future<Output = Result<T>>) -> PyResult<T> {
        let waiting = async {
            let mut future = std::pin::pin!(future);
            loop {
                let soon = clock::now() + SIGNAL_INTERVAL;
                if let Some(result) = clock::timeout_at(soon, future.as_mut()).await {
                    return result.into_python();
                }
                Python::attach(|py| py.check_signals())?;
            }
        };
        on_waiting_thread(|| self.connection.runtime().block_on(waiting))
    }
}

fn announce<T: IntoObject>(py: Python<'_>, done: &Py<PyAny>, result: Result<T>) {
    let result = result.into_python().and_then(|value| value.into_object(py));
    let called = match result {
        Ok(value) => done.call1(py, (value, py.None())),
        Err(error) => done.call1(py, (py.None(), error)),
    };
    if let Err(error) = called {
        error.write_unraisable(py, Some(done.bind(py)));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: taken once, here, and never used again.
            let (files, connection) = unsafe {
                (ManuallyDrop::take(&mut self.files), ManuallyDrop::take(&mut self.connection))
            };
            let _inside = connection.runtime().enter();
            drop(files);
        }
    }
}

impl IntoObject for () {
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(py.None())
    }
}

impl IntoObject for u64 {
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.into_pyobject(py)?.into_any().unbind())
    }
}

impl IntoObject for usize {
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.into_pyobject(py)?.into_any().unbind())
    }
}
