//! Paths and open files of a cluster. Paths are absolute and are bytes.

use super::attributes::PathBytes;
use super::buffers::Exported;
use super::call::{IntoObject, Shared};
use super::file::{Opened, PyFile};
use super::opening::{self, OpenFlags};
use crate::connection::PyConnection;
use crate::error::to_python;
use firepond_client::file_system::{FileSystem, FileSystemOptions};
use firepond_core::ids::InodeId;
use firepond_core::wire::meta::{AttributeChanges, Credentials, InodeKind, RenameMode, TimeUpdate};
use firepond_core::{Error, Result};
use pyo3::prelude::*;
use std::sync::Arc;

/// A client of the files of a cluster.
#[pyclass(name = "FileClient", module = "firepond._native", frozen)]
pub(crate) struct PyFileClient {
    shared: Arc<Shared>,
}

/// The results of a batch of reads: a number, or the error of that read.
struct BatchRead(Vec<Result<usize>>);

impl IntoObject for BatchRead {
    fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let list = pyo3::types::PyList::empty(py);
        for result in self.0 {
            match result {
                Ok(count) => list.append(count)?,
                Err(error) => list.append(to_python(&error).into_value(py))?,
            }
        }
        Ok(list.into_any().unbind())
    }
}

#[pymethods]
impl PyFileClient {
    /// A client over a connection, acting as a user.
    #[new]
    #[pyo3(signature = (connection, uid, gid, groups, operation_timeout_ms=30_000))]
    fn new(
        connection: &PyConnection,
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
        operation_timeout_ms: u64,
    ) -> PyResult<PyFileClient> {
        let connection = connection.get()?;
        let options = FileSystemOptions { operation_timeout_ms, ..FileSystemOptions::default() };
        let files = {
            let _inside = connection.runtime().enter();
            FileSystem::new(connection.peers().clone(), options)
        };
        let who = Credentials { uid, gid, groups };
        Ok(PyFileClient { shared: Arc::new(Shared::new(connection, files, who)) })
    }

