//! A real process is killed while it writes; what it acknowledged is there afterwards.

use crate::fixture::*;
use firepond_storage::store::ReadVersion;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const CHUNK_COUNT: u32 = 8;
const CHILD: &str = "FIREPOND_TEST_KILL_DIRECTORY";

/// The bytes of a version: known from chunk and version alone.
fn content(number: u32, version: u64) -> Vec<u8> {
    bytes(number * 1000 + version as u32, 5000 + (version as usize * 977) % 90_000)
}

/// Not a test of its own: what the killed process runs.
#[test]
fn child_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let store = open(directory.as_ref(), "auto");
        let tasks = (0..CHUNK_COUNT).map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let state = store.state(TARGET, chunk(number)).expect("state");
                let mut version = state.and_then(|s| s.committed).map_or(0, |c| c.version.0);
                while version < u64::MAX {
                    version += 1;
                    let mut update = write(number, version, 0, &content(number, version));
                    update.kind = firepond_core::wire::storage::UpdateKind::Replace;
                    store.apply(TARGET, update).await.expect("write");
                    eprintln!("acknowledged {number} {version}");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("writes go on");
        }
    });
}

/// Goal: what a process acknowledged before kill -9 is there. Method: rounds of a child that writes
/// and reports each acknowledgement; FIREPOND_TEST_KILL_ROUNDS for more. Oracle: its reports.
#[tokio::test]
async fn kill_loses_nothing_acknowledged() {
    let rounds = std::env::var("FIREPOND_TEST_KILL_ROUNDS").ok().and_then(|text| text.parse().ok());
    let directory = tempfile::tempdir().expect("directory");
    for round in 0..rounds.unwrap_or(20_u64) {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["kill::child_writes_until_it_is_killed", "--exact", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let mut acknowledged = [0_u64; CHUNK_COUNT as usize];
        let lines = BufReader::new(child.stderr.take().expect("its reports")).lines();
        let mut count = 0;
        for line in lines {
            let line = line.expect("a line");
            let mut words = line.split(' ');
            if words.next() != Some("acknowledged") {
                eprintln!("child: {line}");
            } else {
                let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
                let (Some(chunk), Some(version)) = (number(), number()) else { continue };
                acknowledged[chunk as usize] = version;
                count += 1;
            }
            if count == 20 + round * 7 {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("ended");
        assert!(count >= 20 + round * 7, "the child wrote before it was killed: {count}");
        let store = open(directory.path(), "auto");
        for (number, version) in acknowledged.into_iter().enumerate() {
            let number = number as u32;
            let state = store.state(TARGET, chunk(number)).expect("state");
            let found = state.and_then(|state| state.committed).map_or(0, |state| state.version.0);
            assert!(found >= version, "round {round}: version {version} of chunk {number}");
            if found > 0 {
                let bytes = read(&store, number, ReadVersion::Committed).await.expect("readable");
                assert!(bytes == content(number, found), "round {round}: bytes of chunk {number}");
            }
        }
    }
}
