//! Lost replies, unknown outcomes, crashes and silent clients.
//!
//! Time is virtual: leases pass at once and no machine is too slow for them.

use crate::common::{self, LEASE, ROOT, User, World, create, hint, name, rename};
use crate::flaky::FlakyStore;
use firepond_core::ErrorKind;
use firepond_core::ids::InodeId;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::*;

const CHUNK: u64 = 1 << 16;

fn unlink(text: &str) -> Operation {
    Operation::Unlink { parent: ROOT, name: name(text) }
}

/// Goal: an unknown outcome never shows. Method: 2 of 3 commits unknown, from each phase.
/// Oracle: every operation succeeds once, link counts are right.
#[tokio::test(start_paused = true)]
async fn unknown_outcomes_are_exactly_once() {
    for start in 0..3 {
        let world = common::world(FlakyStore::new(start), None).await;
        let root = world.root();
        for round in 0..10 {
            let directory = root.mkdir(ROOT, "d").await.unwrap().inode;
            let file = root.touch(directory, "f").await.unwrap().inode;
            assert_eq!(root.link(file, directory, "g").await.unwrap().link_count, 2);
            root.rename((directory, "f"), (ROOT, "f")).await.unwrap();
            root.symlink(directory, "s", "x").await.unwrap();
            assert_eq!(root.stat(ROOT).await.unwrap().link_count, 3, "round {round}");
            root.unlink(ROOT, "f").await.unwrap();
            assert_eq!(root.stat(file).await.unwrap().link_count, 1);
            root.unlink(directory, "g").await.unwrap();
            root.unlink(directory, "s").await.unwrap();
            root.rmdir(ROOT, "d").await.unwrap();
            assert_eq!(root.stat(ROOT).await.unwrap().link_count, 2, "round {round}");
        }
    }
}

/// Goal: a retry answers what the first try answered, also after a restart. Oracle: equal replies.
#[tokio::test(start_paused = true)]
async fn retries_answer_the_same() {
    let world = common::embedded().await;
    let root = world.root();
    let ids: Vec<u64> = (0..5).map(|_| root.next_id()).collect();
    let keep = RenameMode::NoReplace;
    let operations = [
        create(ROOT, "f", 0o644, true),
        Operation::MakeDirectory { parent: ROOT, name: name("d"), mode: 0o755 },
        rename((ROOT, "f"), (ROOT, "g"), keep),
        unlink("g"),
        unlink("none"),
    ];
    let mut first = Vec::new();
    for (id, operation) in ids.iter().zip(&operations) {
        first.push(root.retry(*id, operation.clone()).await.map_err(|error| error.kind()));
    }
    assert_eq!(first[4], Err(ErrorKind::NotFound));
    root.touch(ROOT, "none").await.unwrap();
    root.touch(ROOT, "g").await.unwrap();
    let names = root.names(ROOT).await;
    let client = root.client;
    drop(root);
    let world = world.restart().await;
    let root = world.client(client.0, 0);
    for ((id, operation), first) in ids.iter().zip(operations).zip(first) {
        let again = root.retry(*id, operation).await.map_err(|error| error.kind());
        assert_eq!(again, first, "the same answer");
    }
    assert_eq!(root.names(ROOT).await, names, "nothing happened twice");
}

/// Goal: ids are never used again. Method: restart between creates. Oracle: ids grow.
#[tokio::test(start_paused = true)]
async fn inode_ids_are_never_used_again() {
    let mut world = common::embedded().await;
    let mut last = InodeId(0);
    for round in 0..4 {
        let root = world.root();
        let made = root.touch(ROOT, "f").await.unwrap().inode;
        assert!(made > last, "round {round}");
        last = made;
        root.unlink(ROOT, "f").await.unwrap();
        drop(root);
        world = world.restart().await;
    }
}

async fn written_file<S: KvStore>(world: &World<S>, user: &User<S>, chunks: u64) -> Attributes {
    let file = user.create(ROOT, "f", 0o644).await.unwrap();
    world.chunks.write(file.inode, &file.layout.unwrap(), 0, chunks * CHUNK);
    user.close(file.inode, hint(chunks * CHUNK, 0, 1)).await.unwrap()
}

/// Goal: old bytes never come back, wherever a truncation was cut off. Method: the chains fail
/// after the n-th call, the service dies, the next life is met by an open, an extension or the
/// background.
/// Oracle: chunks end where the cut was.
#[tokio::test(start_paused = true)]
async fn truncation_survives_a_crash_at_every_step() {
    for step in 0..14 {
        for finisher in ["open", "extend", "background"] {
            let world = common::embedded().await;
            let root = world.root();
            let file = written_file(&world, &root, 6).await;
            world.chunks.allow(step);
            let cut = root.truncate(file.inode, CHUNK + 9).await;
            assert!(cut.is_ok() || cut.unwrap_err().kind() == ErrorKind::PeerUnreachable);
            assert_eq!(root.stat(file.inode).await.unwrap().size_bytes, CHUNK + 9);
            drop(root);
            let world = world.restart().await;
            let root = world.root();
            match finisher {
                "open" => drop(root.open(file.inode, 1, true).await.unwrap()),
                "extend" => drop(root.truncate(file.inode, 6 * CHUNK).await.unwrap()),
                _ => world.turn().await,
            }
            let left = world.chunks.of(file.inode);
            assert_eq!(left, vec![(0, CHUNK as u32), (1, 9)], "step {step}, {finisher}");
        }
    }
}

