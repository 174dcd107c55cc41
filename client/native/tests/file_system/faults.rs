//! Lost replies, full disks, slow clusters: nothing is lost silently, nothing hangs, memory is
//! bounded.

use crate::world::{CHUNK, World, create, open, read, root};
use bytes::Bytes;
use firepond_client::file_system::FileSystemOptions;
use firepond_core::ErrorKind;
use firepond_core::ids::InodeId;
use firepond_core::sys::clock;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Goal: a lost reply neither doubles nor loses an operation. Method: lose replies of create,
/// mkdir, unlink and chunk updates. Oracle: the names and bytes that are there.
#[tokio::test]
async fn lost_replies_are_asked_for_again() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    world.meta_faults.lose_replies.store(2, Ordering::SeqCst);
    let file = create(&files, "f").await;
    world.storage.lose_replies.store(3, Ordering::SeqCst);
    file.write(0, Bytes::from(vec![7; 2 * CHUNK])).await.expect("takes in");
    file.flush().await.expect("flushes");
    assert_eq!(world.storage.update_count.load(Ordering::SeqCst), 2);
    world.meta_faults.lose_replies.store(1, Ordering::SeqCst);
    file.close().await.expect("closes");
    world.meta_faults.lose_replies.store(1, Ordering::SeqCst);
    files.make_directory(&root(), InodeId::ROOT, b"d", 0o755).await.expect("makes");
    world.meta_faults.lose_replies.store(1, Ordering::SeqCst);
    files.unlink(&root(), InodeId::ROOT, b"f").await.expect("removes");
    let (entries, more) =
        files.read_directory(&root(), InodeId::ROOT, None, 10, false).await.expect("lists");
    assert_eq!(entries.iter().map(|one| one.name.to_vec()).collect::<Vec<_>>(), [b"d"]);
    assert!(!more);
}

/// Goal: a failed buffered write is reported once to each handle. Method: a full storage.
/// Oracle: the errors of flush, write and close, by handle.
#[tokio::test]
async fn errors_reach_every_handle_once() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let first = create(&files, "f").await;
    let second = open(&files, "f", true).await;
    world.storage.full.store(true, Ordering::SeqCst);
    first.write_slice(0, b"lost").await.expect("takes in");
    let error = first.flush().await.expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    world.storage.full.store(false, Ordering::SeqCst);
    first.flush().await.expect("reported already");
    let error = second.write_slice(0, b"more").await.expect_err("this handle has not heard");
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    second.write_slice(0, b"more").await.expect("reported already");
    second.close().await.expect("closes");
    first.close().await.expect("closes");
    let again = open(&files, "f", false).await;
    assert_eq!(read(&again, 0, 10).await, b"more");
}

/// Goal: dirty bytes are bounded, and a writer that cannot go on fails at its deadline.
/// Method: blocked storage, a write beyond the bound. Oracle: the counter, the error, the clock.
#[tokio::test(start_paused = true)]
async fn dirty_bytes_are_bounded_and_nothing_hangs() {
    let world = World::new().await;
    let options = FileSystemOptions {
        operation_timeout_ms: 2_000,
        file_dirty_max_bytes: 4 << 20,
        ..FileSystemOptions::default()
    };
    let files = world.client(options);
    let file = create(&files, "f").await;
    world.storage.blocked.store(true, Ordering::SeqCst);
    let begun = clock::now();
    let bytes = Bytes::from(vec![1; 16 << 20]);
    let error = file.write(0, bytes).await.expect_err("cannot go on");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(files.dirty_bytes() <= 4 << 20, "{}", files.dirty_bytes());
    let error = file.close().await.expect_err("not everything was acknowledged");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(clock::now() - begun < Duration::from_secs(20));
    world.storage.blocked.store(false, Ordering::SeqCst);
}

/// Goal: forgotten small writes go out by themselves. Method: write, wait. Oracle: another client.
#[tokio::test(start_paused = true)]
async fn old_dirty_bytes_are_sent() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let file = create(&files, "f").await;
    file.write_slice(0, b"hello").await.expect("takes in");
    assert_eq!(world.storage.update_count.load(Ordering::SeqCst), 0);
    clock::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.storage.update_count.load(Ordering::SeqCst), 1);
    assert_eq!(files.dirty_bytes(), 0);
}

/// Goal: a dropped file and `shutdown` leave nothing unsent. Oracle: another client's read.
#[tokio::test]
async fn drop_and_shutdown_send_everything() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let dropped = create(&files, "dropped").await;
    dropped.write_slice(0, b"one").await.expect("takes in");
    drop(dropped);
    let kept = create(&files, "kept").await;
    kept.write_slice(0, b"two").await.expect("takes in");
    files.shutdown().await.expect("shuts down");
    let other = world.client(FileSystemOptions::default());
    assert_eq!(read(&*open(&other, "dropped", false).await, 0, 9).await, b"one");
    assert_eq!(read(&*open(&other, "kept", false).await, 0, 9).await, b"two");
}
