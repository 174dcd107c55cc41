//! Logs of the native side: one JSON object a line on standard error, with the keys that the Python
//! side uses (`timestamp`, `level`, `event`, `logger`), so that one query reads both.
//!
//! Why our own formatter: the JSON one of `tracing-subscriber` has other names for the same things.

use std::fmt::{self, Write as _};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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
        .event_format(JsonLine)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// Formats an event as one line of JSON.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        // Written last: no field of an event may take the place of these.
        fields.put("timestamp", timestamp);
        fields.put("level", level_name(*event.metadata().level()));
        fields.put("logger", event.metadata().target().replace("::", "."));
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// The fields of an event; its message has the key `event`.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        let key = if name == "message" { "event" } else { name };
        self.0.insert(key.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        if write!(text, "{value:?}").is_ok() {
            self.put(field.name(), text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }
}

/// Adds this part's functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(logging_init, module)?)
}