    /// Opens a file → `File`.
    #[pyo3(signature = (path, read, write, create, exclusive, truncate, mode, chunk_size_bytes=0,
                        stripe_count=0, done=None))]
    #[expect(clippy::too_many_arguments, reason = "open(2)'s flags, by name")]
    fn open(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        read: bool,
        write: bool,
        create: bool,
        exclusive: bool,
        truncate: bool,
        mode: u32,
        chunk_size_bytes: u32,
        stripe_count: u32,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let flags = OpenFlags {
            read,
            write,
            create,
            exclusive,
            truncate,
            mode,
            chunk_size_bytes,
            stripe_count,
        };
        let shared = Arc::clone(&self.shared);
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move {
            let file = opening::open(&files, &who, &path, flags).await?;
            Ok(Opened { shared, file })
        })
    }

    /// The attributes of what a path leads to.
    #[pyo3(signature = (path, follow, done=None))]
    fn stat(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        follow: bool,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move { files.resolve(&who, &path, follow).await })
    }

    /// Changes what is given; times are nanoseconds since 1970, and −1 is the server's clock.
    #[pyo3(signature = (path, follow, mode=None, uid=None, gid=None, size=None, accessed_ns=None,
                        modified_ns=None, done=None))]
    #[expect(clippy::too_many_arguments, reason = "the attributes, by name")]
    fn set_attributes(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        follow: bool,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed_ns: Option<i64>,
        modified_ns: Option<i64>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let changes = AttributeChanges {
            mode,
            uid,
            gid,
            size_bytes: size,
            accessed: accessed_ns.map(time_update),
            modified: modified_ns.map(time_update),
        };
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move {
            files.set_attributes_at(&who, &path, follow, changes).await
        })
    }

    /// mkdir.
    #[pyo3(signature = (path, mode, done=None))]
    fn make_directory(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        mode: u32,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move { files.make_directory_at(&who, &path, mode).await })
    }

    /// rmdir.
    #[pyo3(signature = (path, done=None))]
    fn remove_directory(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move { files.remove_directory_at(&who, &path).await })
    }

    /// Removes a name of a file or symbolic link.
    #[pyo3(signature = (path, done=None))]
    fn unlink(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move { files.unlink_at(&who, &path).await })
    }

    /// Renames; without `replace` an existing destination is an error.
    #[pyo3(signature = (path, new_path, replace, done=None))]
    fn rename(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        new_path: Vec<u8>,
        replace: bool,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let mode = if replace { RenameMode::Replace } else { RenameMode::NoReplace };
        let (files, who) = self.parts()?;
        self.shared.run(
            py,
            done,
            async move { files.rename_at(&who, &path, &new_path, mode).await },
        )
    }

    /// Gives two names each other's file or directory.
    #[pyo3(signature = (path, new_path, done=None))]
    fn exchange(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        new_path: Vec<u8>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move {
            files.rename_at(&who, &path, &new_path, RenameMode::Exchange).await
        })
    }

    /// A second name of a file.
    #[pyo3(signature = (path, new_path, done=None))]
    fn link(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        new_path: Vec<u8>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move { files.link_at(&who, &path, &new_path).await })
    }

    /// Makes a symbolic link.
    #[pyo3(signature = (target, path, done=None))]
    fn make_symlink(
        &self,
        py: Python<'_>,
        target: Vec<u8>,
        path: Vec<u8>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move { files.make_symlink_at(&who, &target, &path).await })
    }

    /// The target of a symbolic link.
    #[pyo3(signature = (path, done=None))]
    fn read_link(
        &self,
        py: Python<'_>,
        path: Vec<u8>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move {
            let found = files.resolve(&who, &path, false).await?;
            if found.kind != InodeKind::Symlink {
                return Err(Error::invalid("not a symbolic link").with("inode", found.inode));
            }
            files.read_link(&who, found.inode).await.map(PathBytes)
        })
    }

    /// A page of a directory after a name → (entries, whether there are more).
    #[pyo3(signature = (inode, after, limit, attributes, done=None))]
    fn read_directory(
        &self,
        py: Python<'_>,
        inode: u64,
        after: Option<Vec<u8>>,
        limit: u32,
        attributes: bool,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move {
            files.read_directory(&who, InodeId(inode), after, limit, attributes).await
        })
    }

    /// (bytes in all, bytes free, inodes in use), divided by the number of replicas.
    #[pyo3(signature = (done=None))]
    fn stat_file_system(&self, py: Python<'_>, done: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let (files, who) = self.parts()?;
        self.shared.run(py, done, async move { files.stat_file_system(&who).await })
    }

    /// Reads of (file, offset, buffer) in one batch → per read its bytes, or its exception.
    #[pyo3(signature = (reads, done=None))]
    fn read_batch(
        &self,
        py: Python<'_>,
        reads: Vec<(Bound<'_, PyFile>, u64, Bound<'_, PyAny>)>,
        done: Option<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (files, _) = self.parts()?;
        let mut batch = Vec::with_capacity(reads.len());
        for (file, offset, buffer) in &reads {
            let sinks = Exported::writable(buffer)?.into_sinks();
            batch.push((Arc::clone(&file.get().file), *offset, sinks));
        }
        self.shared.run(py, done, async move { Ok(BatchRead(files.read_batch(batch).await)) })
    }

    /// Sends everything that is not sent yet and ends the session.
    #[pyo3(signature = (done=None))]
    fn shutdown(&self, py: Python<'_>, done: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        let (files, _) = self.parts()?;
        self.shared.run(py, done, async move { files.shutdown().await })
    }
}

impl PyFileClient {
    fn parts(&self) -> PyResult<(FileSystem, Credentials)> {
        Ok((self.shared.files()?.clone(), self.shared.who.clone()))
    }
}

fn time_update(time_ns: i64) -> TimeUpdate {
    u64::try_from(time_ns).map_or(TimeUpdate::Now, TimeUpdate::At)
}
