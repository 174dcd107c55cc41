//! One error type for all native code: kind, retryability, context pairs, the next step.
//!
//! The kinds come from `fs/errors.toml`. Who consumes an error logs it; who passes it on adds
//! context. errno appears only at the edge (FUSE, Python's OSError).

use serde::{Deserialize, Serialize};
use std::fmt;

pub use crate::error_kind::ErrorKind;

/// The result of every fallible operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nobody: the same request fails again.
    Never,
    /// The same peer, after a pause.
    Same,
    /// Another replica, at once.
    OtherReplica,
    /// Anybody, once newer routing has arrived.
    AfterRouting,
}

/// An error with its context. Small: it travels in `Result` on the hot path.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(String, String)>,
}

/// How an error travels: code and text, so that a release that lacks the kind still shows it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct WireError {
    /// `ErrorKind` as a number.
    pub code: u16,
    /// What happened.
    pub message: String,
    /// Where it happened.
    pub context: Vec<(String, String)>,
}

impl Error {
    /// An error of a kind; `message` says what happened here, in a few words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, message: message.into(), context: Vec::new() }))
    }

    /// The same error with one more fact about where it happened.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Error {
        self.0.context.push((name.to_owned(), value.to_string()));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What happened, without context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where it happened.
    pub fn context(&self) -> &[(String, String)] {
        &self.0.context
    }

    /// Who may try again.
    pub fn retry(&self) -> Retry {
        self.0.kind.retry()
    }

    /// For callers that only know numbers.
    pub fn errno(&self) -> i32 {
        self.0.kind.errno()
    }

    /// A refusal by the operating system, with what was attempted.
    pub fn io(error: &std::io::Error, attempted: &str) -> Error {
        let kind = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => ErrorKind::DiskFull,
            _ => ErrorKind::IoFailed,
        };
        Error::new(kind, format!("{attempted}: {error}"))
    }

    /// A malformed value from outside.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// A broken invariant.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, message)
    }

    /// The form that travels.
    pub fn to_wire(&self) -> WireError {
        WireError {
            code: self.0.kind as u16,
            message: self.0.message.clone(),
            context: self.0.context.clone(),
        }
    }

    /// The error behind the form that travels; an unknown code becomes `Internal` and keeps its
    /// number.
    pub fn from_wire(wire: WireError) -> Error {
        let kind = ErrorKind::from_code(wire.code);
        let mut error = Error::new(kind.unwrap_or(ErrorKind::Internal), wire.message);
        error.0.context = wire.context;
        if kind.is_none() {
            error = error.with("peer_code", wire.code);
        }
        error
    }
}

/// One line: kind, code, message, context, next step.
impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.0.kind;
        write!(formatter, "{} [{}]: ", kind.name(), kind as u16)?;
        let text = if self.0.message.is_empty() { kind.summary() } else { &self.0.message };
        formatter.write_str(text)?;
        for (position, (name, value)) in self.0.context.iter().enumerate() {
            write!(formatter, "{}{name}={value}", if position == 0 { " (" } else { ", " })?;
        }
        if !self.0.context.is_empty() {
            formatter.write_str(")")?;
        }
        match kind.next_step() {
            "none" => Ok(()),
            step => write!(formatter, "; {step}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing is lost on the wire. Method: there and back. Oracle: the printed line.
    #[test]
    fn wire_round_trip_keeps_kind_and_context() {
        let error = Error::new(ErrorKind::DiskFull, "no extent").with("disk", "/d0");
        let back = Error::from_wire(error.to_wire());
        assert_eq!(back.to_string(), error.to_string());
        assert_eq!(back.errno(), libc::ENOSPC);
    }

    /// Goal: a newer peer's error is still an error. Oracle: the number is shown.
    #[test]
    fn unknown_code_is_kept() {
        let wire = WireError { code: 9999, message: "new".into(), context: vec![] };
        let error = Error::from_wire(wire);
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("9999"));
    }
}
