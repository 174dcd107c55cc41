//! Resync: brings a syncing successor to the state of its predecessor while writes go on.
//!
//! The predecessor drives: `ResyncBegin`; pages of what the successor has, compared with its own
//! list (`compare`); every difference is sent as a whole committed chunk under the chunk's lock
//! (`worker`);
//! `ResyncDone`. The successor (`successor`) answers from its store and takes chunks through the
//! same path as any forwarded update.
//!
//! Why this is safe beside writes: from the moment routing shows the successor as syncing, every
//! update goes through it, as a whole chunk; a comparison without lock skips a chunk only if it is
//! clean here, and whatever is under way takes its turn at the chunk's lock.
//! Invariants: any change of the chain ends a resync; at most `resync_bytes_per_second` are sent.

pub mod compare;
pub mod mark;
pub mod pace;
pub mod progress;
pub mod settled;
pub mod successor;
mod walk;
pub mod worker;
