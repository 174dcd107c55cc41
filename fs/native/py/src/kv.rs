//! Transactional stores, for the manager.
//!
//! Why a runtime per store: the manager calls from plain Python threads, which have none. Commits
//! block in `block_on`, detached from the interpreter, and share the engine's group commit.

use crate::error::IntoPython;
use firepond_core::kv::{
    AnyStore, AnyTransaction, CommitOutcome, EmbeddedStore, KvStore, KvTransaction, MemoryStore,
    RangeQuery,
};
use firepond_core::{Error, ErrorKind, sys};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// An ordered transactional store.
#[pyclass(name = "KvStore", module = "firepond._native", frozen)]
struct PyKvStore {
    open: Mutex<Option<OpenStore>>,
}

#[derive(Clone)]
struct OpenStore {
    store: AnyStore,
    runtime: Arc<Runtime>,
}

fn closed(what: &str) -> Error {
    Error::new(ErrorKind::Closed, what)
}

#[pymethods]
impl PyKvStore {
    /// Opens the store of a directory ("embedded") or an empty one ("memory", no path).
    #[staticmethod]
    #[pyo3(signature = (path, engine))]
    fn open(py: Python<'_>, path: Option<&str>, engine: &str) -> PyResult<PyKvStore> {
        let store = py.detach(|| match (engine, path) {
            ("memory", None) => Ok(AnyStore::Memory(MemoryStore::new())),
            ("embedded", Some(path)) => {
                EmbeddedStore::open(Path::new(path)).map(AnyStore::Embedded)
            }
            ("memory", Some(_)) => Err(Error::invalid("the memory engine takes no path")),
            ("embedded", None) => Err(Error::invalid("the embedded engine needs a path")),
            _ => Err(Error::invalid("no such store engine: \"embedded\" or \"memory\"")
                .with("engine", engine)),
        });
        let store = store.into_python()?;
        let runtime = sys::task::runtime("kv-store", 1)
            .map_err(|error| Error::io(&error, "start a runtime"))
            .into_python()?;
        let open = OpenStore { store, runtime: Arc::new(runtime) };
        Ok(PyKvStore { open: Mutex::new(Some(open)) })
    }

    /// Begins a transaction that reads one consistent, durable state.
    fn begin(&self) -> PyResult<PyKvTransaction> {
        let open = self.open.lock().clone().ok_or_else(|| closed("the store is closed"));
        let open = open.into_python()?;
        let transaction = open.store.begin();
        Ok(PyKvTransaction { inner: Mutex::new(Some((transaction, open.runtime))) })
    }

    /// Refuses further transactions and waits for the commits that were accepted. The directory is
    /// free once every transaction has ended, too. Closing twice is fine.
    fn close(&self, py: Python<'_>) {
        let open = self.open.lock().take();
        py.detach(|| {
            if let Some(open) = open {
                open.store.close();
            }
        });
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }
}

/// One transaction. It ends with `commit`, or is forgotten.
#[pyclass(name = "KvTransaction", module = "firepond._native", frozen)]
struct PyKvTransaction {
    inner: Mutex<Option<(AnyTransaction, Arc<Runtime>)>>,
}

impl PyKvTransaction {
    /// Runs `work` on the transaction, detached from the interpreter.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut AnyTransaction, &Runtime) -> firepond_core::Result<T> + Send,
    ) -> PyResult<T> {
        let result = py.detach(|| {
            let mut inner = self.inner.lock();
            let (transaction, runtime) =
                inner.as_mut().ok_or_else(|| closed("the transaction has ended"))?;
            work(transaction, runtime)
        });
        result.into_python()
    }
}

#[pymethods]
impl PyKvTransaction {
    /// The value of a key; adds the key to the read conflicts.
    fn get<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let value = self.with(py, |transaction, runtime| runtime.block_on(transaction.get(key)))?;
        Ok(value.map(|bytes| PyBytes::new(py, &bytes)))
    }

    /// Pairs from `start` up to but not including `end`; adds what was looked at to the conflicts.
    #[pyo3(signature = (start, end, limit=1000, reverse=false))]
    fn range<'py>(
        &self,
        py: Python<'py>,
        start: &[u8],
        end: &[u8],
        limit: usize,
        reverse: bool,
    ) -> PyResult<Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>> {
        let keys = start.to_vec()..end.to_vec();
        let query = RangeQuery { keys, limit, reverse, snapshot: false };
        let pairs =
            self.with(py, |transaction, runtime| runtime.block_on(transaction.get_range(query)))?;
        let to_python = |(key, value): (bytes::Bytes, bytes::Bytes)| {
            (PyBytes::new(py, &key), PyBytes::new(py, &value))
        };
        Ok(pairs.into_iter().map(to_python).collect())
    }

    /// Sets a key.
    fn set(&self, py: Python<'_>, key: &[u8], value: &[u8]) -> PyResult<()> {
        self.with(py, |transaction, _| {
            transaction.set(key, value);
            Ok(())
        })
    }

    /// Removes a key.
    fn clear(&self, py: Python<'_>, key: &[u8]) -> PyResult<()> {
        self.with(py, |transaction, _| {
            transaction.clear(key);
            Ok(())
        })
    }

    /// Removes all keys from `start` up to but not including `end`.
    fn clear_range(&self, py: Python<'_>, start: &[u8], end: &[u8]) -> PyResult<()> {
        self.with(py, |transaction, _| {
            transaction.clear_range(start.to_vec()..end.to_vec());
            Ok(())
        })
    }

    /// Ends the transaction; returns its version once it is durable. Raises `TransactionConflict`
    /// or `TransactionMaybeCommitted`.
    fn commit(&self, py: Python<'_>) -> PyResult<u64> {
        let result = py.detach(|| {
            let inner = self.inner.lock().take();
            let (transaction, runtime) =
                inner.ok_or_else(|| closed("the transaction has ended"))?;
            match runtime.block_on(transaction.commit())? {
                CommitOutcome::Committed(version) => Ok(version),
                CommitOutcome::Conflict => Err(Error::new(ErrorKind::TransactionConflict, "")),
                CommitOutcome::MaybeCommitted => {
                    Err(Error::new(ErrorKind::TransactionMaybeCommitted, ""))
                }
            }
        });
        result.into_python()
    }
}

/// Adds this part's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyKvStore>()?;
    module.add_class::<PyKvTransaction>()
}
