//! What happens, line by line: simulated time, who, what. The digest of all lines is what two runs
//! of one seed are compared by.

use parking_lot::Mutex;
use std::sync::Arc;
use tokio::time::Instant;

/// The trace of one run. Clones share it.
#[derive(Clone)]
pub struct Trace(Arc<Shared>);

struct Shared {
    began: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    hasher: blake3::Hasher,
    lines: Vec<String>,
}

impl Trace {
    pub(super) fn new() -> Trace {
        let inner = Inner { hasher: blake3::Hasher::new(), lines: Vec::new() };
        Trace(Arc::new(Shared { began: Instant::now(), inner: Mutex::new(inner) }))
    }

    /// Adds a line.
    pub fn line(&self, what: impl std::fmt::Display) {
        let at = self.0.began.elapsed();
        let line = format!("{:>5}.{:03} {what}", at.as_secs(), at.subsec_millis());
        let mut inner = self.0.inner.lock();
        inner.hasher.update(line.as_bytes());
        inner.hasher.update(b"\n");
        inner.lines.push(line);
    }

    /// All lines, and their digest.
    pub(super) fn take(&self) -> (Vec<String>, u64) {
        let mut inner = self.0.inner.lock();
        let mut number = [0; 8];
        number.copy_from_slice(&inner.hasher.finalize().as_bytes()[..8]);
        (std::mem::take(&mut inner.lines), u64::from_le_bytes(number))
    }
}
