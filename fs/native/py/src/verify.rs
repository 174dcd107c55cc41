//! The comparison of replicas, for `firepond admin verify`.

use crate::connection::PyConnection;
use crate::error::IntoPython;
use firepond_client::verify::{Difference, compare_replicas};
use firepond_core::sys::clock;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::time::Duration;

/// Compares all serving replicas of all chains; returns counts and the differences as text.
///
/// Raises what the first replica that cannot be asked answered.
#[pyfunction]
fn verify_replicas<'py>(
    py: Python<'py>,
    connection: &PyConnection,
    timeout_ms: u64,
) -> PyResult<Bound<'py, PyDict>> {
    let connection = connection.get()?;
    let report = py.detach(|| {
        connection.runtime().block_on(async {
            let deadline = clock::now() + Duration::from_millis(timeout_ms);
            compare_replicas(connection.peers(), deadline).await
        })
    });
    let report = report.into_python()?;
    let result = PyDict::new(py);
    result.set_item("chain_count", report.chain_count)?;
    result.set_item("replica_count", report.replica_count)?;
    result.set_item("chunk_count", report.chunk_count)?;
    let differences = report.differences.iter().map(describe);
    result.set_item("differences", PyList::new(py, differences.collect::<Vec<_>>())?)?;
    Ok(result)
}

/// One line: chain, chunk, and what each replica has.
fn describe(difference: &Difference) -> String {
    let found: Vec<String> = difference
        .found
        .iter()
        .map(|(target, stat)| match stat {
            None => format!("{target} has nothing"),
            Some(stat) => {
                format!(
                    "{target} has {} of {} bytes, checksum {:08x}",
                    stat.version, stat.len, stat.checksum
                )
            }
        })
        .collect();
    format!("{} {}: {}", difference.chain, difference.chunk, found.join("; "))
}

/// Adds this part's functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(verify_replicas, module)?)
}
