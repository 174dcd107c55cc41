//! Random operations against a plain model, with opening anew in between.

use crate::fixture::*;
use firepond_core::ids::{ChainVersion, ChunkVersion};
use firepond_storage::store::{ChunkStore, ReadVersion, StoreOptions};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CHUNK_COUNT: u32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Write { chunk: u32, offset: u32, len: usize, commit: bool },
    Truncate { chunk: u32, len: u32 },
    Punch { chunk: u32, offset: u32, len: u32, commit: bool },
    Remove { chunk: u32 },
    Commit { chunk: u32 },
    Reopen,
}

#[derive(Clone, Default)]
struct Plain {
    version: u64,
    committed: Option<Vec<u8>>,
    pending: Option<Option<Vec<u8>>>,
}

fn step() -> impl Strategy<Value = Step> {
    let lens = prop_oneof![1..5000_usize, 4096..4097_usize, 60_000..300_000_usize];
    let chunk = 0..CHUNK_COUNT;
    prop_oneof![
        6 => (chunk.clone(), 0..200_000_u32, lens, any::<bool>()).prop_map(
            |(chunk, offset, len, commit)| {
                let offset = if len % 2 == 0 { offset / 4096 * 4096 } else { offset };
                Step::Write { chunk, offset, len, commit }
            }
        ),
        2 => (chunk.clone(), 0..400_000_u32).prop_map(|(chunk, len)| Step::Truncate { chunk, len }),
        2 => (chunk.clone(), 0..400_000_u32, 1..100_000_u32, 0..3_u32, any::<bool>()).prop_map(
            |(chunk, offset, len, aligned, commit)| match aligned {
                0 => Step::Punch { chunk, offset, len, commit },
                1 => Step::Punch { chunk, offset: offset / 4096 * 4096, len, commit },
                _ => Step::Punch { chunk, offset, len: len % 5000 + 1, commit },
            }
        ),
        1 => chunk.clone().prop_map(|chunk| Step::Remove { chunk }),
        4 => chunk.prop_map(|chunk| Step::Commit { chunk }),
        1 => Just(Step::Reopen),
    ]
}

async fn commit(store: &ChunkStore, model: &mut Plain, number: u32) {
    if let Some(bytes) = model.pending.take() {
        let version = ChunkVersion(model.version);
        store.commit(TARGET, chunk(number), version, ChainVersion(1)).await.expect("commit");
        model.committed = bytes;
    }
}

async fn run(steps: Vec<Step>) {
    let machine = Machine::new(3, 256 << 20);
    let options = || StoreOptions { cache_bytes: 64 << 10, ..options() };
    let mut store = machine.open_with(options()).expect("opens");
    let mut models: BTreeMap<u32, Plain> = BTreeMap::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Write { chunk, offset, len, commit: at_once } => {
                let model = models.entry(chunk).or_default();
                commit(&store, model, chunk).await;
                model.version += 1;
                let data = bytes(number as u32, len);
                let update = write(chunk, model.version, offset, &data);
                let update = if at_once { update } else { pending(update) };
                store.apply(TARGET, update).await.expect("write");
                let mut next = model.committed.clone().unwrap_or_default();
                let end = offset as usize + len;
                next.resize(next.len().max(end), 0);
                next[offset as usize..end].copy_from_slice(&data);
                match at_once {
                    true => model.committed = Some(next),
                    false => model.pending = Some(Some(next)),
                }
            }
            Step::Truncate { chunk, len } => {
                let model = models.entry(chunk).or_default();
                commit(&store, model, chunk).await;
                model.version += 1;
                store.apply(TARGET, truncate(chunk, model.version, len)).await.expect("truncate");
                model.committed.get_or_insert_default().resize(len as usize, 0);
            }
            Step::Punch { chunk, offset, len, commit: at_once } => {
                let model = models.entry(chunk).or_default();
                commit(&store, model, chunk).await;
                model.version += 1;
                let update = punch(chunk, model.version, offset, len);
                let update = if at_once { update } else { pending(update) };
                store.apply(TARGET, update).await.expect("punch");
                let mut next = model.committed.clone().unwrap_or_default();
                let end = next.len().min((offset + len) as usize);
                next[(offset as usize).min(end)..end].fill(0);
                match at_once {
                    true => model.committed = Some(next),
                    false => model.pending = Some(Some(next)),
                }
            }
            Step::Remove { chunk } => {
                let model = models.entry(chunk).or_default();
                commit(&store, model, chunk).await;
                model.version += 1;
                store.apply(TARGET, pending(remove(chunk, model.version))).await.expect("remove");
                model.pending = Some(None);
            }
            Step::Commit { chunk } => {
                commit(&store, models.entry(chunk).or_default(), chunk).await;
            }
            Step::Reopen => {
                drop(store);
                store = machine.open_with(options()).expect("opens again");
            }
        }
        check(&store, &models).await;
    }
    settle(&store).await;
}

async fn check(store: &ChunkStore, models: &BTreeMap<u32, Plain>) {
    for (number, model) in models {
        let found = read(store, *number, ReadVersion::Committed).await.ok();
        assert!(found == model.committed, "committed bytes of chunk {number}");
        if let Some(pending) = &model.pending {
            let found =
                read(store, *number, ReadVersion::Exactly(ChunkVersion(model.version))).await;
            assert!(found.ok() == *pending, "pending bytes of chunk {number}");
        }
    }
    let pending = models.iter().filter(|(_, model)| model.pending.is_some());
    let pending: Vec<_> = pending.map(|(number, _)| chunk(*number)).collect();
    assert_eq!(store.pending(TARGET).expect("list"), pending);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Goal: any sequence of operations gives the bytes of a plain array, across reopening.
    /// Method: random steps on four chunks with a tiny cache. Oracle: vectors.
    #[test]
    fn store_equals_model(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(run(steps));
    }
}
