//! Logs of the native side: one JSON object a line on standard error, with the keys that the Python
//! side uses (`timestamp`, `level`, `event`, `logger`).

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tracing_subscriber::EnvFilter;

/// Starts logging at a level ("debug", "info", "warning", "error"). Once per process.
#[pyfunction]
fn logging_init(level: &str) -> PyResult<()> {
    let directive = match level {
        "warning" => "warn",
        other => other,
    };
    let filter = EnvFilter::try_new(format!("{directive},fjall=warn,lsm_tree=warn"))
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// Adds this part's functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(logging_init, module)?)
}
