//! Random transactions against both engines: they must agree on every answer.

use crate::support::embedded;
use bytes::Bytes;
use firepond_core::kv::{CommitOutcome, KvStore, KvTransaction, MemoryStore, RangeQuery};
use proptest::collection::vec;
use proptest::prelude::*;
use std::ops::Range;

/// How many transactions are open at a time.
const SLOT_COUNT: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Get(Vec<u8>, bool),
    GetRange(RangeQuery),
    Set(Vec<u8>, Vec<u8>),
    Stamp(Vec<u8>),
    Clear(Vec<u8>),
    ClearRange(Range<Vec<u8>>),
    ReadConflict(Range<Vec<u8>>),
    WriteConflict(Vec<u8>),
    Commit,
    Forget,
}

/// What a step answered.
#[derive(Debug, PartialEq)]
enum Answer {
    Nothing,
    Value(Option<Bytes>),
    Pairs(Vec<(Bytes, Bytes)>),
    Outcome(CommitOutcome),
}

/// Few and short keys, so that transactions meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0), Just(0xff)], 1..3)
}

fn keys() -> impl Strategy<Value = Range<Vec<u8>>> {
    (key(), key()).prop_map(|(one, other)| one..other)
}

fn step() -> impl Strategy<Value = Step> {
    let query = (keys(), 0..5_usize, any::<bool>(), any::<bool>())
        .prop_map(|(keys, limit, reverse, snapshot)| RangeQuery { keys, limit, reverse, snapshot });
    prop_oneof![
        4 => (key(), any::<bool>()).prop_map(|(key, snapshot)| Step::Get(key, snapshot)),
        4 => query.prop_map(Step::GetRange),
        6 => (key(), vec(any::<u8>(), 0..3)).prop_map(|(key, value)| Step::Set(key, value)),
        1 => key().prop_map(Step::Stamp),
        3 => key().prop_map(Step::Clear),
        2 => keys().prop_map(Step::ClearRange),
        1 => keys().prop_map(Step::ReadConflict),
        1 => key().prop_map(Step::WriteConflict),
        5 => Just(Step::Commit),
        1 => Just(Step::Forget),
    ]
}

async fn apply<S: KvStore>(store: &S, slot: &mut Option<S::Transaction>, step: &Step) -> Answer {
    let transaction = slot.get_or_insert_with(|| store.begin());
    match step.clone() {
        Step::Get(key, true) => Answer::Value(transaction.snapshot_get(&key).await.expect("reads")),
        Step::Get(key, false) => Answer::Value(transaction.get(&key).await.expect("reads")),
        Step::GetRange(query) => Answer::Pairs(transaction.get_range(query).await.expect("reads")),
        step => {
            match step {
                Step::Set(key, value) => transaction.set(&key, &value),
                Step::Stamp(prefix) => transaction.set_versionstamped_key(&prefix, b"/", b"stamp"),
                Step::Clear(key) => transaction.clear(&key),
                Step::ClearRange(keys) => transaction.clear_range(keys),
                Step::ReadConflict(keys) => transaction.add_read_conflict_range(keys),
                Step::WriteConflict(key) => transaction.add_write_conflict_key(&key),
                _ => {
                    let ended = slot.take().expect("is there");
                    if matches!(step, Step::Commit) {
                        return Answer::Outcome(ended.commit().await.expect("answers"));
                    }
                }
            }
            Answer::Nothing
        }
    }
}

/// Failing cases are printed, not kept in files.
fn config() -> ProptestConfig {
    ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Goal: the engines agree. Method: random steps of interleaved transactions on both.
    /// Oracle: the memory engine: every answer, every outcome and version, and all pairs at the
    /// end.
    #[test]
    fn engines_agree(steps in vec((0..SLOT_COUNT, step()), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let memory = MemoryStore::new();
            let (_directory, embedded) = embedded();
            let mut memory_slots: [_; SLOT_COUNT] = std::array::from_fn(|_| None);
            let mut embedded_slots: [_; SLOT_COUNT] = std::array::from_fn(|_| None);
            for (slot, step) in &steps {
                let expected = apply(&memory, &mut memory_slots[*slot], step).await;
                let found = apply(&embedded, &mut embedded_slots[*slot], step).await;
                prop_assert_eq!(expected, found, "{:?}", step);
            }
            let all = RangeQuery {
                keys: vec![]..vec![0xff; 4], limit: usize::MAX, reverse: false, snapshot: true,
            };
            let expected = memory.begin().get_range(all.clone()).await.expect("reads");
            prop_assert_eq!(expected, embedded.begin().get_range(all).await.expect("reads"));
            Ok(())
        })?;
    }
}
