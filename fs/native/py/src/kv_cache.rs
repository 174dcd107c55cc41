//! The KV tier.
//!
//! Every method takes a batch, blocks until it is settled or its time is over, detached from the
//! interpreter, and answers with one entry a key. Wrong arguments raise; what happens to single
//! keys never does. Keys are bytes here; the public face (`firepond.client.kv`) is friendlier.

use crate::connection::{Connection, PyConnection};
use crate::error::{IntoPython, to_python};
use crate::lent_buffer::{LentBuffer, release_returned};
use bytes::Bytes;
use firepond_client::kv::{KeyDigest, KvCache, KvRead, PutOutcome};
use firepond_core::sys::clock::{Instant, now};
use firepond_core::transport::SinkSlice;
use firepond_core::transport::tcp::on_waiting_thread;
use firepond_core::{Error, ErrorKind};
use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::sync::Arc;
use std::time::Duration;

/// An open namespace.
#[pyclass(name = "KvCache", module = "firepond._native", frozen)]
struct PyKvCache {
    open: Mutex<Option<Arc<OpenCache>>>,
}

struct OpenCache {
    /// Before the connection, which must be the last to let the peers go.
    cache: KvCache,
    connection: Arc<Connection>,
}

fn deadline(timeout_ms: u64) -> Instant {
    now() + Duration::from_millis(timeout_ms.min(24 * 3600 * 1000))
}

/// A new bytes object of `len` bytes whose content is to be written.
fn new_bytes<'py>(py: Python<'py>, len: usize) -> PyResult<(Bound<'py, PyBytes>, *mut u8)> {
    let signed = isize::try_from(len).map_err(|_| Error::invalid("a length above the limit"));
    let signed = signed.into_python()?;
    // SAFETY: a null source leaves the content to us; the result is a new reference or an error.
    let object = unsafe {
        let pointer = ffi::PyBytes_FromStringAndSize(std::ptr::null(), signed);
        Bound::from_owned_ptr_or_err(py, pointer)?
    };
    // SAFETY: it is a bytes object, and nobody else knows it yet.
    let address = unsafe { ffi::PyBytes_AsString(object.as_ptr()).cast::<u8>() };
    Ok((object.cast_into::<PyBytes>()?, address))
}

impl PyKvCache {
    fn get_open(&self, py: Python<'_>) -> PyResult<Arc<OpenCache>> {
        release_returned(py);
        let closed = || Error::new(ErrorKind::Closed, "the namespace is closed");
        self.open.lock().clone().ok_or_else(closed).into_python()
    }
}

