//! Resync: brings a syncing successor to the state of its predecessor while writes go on.
//!
//! The predecessor drives: `ResyncBegin`, which says how far the successor is complete; then the
//! chunks that changed since (`walk`), or if that is not enough all chunks in pages; both compared
//! (`compare`), and every difference sent as a whole committed chunk under the chunk's lock
//! (`worker`); `ResyncDone`. The successor (`successor`) answers from its store and takes chunks
//! through the same path as any forwarded update.
//!
//! # Why what changed is enough
//!
//! The head gives every update a *stamp* (chain version, epoch) under the chunk's lock; it travels
//! with the update, and a replica's record of a chunk has at least the stamp of every update in it.
//! An update is *settled* when it was acknowledged by all replicas of its time, or dropped by all.
//!
//! (1) The mark. The head closes its epoch: what begins later has a later stamp. It waits until
//! every chunk lock held at that moment was given up once, and brings to their end all pendings
//! with a stamp up to the closed one, S. If it still is the head of the same chain version, with a
//! lease, all updates up to S are settled: those of its own time were under a lock or are pending;
//! those of earlier heads are with it as pendings or under way, as every update enters the chain
//! from above and a replica that loses one leaves. Whoever serves under this chain version was in
//! the chain when such an update was settled, or got it from somebody who was. So a serving replica
//! that is told S holds every acknowledged update up to S, durably, and may remember S (`settled`).
//!
//! (2) The walk. R comes back with mark S; P is its predecessor, serving. Take a chunk whose record
//! has a stamp up to S on both sides and nothing pending on R. By (1) and as P serves, both hold
//! the newest acknowledged version V up to S. Neither has anything else: every update up to S is
//! settled, so what either holds of that age is acknowledged, and not newer than V. The chunk
//! agrees. So R and P differ at most in chunks with a newer stamp on P, with a newer stamp on R, or
//! pending on R. These three sets are compared and sent.
//!
//! (3) Meanwhile. Before the sets are taken, every update that began here without R has ended. From
//! then on an update goes through R as a whole chunk, so a chunk that is in no set and changes
//! later agrees as well; a chunk in a set is compared when its turn comes, whatever its stamp is by
//! then.
//!
//! The rest: *Roll-forward* keeps the stamp of the pending version, and no mark passes a pending
//! version. *Head changes* bring a greater chain version, so later stamps; the new head says
//! nothing before it did (1) itself. *A replica that was syncing when it died* kept its old mark:
//! marks are taken from a resync when that is done, from the head only when complete. What it got
//! by then is newer than the mark on both sides, is found equal, and is not sent again. *Removals*
//! are tombstones with stamps; before one is forgotten, `purged_through` says so durably, and a
//! mark older than that leads to a comparison of everything. *A message that the network delivers
//! late*, of an update that was dropped, is recorded with a stamp behind the receiver's mark. *A
//! new disk* has no mark. *Class `cache`* acknowledges before anything is durable: no marks. *Older
//! releases* left records without stamps: `mark`.
//!
//! Invariants: any change of the chain ends a resync; at most `resync_bytes_per_second` are sent;
//! what was transferred is found equal and not transferred again.

pub mod compare;
pub mod mark;
pub mod pace;
pub mod progress;
pub mod settled;
pub mod successor;
mod walk;
pub mod worker;
