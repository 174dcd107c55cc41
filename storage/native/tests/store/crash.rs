//! A simulated machine crashes at every operation; what was acknowledged is there afterwards.

use crate::fixture::*;
use firepond_core::ids::{ChainVersion, ChunkVersion};
use firepond_storage::store::{ChunkStore, ChunkWrite, ReadVersion, StoreOptions};
use std::collections::BTreeMap;

/// What a chunk may hold: the bytes of every version that was tried, and how far it was told to be.
#[derive(Clone, Default)]
struct Expected {
    /// None: removed.
    versions: BTreeMap<u64, Option<Vec<u8>>>,
    /// The newest version that was acknowledged, as pending or committed.
    acknowledged: u64,
    /// The newest version whose update was acknowledged as committed.
    committed: u64,
}

impl Expected {
    fn newest(&self) -> Vec<u8> {
        self.versions.get(&self.acknowledged).cloned().flatten().unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write { offset: u32, len: usize, commit: bool },
    Truncate { len: u32, commit: bool },
    Punch { offset: u32, len: u32, commit: bool },
    Remove { commit: bool },
    Commit,
    Drop,
    Compact,
}

/// Every operation on each of two chunks, small and large, in one step and in two.
fn script() -> Vec<(u32, Step)> {
    use Step::*;
    let one = [
        Write { offset: 0, len: 70_000, commit: true },
        Write { offset: 8192, len: 4096, commit: true },
        Write { offset: 30_011, len: 5000, commit: false },
        Commit,
        Write { offset: 40_960, len: 4096, commit: true },
        Write { offset: 100, len: 10, commit: false },
        Drop,
        Punch { offset: 5000, len: 20_000, commit: true },
        Compact,
        Truncate { len: 33_000, commit: true },
        Truncate { len: 90_001, commit: false },
        Commit,
        Write { offset: 88_000, len: 4096, commit: true },
        Punch { offset: 40_960, len: 45_056, commit: false },
        Commit,
        Write { offset: 0, len: 100_000, commit: false },
        Commit,
        Write { offset: 16_384, len: 4096, commit: true },
        Write { offset: 49_152, len: 4096, commit: true },
        Write { offset: 65_536, len: 4096, commit: true },
        Compact,
        Remove { commit: false },
        Commit,
        Write { offset: 3, len: 9000, commit: true },
        Remove { commit: true },
        Write { offset: 0, len: 4096, commit: true },
    ];
    one.iter().flat_map(|step| [(0, *step), (1, *step)]).collect()
}

/// The update of a step, and the bytes that it leaves.
fn update_of(
    number: u32,
    step: Step,
    expected: &Expected,
) -> Option<(ChunkWrite, Option<Vec<u8>>)> {
    let version = expected.acknowledged + 1;
    let mut next = expected.newest();
    let (update, commit) = match step {
        Step::Write { offset, len, commit } => {
            let data = bytes(version as u32 * 10 + number, len);
            let end = offset as usize + len;
            next.resize(next.len().max(end), 0);
            next[offset as usize..end].copy_from_slice(&data);
            (write(number, version, offset, &data), commit)
        }
        Step::Truncate { len, commit } => {
            next.resize(len as usize, 0);
            (truncate(number, version, len), commit)
        }
        Step::Punch { offset, len, commit } => {
            let end = next.len().min((offset + len) as usize);
            next[(offset as usize).min(end)..end].fill(0);
            (punch(number, version, offset, len), commit)
        }
        Step::Remove { commit } => {
            let update = remove(number, version);
            return Some((if commit { update } else { pending(update) }, None));
        }
        _ => return None,
    };
    Some((if commit { update } else { pending(update) }, Some(next)))
}

/// Does one step; false when the machine stopped.
async fn act(store: &ChunkStore, number: u32, step: Step, expected: &mut Expected) -> bool {
    let newest = ChunkVersion(expected.acknowledged);
    if let Some((update, bytes)) = update_of(number, step, expected) {
        let (version, is_committed) = (update.version.0, update.commit);
        expected.versions.insert(version, bytes);
        if store.apply(TARGET, update).await.is_err() {
            return false;
        }
        expected.acknowledged = version;
        if is_committed {
            expected.committed = version;
        }
        return true;
    }
    match step {
        Step::Commit => store.commit(TARGET, chunk(number), newest, ChainVersion(1)).await.is_ok(),
        Step::Drop => {
            expected.acknowledged = expected.committed;
            let dropped = store.drop_pending(TARGET, chunk(number), newest).await.is_ok();
            if dropped {
                expected.versions.remove(&newest.0);
            }
            dropped
        }
        _ => store.compact().await.is_ok(),
    }
}

/// Runs the script until it ends or the machine stops; whether it ended.
async fn run(store: &ChunkStore, chunks: &mut BTreeMap<u32, Expected>) -> bool {
    for (number, step) in script() {
        if !act(store, number, step, chunks.entry(number).or_default()).await {
            return false;
        }
    }
    true
}

/// Everything acknowledged is there, and every version has its bytes, old or new, never a mix.
async fn check(store: &ChunkStore, number: u32, expected: &Expected, stop_at: u64) {
    let case = format!("chunk {number} after a crash at {stop_at}");
    let Some(state) = store.state(TARGET, chunk(number)).expect("state") else {
        assert_eq!(expected.acknowledged, 0, "an acknowledged version is there: {case}");
        return;
    };
    let newest = state.pending.or(state.committed).expect("a version").version.0;
    let committed = state.committed.map_or(0, |state| state.version.0);
    assert!(newest >= expected.acknowledged, "{newest} of {}: {case}", expected.acknowledged);
    assert!(committed >= expected.committed, "{committed} of {}: {case}", expected.committed);
    for (which, version) in [(ReadVersion::Newest, newest), (ReadVersion::Committed, committed)] {
        let found = read(store, number, which).await.ok();
        let known = expected.versions.get(&version).cloned().unwrap_or_default();
        assert!(found == known, "the bytes of version {version}, {which:?}: {case}");
    }
}

fn small() -> StoreOptions {
    StoreOptions {
        log_bytes: 64 << 10,
        pieces_max_count: 2,
        compact_bytes_per_s: 1 << 40,
        ..options()
    }
}

/// Goal: no crash loses or tears what was acknowledged, leaks space, or keeps the store from
/// working on. Method: crash at every operation of a script of all kinds of updates, removals,
/// commits and compactions, with a log so small that it is checkpointed again and again, and
/// several seeds for what survives of unsynced pages and records. Oracle: the bytes of each version
/// that was tried; the audit of space.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_at_any_crash_point() {
    let mut points = 0;
    for stop_at in 1.. {
        let machine = Machine::new(stop_at * 7 + 1, 64 << 20);
        let store = machine.open_with(small()).expect("opens");
        machine.crash_point.stop_at(stop_at);
        let mut chunks = BTreeMap::new();
        let is_complete = run(&store, &mut chunks).await;
        drop(store);
        machine.crash((stop_at % 4) as usize);
        // A second crash while the log is replayed changes nothing.
        if stop_at % 3 == 0 {
            machine.crash_point.stop_at(1 + stop_at % 5);
            drop(machine.open_with(small()));
            machine.crash((stop_at % 2) as usize);
        }
        let store = machine.open_with(small()).expect("opens after the crash");
        for (number, expected) in &chunks {
            check(&store, *number, expected, stop_at).await;
        }
        for (number, expected) in &mut chunks {
            roll_forward(&store, *number, expected).await;
        }
        settle(&store).await;
        drop(store);
        let store = machine.open_with(small()).expect("opens once more");
        for (number, expected) in &chunks {
            assert!(committed(&store, *number).await == expected.newest(), "chunk {number}");
        }
        settle(&store).await;
        points += 1;
        if is_complete {
            break;
        }
    }
    assert!(points > 100, "the script has many crash points, not {points}");
}

/// What a chain does after a restart: commits what is pending, then writes on.
async fn roll_forward(store: &ChunkStore, number: u32, expected: &mut Expected) {
    let state = store.state(TARGET, chunk(number)).expect("state");
    let newest = state.and_then(|state| state.pending.or(state.committed));
    let version = newest.map_or(0, |newest| newest.version.0);
    if version > 0 {
        let commit = store.commit(TARGET, chunk(number), ChunkVersion(version), ChainVersion(2));
        commit.await.expect("commit");
    }
    expected.acknowledged = version;
    let step = Step::Write { offset: 0, len: 9000, commit: true };
    assert!(act(store, number, step, expected).await, "it works on");
}