impl OpenCache {
    fn digests(&self, keys: &[Bound<'_, PyBytes>]) -> PyResult<Vec<KeyDigest>> {
        keys.iter().map(|key| self.cache.digest(key.as_bytes()).into_python()).collect()
    }

    fn entries(
        &self,
        keys: &[Bound<'_, PyBytes>],
        values: &[Bound<'_, PyAny>],
    ) -> PyResult<Vec<(KeyDigest, Bytes)>> {
        require_equal(keys.len(), values.len())?;
        let entry = |(key, value)| Ok((key, Bytes::from_owner(LentBuffer::new(value, false)?)));
        self.digests(keys)?.into_iter().zip(values).map(entry).collect()
    }

    fn reads(
        &self,
        keys: &[Bound<'_, PyBytes>],
        buffers: &[Bound<'_, PyAny>],
    ) -> PyResult<Vec<KvRead>> {
        require_equal(keys.len(), buffers.len())?;
        let read = |(key, buffer)| {
            let lent = Arc::new(LentBuffer::new(buffer, true)?);
            let (address, len) = (lent.address(), lent.len());
            // SAFETY: writable memory that `lent` keeps in place; the caller lends it exclusively.
            let sink = unsafe { SinkSlice::new(address, len, lent) };
            Ok(KvRead { key, sink })
        };
        self.digests(keys)?.into_iter().zip(buffers).map(read).collect()
    }

    fn run<T: Send>(&self, py: Python<'_>, future: impl Future<Output = T> + Send) -> T {
        py.detach(|| on_waiting_thread(|| self.connection.runtime().block_on(future)))
    }
}

fn require_equal(keys: usize, others: usize) -> PyResult<()> {
    if keys == others {
        return Ok(());
    }
    let error = Error::invalid("there must be as many keys as values or buffers");
    Err(error.with("keys", keys).with("others", others)).into_python()
}

fn exception<'py>(py: Python<'py>, error: &Error) -> Bound<'py, PyAny> {
    to_python(error).into_value(py).into_bound(py).into_any()
}

#[pymethods]
impl PyKvCache {
    /// Opens a namespace that exists or is about to appear in routing.
    #[staticmethod]
    fn open(
        py: Python<'_>,
        connection: &PyConnection,
        namespace: &str,
        timeout_ms: u64,
    ) -> PyResult<PyKvCache> {
        let connection = connection.get()?;
        let peers = connection.peers().clone();
        let opening = KvCache::open(peers, namespace, deadline(timeout_ms));
        let cache = py.detach(|| connection.runtime().block_on(opening)).into_python()?;
        Ok(PyKvCache { open: Mutex::new(Some(Arc::new(OpenCache { cache, connection }))) })
    }

    /// Publishes values. Per key: True when it was stored, False when it existed, or an exception.
    fn put<'py>(
        &self,
        py: Python<'py>,
        keys: Vec<Bound<'py, PyBytes>>,
        values: Vec<Bound<'py, PyAny>>,
        timeout_ms: u64,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let open = self.get_open(py)?;
        let entries = open.entries(&keys, &values).inspect_err(|_| release_returned(py))?;
        let outcomes = open.run(py, open.cache.put(entries, deadline(timeout_ms)));
        release_returned(py);
        let to_object = |outcome: firepond_core::Result<PutOutcome>| match outcome {
            Ok(outcome) => {
                let stored = outcome == PutOutcome::Stored;
                Ok(stored.into_pyobject(py)?.to_owned().into_any())
            }
            Err(error) => Ok(exception(py, &error)),
        };
        outcomes.into_iter().map(to_object).collect()
    }

    /// Reads values into writable buffers. Per key: the size of the value, or None.
    fn get_into(
        &self,
        py: Python<'_>,
        keys: Vec<Bound<'_, PyBytes>>,
        buffers: Vec<Bound<'_, PyAny>>,
        timeout_ms: u64,
    ) -> PyResult<Vec<Option<u32>>> {
        let open = self.get_open(py)?;
        let reads = open.reads(&keys, &buffers).inspect_err(|_| release_returned(py))?;
        let sizes = open.run(py, open.cache.get(reads, deadline(timeout_ms)));
        release_returned(py);
        Ok(sizes)
    }

    /// Reads values into new bytes objects. Per key: the value, or None. Asks for the sizes first.
    fn get<'py>(
        &self,
        py: Python<'py>,
        keys: Vec<Bound<'py, PyBytes>>,
        timeout_ms: u64,
    ) -> PyResult<Vec<Option<Bound<'py, PyBytes>>>> {
        let open = self.get_open(py)?;
        let digests = open.digests(&keys)?;
        let deadline = deadline(timeout_ms);
        let sizes = open.run(py, open.cache.sizes(&digests, deadline));
        let mut values: Vec<Option<Bound<'py, PyBytes>>> = vec![None; keys.len()];
        let mut places = Vec::new();
        let mut reads = Vec::new();
        for (place, (key, size)) in digests.into_iter().zip(sizes).enumerate() {
            let Some(len) = size.map(|size| size as usize) else { continue };
            let (object, address) = new_bytes(py, len)?;
            values[place] = Some(object);
            places.push(place);
            // SAFETY: `values` keeps the object beyond the call, and nobody else knows it.
            let sink = unsafe { SinkSlice::new(address, len, Arc::new(())) };
            reads.push(KvRead { key, sink });
        }
        open.cache.note_absent(keys.len() - reads.len());
        let found = open.run(py, open.cache.get(reads, deadline));
        for (place, found) in places.into_iter().zip(found) {
            let value = values[place].take();
            values[place] = value.zip(found).map(|(value, len)| {
                // A value that was removed and written anew between the two steps may be shorter.
                let len = len as usize;
                let whole = value.as_bytes().len() == len;
                if whole { value } else { PyBytes::new(py, &value.as_bytes()[..len]) }
            });
        }
        Ok(values)
    }

    /// Per key: the size of its value, or None.
    fn sizes(
        &self,
        py: Python<'_>,
        keys: Vec<Bound<'_, PyBytes>>,
        timeout_ms: u64,
    ) -> PyResult<Vec<Option<u32>>> {
        let open = self.get_open(py)?;
        let digests = open.digests(&keys)?;
        Ok(open.run(py, open.cache.sizes(&digests, deadline(timeout_ms))))
    }

    /// How many leading keys have a value.
    fn match_prefix(
        &self,
        py: Python<'_>,
        keys: Vec<Bound<'_, PyBytes>>,
        timeout_ms: u64,
    ) -> PyResult<usize> {
        let open = self.get_open(py)?;
        let digests = open.digests(&keys)?;
        Ok(open.run(py, open.cache.match_prefix(&digests, deadline(timeout_ms))))
    }

    /// Removes values. Per key: None, or an exception.
    fn delete<'py>(
        &self,
        py: Python<'py>,
        keys: Vec<Bound<'py, PyBytes>>,
        timeout_ms: u64,
    ) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let open = self.get_open(py)?;
        let digests = open.digests(&keys)?;
        let outcomes = open.run(py, open.cache.delete(&digests, deadline(timeout_ms)));
        Ok(outcomes.into_iter().map(|one| one.err().map(|error| exception(py, &error))).collect())
    }

    /// Counts since the namespace was opened.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.get_open(py)?.cache.stats();
        let counts = PyDict::new(py);
        counts.set_item("hit_count", stats.hit_count)?;
        counts.set_item("miss_count", stats.miss_count)?;
        counts.set_item("read_failure_count", stats.read_failure_count)?;
        counts.set_item("stored_count", stats.stored_count)?;
        counts.set_item("exists_count", stats.exists_count)?;
        counts.set_item("deleted_count", stats.deleted_count)?;
        counts.set_item("update_failure_count", stats.update_failure_count)?;
        counts.set_item("read_bytes", stats.read_bytes)?;
        counts.set_item("stored_bytes", stats.stored_bytes)?;
        counts.set_item("last_error", stats.last_error)?;
        Ok(counts)
    }

    /// Lets the namespace go; calls that run end first.
    fn close(&self) {
        drop(self.open.lock().take());
    }
}

/// Adds this part's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyKvCache>()
}
