//! Many at once: what must not conflict does not, what must not both happen does not.

use crate::common::{ROOT, User, World};
use crate::on_both_engines;
use firepond_core::ids::InodeId;
use firepond_core::kv::KvStore;
use firepond_core::{ErrorKind, Result};
use std::collections::BTreeSet;
use std::future::Future;
use tokio::task::JoinSet;

on_both_engines!(
    parallel_creates_in_one_directory_do_not_conflict,
    parallel_mkdirs_count_right,
    a_file_is_never_made_in_a_removed_directory,
    crossing_renames_make_no_loop,
    links_and_unlinks_count_right,
    only_one_exclusive_create_wins,
);

async fn all<T: Send + 'static>(
    count: usize,
    work: impl Fn(usize) -> std::pin::Pin<Box<dyn Future<Output = T> + Send>>,
) -> Vec<T> {
    let mut tasks = JoinSet::new();
    for at in 0..count {
        tasks.spawn(work(at));
    }
    tasks.join_all().await
}

/// Runs two operations at the same time.
async fn both<A, B>(a: A, b: B) -> (A::Output, B::Output)
where
    A: Future<Output: Send> + Send + 'static,
    B: Future<Output: Send> + Send + 'static,
{
    let (a, b) = (tokio::spawn(a), tokio::spawn(b));
    (a.await.unwrap(), b.await.unwrap())
}

/// Goal: creates in one directory share nothing. Oracle: no transaction ran twice.
async fn parallel_creates_in_one_directory_do_not_conflict<S: KvStore>(world: World<S>) {
    let root = world.root();
    root.touch(ROOT, "first").await.unwrap();
    let before = world.meta.status().conflict_count;
    let made = all(100, |at| {
        let root = root.clone();
        Box::pin(async move { root.create(ROOT, &format!("f{at}"), 0o644).await })
    })
    .await;
    let inodes: BTreeSet<InodeId> = made.into_iter().map(|one| one.unwrap().inode).collect();
    assert_eq!(inodes.len(), 100);
    assert_eq!(world.meta.status().conflict_count, before);
    assert_eq!(root.names(ROOT).await.len(), 101);
}

/// Goal: shards lose no subdirectory. Oracle: link count.
async fn parallel_mkdirs_count_right<S: KvStore>(world: World<S>) {
    let root = world.root();
    let made = all(60, |at| {
        let root = root.clone();
        Box::pin(async move {
            root.mkdir(ROOT, &format!("d{at}")).await.unwrap();
            if at % 3 == 0 {
                root.rmdir(ROOT, &format!("d{at}")).await.unwrap();
            }
        })
    });
    made.await;
    assert_eq!(root.stat(ROOT).await.unwrap().link_count, 2 + 40);
}

/// Goal: create and rmdir exclude each other. Oracle: exactly one succeeds, no name is left over.
async fn a_file_is_never_made_in_a_removed_directory<S: KvStore>(world: World<S>) {
    let root = world.root();
    for round in 0..40 {
        let directory = root.mkdir(ROOT, "d").await.unwrap().inode;
        let (creator, remover) = (root.clone(), root.clone());
        let (made, removed) =
            both(async move { creator.touch(directory, "f").await }, async move {
                remover.rmdir(ROOT, "d").await
            })
            .await;
        assert_ne!(made.is_ok(), removed.is_ok(), "round {round}");
        if let Err(error) = made {
            assert_eq!(error.kind(), ErrorKind::NotFound);
        } else {
            assert_eq!(removed.unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
            root.unlink(directory, "f").await.unwrap();
            root.rmdir(ROOT, "d").await.unwrap();
        }
    }
}

/// Goal: two moves cannot cut a subtree off. Oracle: both directories are reached from the root.
async fn crossing_renames_make_no_loop<S: KvStore>(world: World<S>) {
    let root = world.root();
    for round in 0..40 {
        let a = root.mkdir(ROOT, "a").await.unwrap().inode;
        let b = root.mkdir(ROOT, "b").await.unwrap().inode;
        let below_a = root.mkdir(a, "deep").await.unwrap().inode;
        let below_b = root.mkdir(b, "deep").await.unwrap().inode;
        let (one, other) = (root.clone(), root.clone());
        let (first, second) =
            both(async move { one.rename((ROOT, "a"), (below_b, "a")).await }, async move {
                other.rename((ROOT, "b"), (below_a, "b")).await
            })
            .await;
        assert_ne!(first.is_ok(), second.is_ok(), "round {round}");
        let (lost, parent, text) =
            if first.is_ok() { ("b", below_b, "a") } else { ("a", below_a, "b") };
        assert_eq!(root.lookup(ROOT, lost).await.unwrap().link_count, 3);
        root.lookup(parent, text).await.unwrap();
        remove_tree(&root, ROOT).await;
    }
}

async fn remove_tree<S: KvStore>(root: &User<S>, directory: InodeId) {
    for text in root.names(directory).await {
        let inode = root.lookup(directory, &text).await.unwrap().inode;
        Box::pin(remove_tree(root, inode)).await;
        root.rmdir(directory, &text).await.unwrap();
    }
}

/// Goal: the link count is the number of names. Oracle: counting names.
async fn links_and_unlinks_count_right<S: KvStore>(world: World<S>) {
    let root = world.root();
    let inode = root.touch(ROOT, "f").await.unwrap().inode;
    all(24, |at| {
        let root = root.clone();
        Box::pin(async move {
            root.link(inode, ROOT, &format!("l{at}")).await.unwrap();
            if at % 2 == 0 {
                root.unlink(ROOT, &format!("l{at}")).await.unwrap();
            }
        })
    })
    .await;
    assert_eq!(root.names(ROOT).await.len(), 13);
    assert_eq!(root.stat(inode).await.unwrap().link_count, 13);
}

/// Goal: O_EXCL is a lock. Oracle: one winner, everybody else `AlreadyExists`.
async fn only_one_exclusive_create_wins<S: KvStore>(world: World<S>) {
    let root = world.root();
    let made: Vec<Result<_>> = all(20, |_| {
        let root = root.clone();
        Box::pin(async move { root.create(ROOT, "lock", 0o644).await })
    })
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 19));
    assert!(lost.into_iter().all(|one| one.unwrap_err().kind() == ErrorKind::AlreadyExists));
}
