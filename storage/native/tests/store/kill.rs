//! A real process is killed while it writes; what it acknowledged is there afterwards.

use crate::fixture::*;
use firepond_core::ids::{ChainVersion, ChunkVersion};
use firepond_core::sys::task::spawn_thread;
use firepond_core::sys::{clock, random};
use firepond_core::wire::storage::UpdateKind;
use firepond_storage::store::{ChunkStore, ChunkWrite, ReadVersion, StoreOptions};
use parking_lot::Mutex;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const CHUNK_COUNT: u32 = 8;
const CHILD: &str = "FIREPOND_TEST_KILL_DIRECTORY";
/// Every so many versions the whole chunk is replaced.
const CYCLE: u64 = 8;

fn places(number: u32, version: u64) -> (u32, u32) {
    let mixed = (version * 31 + u64::from(number)) as u32;
    let mixed = mixed.wrapping_mul(2_654_435_761);
    (mixed % 90_000, 1 + (mixed >> 8) % 60_000)
}

/// The update that makes a version: of all kinds, known from chunk and version alone.
fn update(number: u32, version: u64) -> ChunkWrite {
    let (offset, len) = places(number, version);
    let data = |len| bytes(number * 1000 + version as u32, len);
    let made = match version % CYCLE {
        0 => ChunkWrite {
            kind: UpdateKind::Replace,
            ..write(number, version, 0, &data(5000 + len as usize))
        },
        1 | 2 => write(number, version, offset / 4096 * 4096, &data(4096)),
        3 => write(number, version, offset, &data(700)),
        4 => truncate(number, version, len * 2),
        5 => punch(number, version, offset, len),
        6 => write(number, version, offset, &data(len as usize)),
        _ => remove(number, version),
    };
    if version.is_multiple_of(3) { pending(made) } else { made }
}

/// The bytes of a version; none where it is removed.
fn content(number: u32, version: u64) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    for version in version - version % CYCLE..=version {
        let update = update(number, version.max(1));
        let (start, end) = (update.offset as usize, (update.offset + update.len) as usize);
        match update.kind {
            _ if version == 0 => {}
            UpdateKind::Replace => plain = update.payload.filled().to_vec(),
            UpdateKind::Truncate => plain.resize(end, 0),
            UpdateKind::PunchHole => {
                let end = end.min(plain.len());
                plain[start.min(end)..end].fill(0);
            }
            UpdateKind::Remove => return None,
            _ => {
                plain.resize(plain.len().max(end), 0);
                plain[start..end].copy_from_slice(update.payload.filled());
            }
        }
    }
    Some(plain)
}

fn open_small(directory: &Path) -> ChunkStore {
    let options = StoreOptions { pieces_max_count: 3, compact_bytes_per_s: 1 << 30, ..options() };
    open_with(directory, "auto", options)
}

/// Not a test of its own: what the killed process runs.
#[test]
fn child_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let store = open_small(directory.as_ref());
        let writers = (0..CHUNK_COUNT).map(|number| tokio::spawn(write_on(store.clone(), number)));
        for writer in writers.collect::<Vec<_>>() {
            while !writer.is_finished() {
                store.compact().await.expect("compacts");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            writer.await.expect("writes go on");
        }
    });
}

async fn write_on(store: ChunkStore, number: u32) {
    let state = store.state(TARGET, chunk(number)).expect("state");
    let newest = state.and_then(|state| state.pending.or(state.committed));
    let mut version = newest.map_or(0, |newest| newest.version.0);
    while version < u64::MAX {
        let commit = store.commit(TARGET, chunk(number), ChunkVersion(version), ChainVersion(1));
        if version > 0 {
            commit.await.expect("commit");
        }
        version += 1;
        store.apply(TARGET, update(number, version)).await.expect("update");
        eprintln!("acknowledged {number} {version}");
    }
}

fn spawn_child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["kill::child_writes_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

/// Lets a child write for a while after its first acknowledgement, and kills it; what it told.
async fn round(directory: &Path, after: Duration) -> [u64; CHUNK_COUNT as usize] {
    let mut child = spawn_child(directory);
    let told = Arc::new(Mutex::new(([0; CHUNK_COUNT as usize], Vec::new())));
    let (pipe, tells) = (child.stderr.take().expect("its reports"), Arc::clone(&told));
    let listener = spawn_thread("listener", move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            let numbers = words.get(1..).unwrap_or_default().iter().map(|word| word.parse::<u64>());
            match (words[0], numbers.collect::<Result<Vec<u64>, _>>().as_deref()) {
                ("acknowledged", Ok([number, version])) => {
                    tells.lock().0[*number as usize] = *version;
                }
                _ => tells.lock().1.push(line),
            }
        }
    })
    .expect("a thread");
    let deadline = clock::now() + Duration::from_secs(60);
    while told.lock().0 == [0; CHUNK_COUNT as usize] {
        let words = told.lock().1.join("\n");
        assert!(child.try_wait().expect("child").is_none(), "the child ended: {words}");
        assert!(clock::now() < deadline, "the child acknowledges: {words}");
        clock::sleep(Duration::from_millis(1)).await;
    }
    clock::sleep(after).await;
    let alive = child.try_wait().expect("child").is_none();
    child.kill().expect("killed");
    child.wait().expect("ended");
    listener.join().expect("heard all");
    let told = told.lock();
    assert!(alive, "the child ended by itself: {}", told.1.join("\n"));
    told.0
}

/// Goal: what a process acknowledged before kill -9 is there, and no space leaks. Method: rounds of
/// a child that makes all kinds of updates while compaction runs, killed at random moments;
/// FIREPOND_TEST_KILL_MINUTES for more. Oracle: its reports, the bytes of each version, the audit.
#[tokio::test]
async fn kill_loses_nothing_acknowledged() {
    let minutes = std::env::var("FIREPOND_TEST_KILL_MINUTES").ok().and_then(|m| m.parse().ok());
    let until = clock::now() + Duration::from_secs(60 * minutes.unwrap_or(0_u64));
    let directory = tempfile::tempdir().expect("directory");
    let mut rounds = 0;
    while rounds < 20 || clock::now() < until {
        let after = Duration::from_micros(random::u64() % 80_000);
        let acknowledged = round(directory.path(), after).await;
        let store = open_small(directory.path());
        for (number, version) in acknowledged.into_iter().enumerate() {
            let number = number as u32;
            let state = store.state(TARGET, chunk(number)).expect("state");
            let newest = state.and_then(|state| state.pending.or(state.committed));
            let found = newest.map_or(0, |state| state.version.0);
            assert!(found >= version, "round {rounds}: {version} of chunk {number}, not {found}");
            if found > 0 {
                let bytes = read(&store, number, ReadVersion::Newest).await.ok();
                assert!(bytes == content(number, found), "round {rounds}: chunk {number}, {found}");
            }
        }
        settle(&store).await;
        store.close();
        drop(store);
        rounds += 1;
    }
    eprintln!("{rounds} kills");
}
