//! The FUSE mount.

use crate::connection::{Connection, PyConnection};
use crate::error::IntoPython;
use firepond_client::file_system::{FileSystem, FileSystemOptions};
use firepond_client::fuse::{Mount, MountOptions};
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A setting as Python gives it.
#[derive(FromPyObject)]
enum Setting {
    #[pyo3(transparent)]
    Number(u64),
    #[pyo3(transparent)]
    Text(String),
}

/// The file system of a cluster as a directory of this machine.
#[pyclass(name = "Mount", module = "firepond._native", frozen)]
pub(crate) struct PyMount {
    connection: Arc<Connection>,
    mount_point: PathBuf,
    settings: Settings,
    mount: Mutex<Option<Arc<Mount>>>,
}

#[derive(Clone, Default)]
struct Settings {
    mount: MountOptions,
    file_system: FileSystemOptions,
}

impl PyMount {
    fn started(&self) -> PyResult<Arc<Mount>> {
        let missing = || Error::new(ErrorKind::Closed, "the mount was not started");
        self.mount.lock().clone().ok_or_else(missing).into_python()
    }

    fn open(&self) -> Result<Mount> {
        let runtime = self.connection.runtime();
        let file_system = {
            let _inside = runtime.enter();
            let peers = self.connection.peers().clone();
            FileSystem::new(peers, self.settings.file_system.clone())
        };
        let options = self.settings.mount.clone();
        Mount::start(file_system, runtime.handle().clone(), &self.mount_point, options)
    }
}

#[pymethods]
impl PyMount {
    #[new]
    fn new(
        connection: &PyConnection,
        mount_point: PathBuf,
        options: HashMap<String, Setting>,
    ) -> PyResult<PyMount> {
        let settings = Settings::from_options(options).into_python()?;
        let connection = connection.get()?;
        Ok(PyMount { connection, mount_point, settings, mount: Mutex::new(None) })
    }

    /// Mounts; requests are served from then on.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            let mut slot = self.mount.lock();
            if slot.is_some() {
                return Err(Error::invalid("the mount was started before"));
            }
            *slot = Some(Arc::new(self.open()?));
            Ok(())
        })
        .into_python()
    }

    /// Waits until the mount has ended and all data is written out, at most `timeout_ms`; says
    /// whether it has ended.
    fn wait(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<bool> {
        let mount = self.started()?;
        py.detach(|| mount.wait(std::time::Duration::from_millis(timeout_ms))).into_python()
    }

    /// Takes the mount point away; `MountBusy` while it is in use, unless `detach` is set.
    #[pyo3(signature = (detach=false))]
    fn unmount(&self, py: Python<'_>, detach: bool) -> PyResult<()> {
        let mount = self.started()?;
        py.detach(|| mount.unmount(detach)).into_python()
    }

    /// What it is doing, as a dictionary.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let status = self.started()?.status();
        let found = PyDict::new(py);
        found.set_item("mount_point", status.mount_point)?;
        found.set_item("running", status.running)?;
        found.set_item("open_file_count", status.open_file_count)?;
        found.set_item("open_directory_count", status.open_directory_count)?;
        found.set_item("inode_count", status.inode_count)?;
        found.set_item("read_bytes", status.read_bytes)?;
        found.set_item("written_bytes", status.written_bytes)?;
        Ok(found)
    }
}

impl Settings {
    fn from_options(options: HashMap<String, Setting>) -> Result<Settings> {
        let mut settings = Settings::default();
        // The mount's own read-ahead is the kernel's: a second one below it would only copy.
        settings.file_system.read_ahead_max_bytes = 0;
        for (name, value) in options {
            settings.set(&name, value)?;
        }
        settings.file_system.attributes_valid_ms = settings.mount.attribute_timeout_ms;
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: Setting) -> Result<()> {
        let (mount, files) = (&mut self.mount, &mut self.file_system);
        match (name, value) {
            ("source", Setting::Text(text)) => mount.source = text,
            ("allow_other", Setting::Number(number)) => mount.allow_other = number != 0,
            ("read_only", Setting::Number(number)) => mount.read_only = number != 0,
            ("thread_count", Setting::Number(number @ 1..=64)) => {
                mount.thread_count = number as usize;
            }
            ("attribute_timeout_ms", Setting::Number(number)) => {
                mount.attribute_timeout_ms = number;
            }
            ("entry_timeout_ms", Setting::Number(number)) => mount.entry_timeout_ms = number,
            ("operation_timeout_ms", Setting::Number(number @ 1..)) => {
                files.operation_timeout_ms = number;
            }
            ("read_ahead_max_bytes", Setting::Number(number)) => {
                files.read_ahead_max_bytes = number as usize;
            }
            (name, _) => {
                return Err(Error::new(ErrorKind::ConfigInvalid, "no such setting of a mount")
                    .with("key", name));
            }
        }
        Ok(())
    }
}

/// Takes a mount point away, whoever serves it; `MountBusy` while it is in use.
#[pyfunction]
#[pyo3(signature = (mount_point, detach=false))]
fn unmount(py: Python<'_>, mount_point: PathBuf, detach: bool) -> PyResult<()> {
    py.detach(|| firepond_client::fuse::unmount(&mount_point, detach)).into_python()
}

/// Adds this part's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(unmount, module)?)?;
    module.add_class::<PyMount>()
}
