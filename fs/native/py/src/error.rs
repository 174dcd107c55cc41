//! Native errors as the exceptions of `firepond.fs.errors`.

use firepond_core::Error;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception of the error's kind, with message and context. Falls back to `OSError` with errno
/// when the table is not importable, so that an error is never lost.
pub(crate) fn to_python(error: &Error) -> PyErr {
    Python::attach(|py| {
        build(py, error).unwrap_or_else(|_| PyOSError::new_err((error.errno(), error.to_string())))
    })
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let table = py.import("firepond.fs.errors")?.getattr("BY_CODE")?;
    let class = table.get_item(error.kind() as u16)?;
    let context = PyDict::new(py);
    for (name, value) in error.context() {
        context.set_item(name, value)?;
    }
    Ok(PyErr::from_value(class.call1((error.message(), context))?))
}

/// `?` for native results inside Python methods.
pub(crate) trait IntoPython<T> {
    /// The value, or the exception.
    fn into_python(self) -> PyResult<T>;
}

impl<T> IntoPython<T> for firepond_core::Result<T> {
    fn into_python(self) -> PyResult<T> {
        self.map_err(|error| to_python(&error))
    }
}
