//! Group commit pays: many committers share an fsync.

use crate::support::{embedded, put};
use firepond_core::kv::EmbeddedStore;
use firepond_core::sys::clock::now;
use std::io::Write;
use std::time::Duration;

const ROUND: Duration = Duration::from_millis(700);

/// Durable commits a second with this many committers.
async fn commits_per_second(store: &EmbeddedStore, committer_count: usize) -> f64 {
    let begin = now();
    let mut tasks = Vec::new();
    for committer in 0..committer_count {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut count = 0_u32;
            while begin.elapsed() < ROUND {
                put(&store, &[(&format!("{committer}/{count}"), "a value of some bytes")]).await;
                count += 1;
            }
            count
        }));
    }
    let mut total = 0;
    for task in tasks {
        total += task.await.expect("commits");
    }
    f64::from(total) / begin.elapsed().as_secs_f64()
}

/// Goal: 16 committers get more durable commits a second than one, as they share fsyncs. Oracle:
/// the ratio, measured in one run; `--nocapture` prints it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_commit_scales() {
    let (_directory, store) = embedded();
    let one = commits_per_second(&store, 1).await;
    let sixteen = commits_per_second(&store, 16).await;
    let line = format!("1 committer: {one:.0}/s, 16 committers: {sixteen:.0}/s");
    writeln!(std::io::stdout(), "{line}, ratio {:.1}", sixteen / one).expect("prints");
    assert!(sixteen > one * 1.5, "no gain: {one:.0}/s and {sixteen:.0}/s");
}
