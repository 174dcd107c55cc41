//! What only a directory can do: survive, be locked, go on counting, fail.

#![expect(clippy::disallowed_methods, reason = "looks at real files from outside")]

use crate::support::{committed, embedded, get, put};
use firepond_core::ErrorKind;
use firepond_core::kv::{EmbeddedStore, KvStore, KvTransaction};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Names the directory for a child that runs one of the ignored tests below.
const DIRECTORY_VARIABLE: &str = "FIREPOND_KV_CHILD_DIRECTORY";

fn child(test: &str, directory: &Path) -> Child {
    let program = std::env::current_exe().expect("this test binary");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY_VARIABLE, directory).stdout(Stdio::piped());
    command.spawn().expect("starts")
}

fn child_directory() -> Option<std::path::PathBuf> {
    std::env::var_os(DIRECTORY_VARIABLE).map(Into::into)
}

/// Goal: values and versions survive a restart. Oracle: the value, and a larger version.
#[tokio::test]
async fn versions_go_on_after_a_restart() {
    let (directory, store) = embedded();
    put(&store, &[("a", "1")]).await;
    let mut transaction = store.begin();
    transaction.set(b"b", b"1");
    let before = committed(transaction).await;
    drop(store);
    let store = EmbeddedStore::open(directory.path()).expect("opens again");
    let mut transaction = store.begin();
    assert_eq!(transaction.read_version(), before);
    assert_eq!(get(&mut transaction, "a").await.as_deref(), Some("1"));
    transaction.set(b"c", b"1");
    assert_eq!(committed(transaction).await, before + 1);
}

/// Goal: one opener at a time, and a half-made store is made anew. Oracle: the kinds.
#[tokio::test]
async fn the_directory_is_locked() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("db.new")).expect("a half-made store");
    std::fs::File::create(directory.path().join("db.new/0.jnl")).expect("a half-made journal");
    let store = EmbeddedStore::open(directory.path()).expect("opens");
    let refused = EmbeddedStore::open(directory.path()).map(drop).expect_err("locked");
    assert_eq!(refused.kind(), ErrorKind::StoreLocked);
    let transaction = store.begin();
    store.close();
    let mut late = store.begin();
    late.set(b"a", b"1");
    assert_eq!(late.commit().await.expect_err("closed").kind(), ErrorKind::Closed);
    drop((store, transaction));
    EmbeddedStore::open(directory.path()).expect("opens once it is free");
}

/// Goal: acknowledged means durable. Method: a child commits and prints; it is killed with SIGKILL
/// at some acknowledgement, several times over one directory. Oracle: all printed numbers are
/// there.
#[tokio::test]
async fn acknowledged_commits_survive_kill() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..3 {
        let mut child = child("durable::commit_until_killed", directory.path());
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let numbers = lines.map_while(Result::ok).filter_map(|line| {
            line.split_once("acknowledged ").map(|(_, number)| number.to_owned())
        });
        acknowledged.extend(numbers.take(20 + 17 * round));
        child.kill().expect("kills");
        child.wait().expect("ends");
        let store = EmbeddedStore::open(directory.path()).expect("opens after a kill");
        let mut reader = store.begin();
        for number in &acknowledged {
            let value = get(&mut reader, &format!("key/{number}")).await;
            assert_eq!(value.as_ref(), Some(number), "round {round}");
        }
    }
    assert!(acknowledged.len() > 60, "the child acknowledged only {}", acknowledged.len());
}

/// The child of the test above: commits from several tasks for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a child process of acknowledged_commits_survive_kill"]
async fn commit_until_killed() {
    let Some(directory) = child_directory() else { return };
    let store = EmbeddedStore::open(&directory).expect("opens");
    let life = std::process::id();
    let mut tasks = Vec::new();
    for task in 0..4 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..1_000_000 {
                let name = format!("{life}-{task}-{number}");
                put(&store, &[(&format!("key/{name}"), &name)]).await;
                writeln!(std::io::stdout(), "acknowledged {name}").expect("the parent reads");
            }
        }));
    }
    for task in tasks {
        task.await.expect("commits");
    }
}

/// Goal: a write that fails is an error, and the store refuses from then on. Method: a child whose
/// files may not grow. Oracle: its exit; then everything acknowledged is there.
#[tokio::test]
async fn a_failed_write_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = child("durable::commit_beyond_the_file_limit", directory.path());
    assert!(child.wait().expect("ends").success());
    let store = EmbeddedStore::open(directory.path()).expect("opens after a failure");
    assert_eq!(get(&mut store.begin(), "before").await.as_deref(), Some("1"));
}

/// The child of the test above.
#[tokio::test]
#[ignore = "a child process of a_failed_write_is_an_error"]
async fn commit_beyond_the_file_limit() {
    let Some(directory) = child_directory() else { return };
    let store = EmbeddedStore::open(&directory).expect("opens");
    put(&store, &[("before", "1")]).await;
    let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    // SAFETY: plain system calls with a valid pointer; this process runs one test only.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    for _ in 0..2 {
        let mut transaction = store.begin();
        transaction.set(b"after", &[7; 64 << 10]);
        let error = transaction.commit().await.expect_err("the file may not grow");
        assert_eq!(error.kind(), ErrorKind::IoFailed, "{error}");
        assert_eq!(get(&mut store.begin(), "after").await, None);
    }
    assert_eq!(get(&mut store.begin(), "before").await.as_deref(), Some("1"));
}
