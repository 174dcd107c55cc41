//! The simulator for Python: `run`, and the managers behind the world's trait.
//!
//! Invariants: one thread; the interpreter is held all the time, as the managers run in between.

use crate::plan::Plan;
use crate::python_plan;
use crate::world::{Managers, Probe, World};
use firepond_core::sys::mistake::{Mistake, plant};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::BTreeMap;

/// What one run gave.
#[pyclass(frozen, get_all)]
struct Outcome {
    trace: Vec<String>,
    trace_hash: u64,
    problems: Vec<String>,
}

/// The world's answer to a manager's probe.
#[pyclass(frozen)]
struct PyProbe(Probe);

#[pymethods]
impl PyProbe {
    fn __call__(&self, node: u32, incarnation: u64) -> &'static str {
        (self.0)(node, incarnation)
    }
}

/// `SimulatedManagers` of `tests/sim/manager.py`.
struct PythonManagers(Py<PyAny>);

impl PythonManagers {
    fn call<T: for<'a, 'py> FromPyObject<'a, 'py, Error: Into<PyErr>>>(
        &self,
        name: &str,
        arguments: impl for<'py> pyo3::call::PyCallArgs<'py>,
    ) -> T {
        Python::attach(|py| {
            let called = self.0.bind(py).call_method1(name, arguments);
            let value = called.and_then(|value| value.extract::<T>().map_err(Into::into));
            value.unwrap_or_else(|error| {
                error.display(py);
                panic!("the manager's {name} failed: {error}")
            })
        })
    }
}

impl Managers for PythonManagers {
    fn start(&mut self, index: u32, now_ns: u64) {
        self.call::<Py<PyAny>>("start", (index, now_ns));
    }

    fn kill(&mut self, index: u32) {
        self.call::<Py<PyAny>>("kill", (index,));
    }

    fn request(&mut self, now_ns: u64, index: u32, name: &str, body: &[u8]) -> u64 {
        Python::attach(|py| {
            let body = PyBytes::new(py, body).unbind();
            self.call("request", (now_ns, index, name, body))
        })
    }

    fn advance(&mut self, now_ns: u64) -> (Vec<(u64, bool, Vec<u8>)>, u64) {
        self.call("advance", (now_ns,))
    }

    fn broken(&mut self, index: u32, node: u32) {
        self.call::<Py<PyAny>>("broken", (index, node));
    }

    fn woke(&mut self, now_ns: u64) {
        self.call::<Py<PyAny>>("woke", (now_ns,));
    }
}

impl Drop for PythonManagers {
    fn drop(&mut self) {
        self.call::<Py<PyAny>>("close", ());
    }
}

/// Runs the plan of a seed without the entries that are dropped.
#[pyfunction]
fn run(
    py: Python<'_>,
    seed: u64,
    dropped: Vec<u32>,
    mistake: Option<&str>,
    managers: &Bound<'_, PyAny>,
) -> PyResult<Outcome> {
    let known = mistake
        .map(|name| Mistake::of_name(name).ok_or_else(|| PyValueError::new_err("no such mistake")));
    plant(known.transpose()?);
    let plan = Plan::of_seed(seed).without(&dropped.into_iter().collect());
    let factory = |settings: &BTreeMap<&'static str, u64>, probe: Probe| {
        let made = || -> PyResult<Box<dyn Managers>> {
            let dict = PyDict::new(py);
            for (name, value) in settings {
                dict.set_item(name, value)?;
            }
            let managers = managers.call1((dict, Py::new(py, PyProbe(probe))?))?;
            Ok(Box::new(PythonManagers(managers.unbind())))
        };
        made().map_err(|error| error.to_string())
    };
    let outcome = World::run(&plan, &factory);
    plant(None);
    Ok(Outcome { trace: outcome.trace, trace_hash: outcome.trace_hash, problems: outcome.problems })
}

#[pymodule]
fn _sim(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Outcome>()?;
    module.add_function(wrap_pyfunction!(run, module)?)?;
    module.add_function(wrap_pyfunction!(python_plan::describe, module)?)?;
    module.add_function(wrap_pyfunction!(python_plan::entry_count, module)?)?;
    module.add_function(wrap_pyfunction!(python_plan::mistakes, module)?)?;
    module.add_function(wrap_pyfunction!(python_plan::transitions, module)?)
}
