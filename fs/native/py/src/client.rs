//! The SDK's client: files over the process's connection.
//!
//! Why every method takes `done`: without it the call waits, detached from the interpreter; with it
//! the call returns at once and `done(result, error)` is called later, which is how asyncio gets
//! it. Invariants: a buffer stays exported until its operation has ended, however the caller
//! leaves; in a forked child nothing of the parent's client is used or ended.

mod attributes;
mod buffers;
mod call;
mod file;
mod file_client;
mod opening;

use pyo3::prelude::*;

/// Adds this part's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<file_client::PyFileClient>()?;
    module.add_class::<file::PyFile>()
}
