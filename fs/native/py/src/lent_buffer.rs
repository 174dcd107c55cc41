//! A caller's buffer, lent to native code while the interpreter runs other things.
//!
//! Why not `PyBuffer` itself: it attaches to the interpreter when it is dropped, and a runtime's
//! thread must never wait for the interpreter. What is dropped here is put aside, and released by
//! the next call that comes from Python.
//! Invariants: the memory is C-contiguous and stays valid and in place until the release; the
//! element type does not matter. The caller promises not to touch the bytes meanwhile; one that
//! does gets a checksum error, not a wrong value.

use parking_lot::Mutex;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

/// Buffers whose last user is gone.
static RETURNED: Mutex<Vec<PyUntypedBuffer>> = Mutex::new(Vec::new());

/// Bytes of a Python object.
pub(crate) struct LentBuffer {
    buffer: Option<PyUntypedBuffer>,
    address: *mut u8,
    len: usize,
}

// SAFETY: the exporter keeps the memory in place until the release; PyUntypedBuffer is Send itself.
unsafe impl Send for LentBuffer {}
// SAFETY: shared references only read.
unsafe impl Sync for LentBuffer {}

impl LentBuffer {
    /// Borrows the memory of any object with the buffer protocol.
    pub(crate) fn new(object: &Bound<'_, PyAny>, writable: bool) -> PyResult<LentBuffer> {
        let buffer = PyUntypedBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("the buffer must be C-contiguous"));
        }
        if writable && buffer.readonly() {
            return Err(PyBufferError::new_err("the buffer must be writable"));
        }
        let (address, len) = (buffer.buf_ptr().cast::<u8>(), buffer.len_bytes());
        // Exporters may give no address for no bytes.
        let address = if len == 0 { std::ptr::NonNull::dangling().as_ptr() } else { address };
        Ok(LentBuffer { buffer: Some(buffer), address, len })
    }

    /// The first byte.
    pub(crate) fn address(&self) -> *mut u8 {
        self.address
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl AsRef<[u8]> for LentBuffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: valid for `len` bytes until the buffer is released, which needs `self` dropped.
        unsafe { std::slice::from_raw_parts(self.address, self.len) }
    }
}

impl Drop for LentBuffer {
    fn drop(&mut self) {
        RETURNED.lock().extend(self.buffer.take());
    }
}

/// Gives the buffers back that native code has let go.
pub(crate) fn release_returned(py: Python<'_>) {
    let returned = std::mem::take(&mut *RETURNED.lock());
    returned.into_iter().for_each(|buffer| buffer.release(py));
}
