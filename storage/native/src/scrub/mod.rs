//! The scrubber: reads every committed chunk of every target, slowly, for ever.
//!
//! Why: rot and divergence are to be met while there still is another replica to mend from, and not
//! at the next fail-over. A pass goes through a target in the order of its chunks; its place is
//! durable, so that a restart goes on. Each chunk is read as a client's read is, which verifies its
//! page checksums; a rotten one is mended from another replica under the chunk's lock (`chain::
//! repair`). The head also asks the other replicas what they have of a page of chunks, and compares
//! whole-chunk checksums (`compare`).
//! Invariants: at most `scrub_bytes_per_second` are read; clients' reads come first; only a target
//! that serves is scrubbed; a bad chunk is told of once.

mod compare;
mod pass;

pub use pass::{PASS_INTERVAL, Scrubber};
