//! `firepond._native`: the only crate that knows Python.
//!
//! Why private: `firepond` is the public face; this module may change with every release.
//! Invariants: every call that may block detaches from the interpreter; no panic crosses the
//! border; buffers are taken and given through the buffer protocol.

mod client;
mod connection;
mod error;
mod kv;
mod kv_cache;
mod lent_buffer;
mod logging;
mod meta;
mod mount;
mod routing;
mod storage;
mod verify;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    kv::register(module)?;
    routing::register(module)?;
    connection::register(module)?;
    storage::register(module)?;
    meta::register(module)?;
    client::register(module)?;
    kv_cache::register(module)?;
    mount::register(module)?;
    verify::register(module)?;
    logging::register(module)
}
