//! Memory of Python objects, lent to native operations without a copy.
//!
//! Invariants: an exported buffer keeps its object alive and its memory in place; it is released
//! when the last operation that uses it has ended, on whatever thread that is.

use crate::error::to_python;
use firepond_core::transport::SinkSlice;
use firepond_core::{Error, ErrorKind};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Arc;

/// An exported, C-contiguous buffer of any element type.
pub(super) struct Exported {
    _buffer: PyUntypedBuffer,
    address: *mut u8,
    len: usize,
}

// SAFETY: the memory is plain bytes that the export keeps in place; releasing attaches by itself.
unsafe impl Send for Exported {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Exported {}

impl Exported {
    /// Exports an object's memory.
    ///
    /// # Errors
    /// `BufferError` and `TypeError` of the object; `InvalidArgument` when it is not contiguous.
    pub(super) fn new(object: &Bound<'_, PyAny>) -> PyResult<Exported> {
        let buffer = PyUntypedBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(to_python(&Error::invalid("the buffer is not C-contiguous")));
        }
        let (address, len) = (buffer.buf_ptr().cast::<u8>(), buffer.len_bytes());
        Ok(Exported { _buffer: buffer, address, len })
    }

    /// Exports memory that is to be written.
    ///
    /// # Errors
    /// As `new`; `InvalidArgument` when it is read-only.
    pub(super) fn writable(object: &Bound<'_, PyAny>) -> PyResult<Exported> {
        let exported = Exported::new(object)?;
        if exported._buffer.readonly() {
            return Err(to_python(&Error::invalid("the buffer is read-only")));
        }
        Ok(exported)
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The bytes. The caller of the SDK promises not to change them while the operation runs; the
    /// same promise that `os.write` needs.
    pub(super) fn as_slice(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the export keeps `len` bytes at `address` valid while self lives.
        unsafe { std::slice::from_raw_parts(self.address, self.len) }
    }

    /// The memory as the destination of a read.
    pub(super) fn into_sinks(self) -> Vec<SinkSlice> {
        if self.len == 0 {
            return Vec::new();
        }
        let (address, len) = (self.address, self.len);
        // SAFETY: the owner keeps the export, and so the memory, until the last slice is gone; that
        // nobody else uses it meanwhile is what the SDK asks of its caller, as `readinto` does.
        vec![unsafe { SinkSlice::new(address, len, Arc::new(self)) }]
    }
}

/// A bytes object that is being filled: nobody else has seen it yet.
pub(super) struct FreshBytes {
    object: Py<PyBytes>,
    address: *mut u8,
    len: usize,
}

// SAFETY: the object is referenced only here until `finish`, and its memory does not move.
unsafe impl Send for FreshBytes {}
// SAFETY: as above.
unsafe impl Sync for FreshBytes {}

impl FreshBytes {
    /// A bytes object of `len` arbitrary bytes.
    ///
    /// # Errors
    /// `MemoryError`; `InvalidArgument` when the length is beyond what an object can have.
    pub(super) fn new(py: Python<'_>, len: usize) -> PyResult<FreshBytes> {
        let size = ffi::Py_ssize_t::try_from(len).map_err(|_| {
            to_python(&Error::new(ErrorKind::InvalidArgument, "too long").with("len", len))
        })?;
        // SAFETY: a null pointer asks for an object with uninitialised contents, which CPython lets
        // its maker fill before anyone else sees it.
        let object: Py<PyAny> = unsafe {
            let pointer = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
            Bound::from_owned_ptr_or_err(py, pointer)?.unbind()
        };
        // SAFETY: the object was just made as a bytes object.
        let address = unsafe { ffi::PyBytes_AsString(object.as_ptr()) }.cast::<u8>();
        let object = object.bind(py).cast::<PyBytes>()?.clone().unbind();
        Ok(FreshBytes { object, address, len })
    }

    /// The memory as the destination of a read; `owner` keeps it.
    pub(super) fn sinks(owner: &Arc<FreshBytes>) -> Vec<SinkSlice> {
        if owner.len == 0 {
            return Vec::new();
        }
        let owned: Arc<FreshBytes> = Arc::clone(owner);
        // SAFETY: the owner keeps the object, which nobody else has seen.
        vec![unsafe { SinkSlice::new(owner.address, owner.len, owned) }]
    }

    /// The object, cut to the bytes that were read.
    pub(super) fn finish(&self, py: Python<'_>, count: usize) -> Py<PyAny> {
        if count == self.len {
            return self.object.clone_ref(py).into_any();
        }
        PyBytes::new(py, &self.object.as_bytes(py)[..count]).into_any().unbind()
    }
}
