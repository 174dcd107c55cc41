//! One suite over every engine of the transactional store.
//!
//! Each function of the parts takes any store; the macro below runs it over both engines, and over
//! the run-time choice. What only a directory can do (crash, lock, restart) is in `durable`.

#[path = "kv_conformance/durable.rs"]
mod durable;
#[path = "kv_conformance/isolation.rs"]
mod isolation;
#[path = "kv_conformance/limits.rs"]
mod limits;
#[path = "kv_conformance/maybe.rs"]
mod maybe;
#[path = "kv_conformance/random.rs"]
mod random;
#[path = "kv_conformance/reads.rs"]
mod reads;
#[path = "kv_conformance/support.rs"]
mod support;
#[path = "kv_conformance/throughput.rs"]
mod throughput;

/// Runs each named function over every engine.
macro_rules! conformance {
    ($($part:ident :: $name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::$part::$name(firepond_core::kv::MemoryStore::new()).await;
            })*
        }
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (_directory, store) = crate::support::embedded();
                crate::$part::$name(store).await;
            })*
        }
        mod any {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (_directory, store) = crate::support::embedded();
                crate::$part::$name(firepond_core::kv::AnyStore::Embedded(store)).await;
            })*
        }
    };
}

conformance! {
    reads::read_your_writes,
    reads::range_limits_forward_and_reverse,
    reads::ranges_see_own_writes,
    reads::snapshots_stand_still,
    isolation::phantom_by_insert,
    isolation::phantom_by_delete,
    isolation::write_skew,
    isolation::blind_writes_do_not_conflict,
    isolation::snapshot_reads_do_not_conflict,
    isolation::explicit_conflicts,
    isolation::limited_ranges_conflict_up_to_the_last_pair,
    isolation::versionstamps_follow_commit_order,
    isolation::concurrent_counters_add_up,
    limits::limits_are_kept,
    maybe::retry_with_an_idempotency_key_is_exactly_once,
}