/// Goal: a file that is open stays whole. Method: unlink while open for reading or writing.
/// Oracle: chunks and inode are there until close, and gone after.
#[tokio::test(start_paused = true)]
async fn collection_waits_for_the_last_close() {
    for write in [false, true] {
        let world = common::memory().await;
        let root = world.root();
        let file = written_file(&world, &root, 3).await;
        world.settle().await;
        root.open(file.inode, 5, write).await.unwrap();
        root.unlink(ROOT, "f").await.unwrap();
        world.turn().await;
        assert_eq!(world.chunks.of(file.inode).len(), 3);
        assert_eq!(root.stat(file.inode).await.unwrap().link_count, 0);
        assert_eq!(world.meta.status().collect_backlog, 1);
        let open = OpenFile { inode: file.inode, handle: 5, write };
        root.call(Operation::Close { open, hint: None }).await.unwrap();
        world.turn().await;
        assert_eq!(world.chunks.of(file.inode), vec![]);
        let error = root.stat(file.inode).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleHandle);
        assert_eq!(world.meta.status().inode_count, 1);
    }
}

/// Goal: a collection that was cut off goes on. Oracle: neither chunks nor inode are left.
#[tokio::test(start_paused = true)]
async fn collection_survives_a_crash_at_every_step() {
    for step in 0..10 {
        let world = common::embedded().await;
        let root = world.root();
        let file = written_file(&world, &root, 5).await;
        root.unlink(ROOT, "f").await.unwrap();
        world.settle().await;
        world.chunks.allow(step);
        world.turn().await;
        drop(root);
        let world = world.restart().await;
        world.settle().await;
        world.turn().await;
        assert_eq!(world.chunks.of(file.inode), vec![], "step {step}");
        let error = world.root().stat(file.inode).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleHandle, "step {step}");
        assert_eq!(world.meta.status().inode_count, 1);
    }
}

/// Goal: readers keep their files through a restart. Method: `SessionUnknown`, then the list.
/// Oracle: nothing is collected before two leases, nor while the reader lives.
#[tokio::test(start_paused = true)]
async fn readers_register_again_after_a_restart() {
    let world = common::embedded().await;
    let root = world.root();
    let file = written_file(&world, &root, 2).await;
    root.open(file.inode, 5, false).await.unwrap();
    root.unlink(ROOT, "f").await.unwrap();
    let client = root.client.0;
    drop(root);
    let world = world.restart().await;
    let root = world.client(client, 0);
    world.turn().await;
    assert_eq!(world.chunks.of(file.inode).len(), 2, "nobody has told yet what is open");
    let error = root.keep(None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SessionUnknown);
    let open = OpenFile { inode: file.inode, handle: 5, write: false };
    let lease_ms = u64::try_from(LEASE.as_millis()).unwrap();
    let kept = root.keep(Some(vec![open])).await.unwrap();
    assert_eq!(kept, MetaReply::Session { lease_ms });
    for _ in 0..6 {
        firepond_core::sys::clock::sleep(LEASE / 2).await;
        root.keep(None).await.unwrap();
        world.turn().await;
    }
    assert_eq!(world.chunks.of(file.inode).len(), 2, "the reader lives");
    root.keep(Some(vec![])).await.unwrap();
    world.turn().await;
    assert_eq!(world.chunks.of(file.inode), vec![], "the reader has closed it");
}

/// Goal: what a dead client wrote has a length. Method: write, never close, let the lease pass.
/// Oracle: the size is the end of the last chunk; the file can then be collected.
#[tokio::test(start_paused = true)]
async fn the_length_of_a_dead_writer_is_settled() {
    let world = common::embedded().await;
    let (dead, root) = (world.client(99, 0), world.root());
    let file = dead.create(ROOT, "f", 0o644).await.unwrap();
    world.chunks.write(file.inode, &file.layout.unwrap(), 0, 3 * CHUNK + 17);
    drop((dead, root));
    // Also when the service dies with it.
    let world = world.restart().await;
    world.turn().await;
    let root = world.root();
    assert_eq!(root.stat(file.inode).await.unwrap().size_bytes, 0, "it may still be alive");
    world.settle().await;
    world.chunks.allow(0);
    world.turn().await;
    assert_eq!(root.stat(file.inode).await.unwrap().size_bytes, 0, "the chains do not answer");
    world.chunks.allow(usize::MAX);
    world.turn().await;
    assert_eq!(root.stat(file.inode).await.unwrap().size_bytes, 3 * CHUNK + 17);
    root.unlink(ROOT, "f").await.unwrap();
    world.turn().await;
    assert_eq!(world.chunks.of(file.inode), vec![]);
}

/// Goal: a writer that was silent too long goes on. Method: prune, then the list with the file.
/// Oracle: its length settles again, and the file is not collected while it has it open.
#[tokio::test(start_paused = true)]
async fn a_silent_writer_comes_back() {
    let world = common::memory().await;
    let (silent, root) = (world.client(99, 0), world.root());
    let file = silent.create(ROOT, "f", 0o644).await.unwrap();
    world.settle().await;
    world.turn().await;
    assert_eq!(silent.keep(None).await.unwrap_err().kind(), ErrorKind::SessionUnknown);
    let open = OpenFile { inode: file.inode, handle: 1, write: true };
    silent.keep(Some(vec![open])).await.unwrap();
    root.unlink(ROOT, "f").await.unwrap();
    world.chunks.write(file.inode, &file.layout.unwrap(), 0, 50);
    world.turn().await;
    assert_eq!(world.chunks.of(file.inode).len(), 1);
    assert_eq!(silent.close(file.inode, hint(50, 0, 1)).await.unwrap().size_bytes, 50);
    world.turn().await;
    assert_eq!(world.chunks.of(file.inode), vec![]);
}
