//! What is written is what is read, by this client at once and by others after close.

use crate::world::{CHUNK, Memory, World, create, open, read, root};
use bytes::Bytes;
use firepond_client::file_system::{FileSystemOptions, OpenOptions};
use firepond_core::ErrorKind;
use firepond_core::ids::InodeId;
use firepond_core::wire::meta::{AttributeChanges, TimeUpdate};
use std::sync::atomic::Ordering;

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ seed).collect()
}

/// Goal: the writer sees its bytes before they are sent, others after its close.
/// Method: blocked storage, then a second client. Oracle: the bytes written.
#[tokio::test]
async fn own_writes_are_seen_at_once() {
    let world = World::new().await;
    let writer = world.client(FileSystemOptions::default());
    let file = create(&writer, "f").await;
    world.storage.blocked.store(true, Ordering::SeqCst);
    let bytes = pattern(3 * CHUNK + 100, 1);
    file.write(0, Bytes::from(bytes.clone())).await.expect("takes in");
    file.write_slice(10, b"patched").await.expect("takes in");
    let mut expected = bytes;
    expected[10..17].copy_from_slice(b"patched");
    world.storage.blocked.store(false, Ordering::SeqCst);
    assert_eq!(file.attributes().size_bytes, expected.len() as u64);
    assert_eq!(read(&file, 0, expected.len() + 5).await, expected);
    file.close().await.expect("closes");
    assert_eq!(writer.dirty_bytes(), 0);
    let reader = world.client(FileSystemOptions::default());
    let file = open(&reader, "f", false).await;
    assert_eq!(read(&file, 0, expected.len() + 5).await, expected);
    assert_eq!(read(&file, CHUNK as u64 - 3, 6).await, expected[CHUNK - 3..CHUNK + 3]);
}

/// Goal: small contiguous writes become few updates. Method: 1 KiB at a time. Oracle: the count.
#[tokio::test]
async fn small_writes_are_gathered() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let file = create(&files, "f").await;
    for step in 0..256_u64 {
        file.write_slice(step * 1024, &[step as u8; 1024]).await.expect("takes in");
    }
    file.sync().await.expect("syncs");
    assert_eq!(world.storage.update_count.load(Ordering::SeqCst), 4, "one a chunk");
    assert_eq!(read(&file, 5 * 1024, 1024).await, vec![5; 1024]);
}

/// Goal: holes and extensions read as zeros; truncation drops the rest for every handle.
/// Oracle: the bytes by hand.
#[tokio::test]
async fn holes_and_truncation() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let file = create(&files, "f").await;
    let far = 2 * CHUNK as u64 + 7;
    file.write_slice(far, b"end").await.expect("takes in");
    assert_eq!(read(&file, far - 2, 10).await, b"\0\0end");
    file.sync().await.expect("syncs");
    assert_eq!(read(&file, 0, CHUNK).await, vec![0; CHUNK]);
    let resize = |size| AttributeChanges { size_bytes: Some(size), ..Default::default() };
    let cut = files.set_attributes(&root(), file.inode(), resize(far + 1)).await.expect("cuts");
    assert_eq!(cut.size_bytes, far + 1);
    assert_eq!(read(&file, far, 10).await, b"e");
    files.set_attributes(&root(), file.inode(), resize(far + 3)).await.expect("extends");
    assert_eq!(read(&file, far, 10).await, b"e\0\0");
    let found = files.lookup(&root(), InodeId::ROOT, b"f").await.expect("exists");
    let truncate = OpenOptions { read: true, write: true, truncate: true };
    let other = files.open(&root(), found.inode, truncate).await.expect("opens");
    assert_eq!(other.attributes().size_bytes, 0);
    assert_eq!(read(&file, 0, 10).await, b"");
    file.close().await.expect("closes");
    other.close().await.expect("closes");
}

