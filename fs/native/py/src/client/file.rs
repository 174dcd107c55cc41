//! One open file, for Python's I/O classes.

use super::buffers::{Exported, FreshBytes};
use super::call::{IntoObject, Shared};
use crate::error::to_python;
use firepond_client::file_system::OpenFile;
use firepond_core::Error;
use firepond_core::wire::meta::AttributeChanges;
use pyo3::prelude::*;
use std::mem::ManuallyDrop;
use std::sync::Arc;

/// An open file. Offsets and lengths are bytes.
#[pyclass(name = "File", module = "firepond._native", frozen)]
pub(crate) struct PyFile {
    pub(super) shared: Arc<Shared>,
    pub(super) file: ManuallyDrop<Arc<OpenFile>>,
}

/// An open file on its way to Python.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    pub(super) file: Arc<OpenFile>,
}

/// A read up to this long may ask for more than the file is known to have.
const LENGTH_MODERATE_BYTES: u64 = 64 << 20;

impl IntoObject for Opened {
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let file = PyFile { shared: self.shared, file: ManuallyDrop::new(self.file) };
        Ok(Py::new(py, file)?.into_any())
    }
}

/// A bytes object and how much of it was read.
struct BytesRead(Arc<FreshBytes>, usize);

impl IntoObject for BytesRead {
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.0.finish(py, self.1))
    }
}

#[pymethods]
impl PyFile {
    /// Reads up to `length` bytes; fewer only at the end of the file.
    #[pyo3(signature = (offset, length, done=None))]
    fn pread(
        &self,
        py: Python<'_>,
        offset: u64,
        length: usize,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.shared.files()?;
        // No longer than the file is known to be: the object is then filled to the last byte and
        // never copied. Its end may have moved since, so moderate lengths are taken as they come.
        let rest = self.file.attributes().size_bytes.saturating_sub(offset);
        let rest = rest.max(LENGTH_MODERATE_BYTES);
        let length = length.min(usize::try_from(rest).unwrap_or(usize::MAX));
        let bytes = Arc::new(FreshBytes::new(py, length)?);
        let file = Arc::clone(&self.file);
        self.shared.run(py, done, async move {
            let count = file.read_into(offset, FreshBytes::sinks(&bytes)).await?;
            Ok(BytesRead(bytes, count))
        })
    }

    /// Fills a writable buffer; returns the number of bytes, short only at the end of the file.
    #[pyo3(signature = (offset, buffer, done=None))]
    fn readinto(
        &self,
        py: Python<'_>,
        offset: u64,
        buffer: &Bound<'_, PyAny>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let sinks = Exported::writable(buffer)?.into_sinks();
        let file = Arc::clone(&self.file);
        self.shared.run(py, done, async move { file.read_into(offset, sinks).await })
    }

    /// Takes a buffer's bytes in; returns their number. They are durable after `flush`.
    #[pyo3(signature = (offset, buffer, done=None))]
    fn pwrite(
        &self,
        py: Python<'_>,
        offset: u64,
        buffer: &Bound<'_, PyAny>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let bytes = Exported::new(buffer)?;
        let file = Arc::clone(&self.file);
        self.shared.run(py, done, async move {
            file.write_slice(offset, bytes.as_slice()).await?;
            Ok(bytes.len())
        })
    }

    /// Takes bytes in at the end of the file; returns the offset after them.
    #[pyo3(signature = (buffer, done=None))]
    fn append(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let bytes = Exported::new(buffer)?;
        let file = Arc::clone(&self.file);
        self.shared.run(py, done, async move {
            let offset = file.append_slice(bytes.as_slice()).await?;
            Ok(offset + bytes.len() as u64)
        })
    }

    /// Returns when all bytes written so far are durable on every replica.
    #[pyo3(signature = (done=None))]
    fn flush(&self, py: Python<'_>, done: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let file = Arc::clone(&self.file);
        self.shared.run(py, done, async move { file.flush().await })
    }

    /// fsync: `flush`, and length and times are settled.
    #[pyo3(signature = (done=None))]
    fn sync(&self, py: Python<'_>, done: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let file = Arc::clone(&self.file);
        self.shared.run(py, done, async move { file.sync().await })
    }

    /// Flushes and gives the file back. A second call does nothing.
    #[pyo3(signature = (done=None))]
    fn close(&self, py: Python<'_>, done: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let file = Arc::clone(&self.file);
        self.shared.run(py, done, async move { file.close().await })
    }

    /// Makes a range zeros, as far as the file reaches; whole chunks of it take no more space.
    #[pyo3(signature = (offset, length, done=None))]
    fn punch_hole(
        &self,
        py: Python<'_>,
        offset: u64,
        length: u64,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let file = Arc::clone(&self.file);
        self.shared.run(py, done, async move { file.punch_hole(offset, length).await })
    }

    /// Cuts or extends the file with zeros.
    #[pyo3(signature = (size, done=None))]
    fn truncate(&self, py: Python<'_>, size: u64, done: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        if !self.file.writable() {
            return Err(to_python(&Error::invalid("the file is not open for writing")));
        }
        let (files, inode) = (self.shared.files()?.clone(), self.file.inode());
        let who = self.shared.who.clone();
        let changes = AttributeChanges { size_bytes: Some(size), ..AttributeChanges::default() };
        self.shared.run(py, done, async move { files.set_attributes(&who, inode, changes).await })
    }

    /// The attributes of the open file, asked of the service.
    #[pyo3(signature = (done=None))]
    fn stat(&self, py: Python<'_>, done: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let (files, inode) = (self.shared.files()?.clone(), self.file.inode());
        let who = self.shared.who.clone();
        self.shared.run(py, done, async move { files.attributes(&who, inode).await })
    }

    /// The size in bytes as this client knows it, its own unsent writes included.
    #[getter]
    fn size(&self) -> u64 {
        self.file.attributes().size_bytes
    }

    /// The inode number.
    #[getter]
    fn inode(&self) -> u64 {
        self.file.inode().0
    }
}

impl Drop for PyFile {
    fn drop(&mut self) {
        if !self.shared.is_ours() {
            return;
        }
        // SAFETY: taken once, here, and never used again.
        let file = unsafe { ManuallyDrop::take(&mut self.file) };
        self.shared.inside(|| drop(file));
    }
}
