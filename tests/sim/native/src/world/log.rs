//! The logs of the simulated processes as lines of the trace, and panics as problems.
//!
//! Why: a trace without what the code says of itself is hard to read. Nothing that differs between
//! two runs of a seed is logged by the data path (no addresses, no real times), and if something
//! did, the digest would say so.

use super::trace::Trace;
use firepond_core::sys::machine::Machine;
use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Once;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes events to a trace.
pub(super) struct LogToTrace(pub(super) Trace);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        // Writing to a string never fails.
        written.ok();
    }
}

impl Subscriber for LogToTrace {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= Level::INFO
            && metadata.target().starts_with("firepond")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let who = Machine::current();
        let who = who.as_ref().map_or("world", Machine::name);
        let level = event.metadata().level();
        let mut line = Line(format!("{who} {level}:"));
        event.record(&mut line);
        self.0.line(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

thread_local! {
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// From now on panics of this thread are collected instead of printed.
pub(super) fn collect_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let collected = PANICS.with_borrow_mut(|panics| {
                panics.as_mut().map(|panics| panics.push(panic.to_string().replace('\n', " ")))
            });
            if collected.is_none() {
                before(panic);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
}

/// The panics since then; later ones are printed.
pub(super) fn take_panics() -> Vec<String> {
    PANICS.take().unwrap_or_default()
}