/// Goal: appends of many tasks never overlap. Method: 8 tasks on one file. Oracle: every line once.
#[tokio::test]
async fn appends_do_not_overlap() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let file = create(&files, "f").await;
    let tasks: Vec<_> = (0..8_u8)
        .map(|task| {
            let file = file.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    file.append(Bytes::from(vec![b'a' + task; 100])).await.expect("appends");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("task");
    }
    file.sync().await.expect("syncs");
    let bytes = read(&file, 0, 100_000).await;
    assert_eq!(bytes.len(), 40_000);
    assert!(bytes.chunks(100).all(|line| line.iter().all(|byte| *byte == line[0])));
}

/// Goal: times that were set stay set, although written bytes are settled later.
/// Method: write, utimens, close. Oracle: the time asked for.
#[tokio::test]
async fn times_survive_the_close() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let file = create(&files, "f").await;
    file.write_slice(0, b"data").await.expect("takes in");
    let changes =
        AttributeChanges { modified: Some(TimeUpdate::At(1_000_000_007)), ..Default::default() };
    files.set_attributes(&root(), file.inode(), changes).await.expect("sets");
    file.close().await.expect("closes");
    let found = files.lookup(&root(), InodeId::ROOT, b"f").await.expect("exists");
    assert_eq!((found.modified_ns, found.size_bytes), (1_000_000_007, 4));
}

/// Goal: a handle does only what it was opened for, and nothing after close. Oracle: the error.
#[tokio::test]
async fn handles_keep_their_rights() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    create(&files, "f").await.close().await.expect("closes");
    let file = open(&files, "f", false).await;
    let refused = file.write_slice(0, b"x").await.expect_err("read-only");
    assert_eq!(refused.kind(), ErrorKind::Closed);
    let too_far = open(&files, "f", true).await;
    let error = too_far.write_slice(u64::MAX - 1, b"xy").await.expect_err("too far");
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    file.close().await.expect("closes");
    file.close().await.expect("twice is once");
    let memory = Memory::new(1);
    let closed = file.read_into(0, memory.sinks(&[1])).await.expect_err("closed");
    assert_eq!(closed.kind(), ErrorKind::Closed);
}

/// Goal: closing a file that was only read forgets nothing of what another handle has written and
/// not settled. Method: acknowledged writes, then a reader comes and goes. Oracle: the size stays
/// while its close is answered, and is settled by the writer's close.
#[tokio::test]
async fn a_readers_close_settles_nothing() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let file = create(&files, "f").await;
    file.write_slice(0, &pattern(500, 3)).await.expect("takes in");
    file.flush().await.expect("flushes");
    open(&files, "f", false).await.close().await.expect("closes");
    for _ in 0..100 {
        assert_eq!(file.attributes().size_bytes, 500);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    file.close().await.expect("closes");
    let reader = world.client(FileSystemOptions::default());
    let file = open(&reader, "f", false).await;
    assert_eq!(read(&file, 0, 900).await, pattern(500, 3));
}

/// Goal: a hole reads as zeros, through the bytes that were not sent yet too, and ends at the end
/// of the file. Method: holes over edges, whole chunks, the end and nothing. Oracle: a vector.
#[tokio::test]
async fn holes_are_punched() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let file = create(&files, "f").await;
    let mut expected = pattern(4 * CHUNK + 100, 7);
    file.write(0, Bytes::from(expected.clone())).await.expect("takes in");
    let (chunk, end) = (CHUNK, expected.len());
    for (from, to) in
        [(10, 20), (chunk - 5, 3 * chunk + 5), (end - 9, end + 50), (end + 1, end + 2)]
    {
        file.punch_hole(from as u64, (to - from) as u64).await.expect("punches");
        expected[from.min(end)..to.min(end)].fill(0);
        assert_eq!(read(&file, 0, end + 60).await, expected, "{from}..{to}");
    }
    file.punch_hole(0, u64::MAX).await.expect("punches");
    assert_eq!(read(&file, 0, end + 60).await, vec![0; end]);
    file.close().await.expect("closes");
    let reader = world.client(FileSystemOptions::default());
    let file = open(&reader, "f", false).await;
    assert_eq!(read(&file, 0, end + 60).await, vec![0; end]);
}
