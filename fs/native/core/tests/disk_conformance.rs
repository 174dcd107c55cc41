//! One suite over all disk engines.

use firepond_core::ErrorKind;
use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
use firepond_core::payload::Payload;
use firepond_core::sys::disk::simulated::{CrashPoint, SimulatedDisk};
use firepond_core::sys::disk::{Disk, DiskFile, open_disk};
use std::path::Path;
use std::sync::Arc;

const NAME: &str = "a.data";

/// Every engine that this host has, on an empty directory.
fn disks() -> Vec<(Arc<dyn Disk>, Option<tempfile::TempDir>)> {
    let simulated = SimulatedDisk::new(1, 64 << 20, Arc::new(CrashPoint::default()));
    let mut disks: Vec<(Arc<dyn Disk>, _)> = vec![(Arc::new(simulated), None)];
    for engine in ["positional", "io_uring"] {
        let directory = tempfile::tempdir().expect("directory");
        match open_disk(directory.path(), engine) {
            Ok(disk) => disks.push((disk, Some(directory))),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        }
    }
    disks
}

fn pool() -> BufferPool {
    BufferPool::new(BUFFER_MAX_BYTES)
}

async fn pages(pool: &BufferPool, byte: u8, count: usize) -> Payload {
    let mut buffer = pool.acquire(count * 4096).await.expect("room");
    buffer.fill(byte);
    Payload::from_buffer(buffer)
}

async fn read(file: &dyn DiskFile, pool: &BufferPool, offset: u64, len: usize) -> Vec<u8> {
    let buffer = pool.acquire(len).await.expect("room");
    let (count, buffer) = file.read(buffer, offset).await;
    buffer[..count.expect("read")].to_vec()
}

/// Goal: what was written is read, short at the end of the file, by every engine.
/// Method: many overlapping writes in flight. Oracle: the bytes.
#[tokio::test]
async fn writes_are_read_back() {
    for (disk, _directory) in disks() {
        let pool = pool();
        let file = disk.open(Path::new(NAME), true).expect("open");
        file.set_len(600 * 4096).expect("grow");
        let mut writes = Vec::new();
        for page in 0..600_u64 {
            let payload = pages(&pool, page as u8, 2).await;
            writes.push(file.write(payload, 4096..8192, page * 4096));
        }
        for write in writes {
            write.await.expect("write");
        }
        file.sync().await.expect("sync");
        file.sync_in_place().await.expect("sync");
        for page in [0_u64, 1, 299, 599] {
            assert_eq!(read(&*file, &pool, page * 4096, 4096).await, vec![page as u8; 4096]);
        }
        assert_eq!(read(&*file, &pool, 599 * 4096, 8192).await.len(), 4096);
        let mut cached = vec![0; 4096];
        if file.read_cached(&mut cached, 4096).is_some() {
            assert_eq!(cached, vec![1; 4096]);
        }
        file.punch(4096, 4096).expect("punch");
        assert_eq!(read(&*file, &pool, 4096, 4096).await, vec![0; 4096]);
        file.set_len(4096).expect("cut");
        assert_eq!(file.len().expect("length"), 4096);
    }
}

/// Goal: parts of one buffer land where they belong, more of them than a ring holds, and a bad part
/// is refused. Oracle: the bytes, the kind.
#[tokio::test]
async fn scattered_writes_are_read_back() {
    for (disk, _directory) in disks() {
        let pool = pool();
        let file = disk.open(Path::new(NAME), true).expect("open");
        file.set_len(2 * 600 * 4096).expect("grow");
        let mut buffer = pool.acquire(600 * 4096).await.expect("room");
        buffer.chunks_mut(4096).zip(0..).for_each(|(page, number)| page.fill((number % 251) as u8));
        let payload = Payload::from_buffer(buffer);
        let part = |page: usize| (page * 4096..(page + 1) * 4096, page as u64 * 2 * 4096);
        file.write_scattered(payload.clone(), (0..600).map(part).collect()).await.expect("write");
        for page in [0_usize, 1, 255, 256, 599] {
            let found = read(&*file, &pool, page as u64 * 2 * 4096, 4096).await;
            assert_eq!(found, vec![(page % 251) as u8; 4096]);
        }
        let bad = vec![(0..4096, 0), (0..100, 4096)];
        let refused = file.write_scattered(payload, bad).await.expect_err("unaligned");
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
}

/// Goal: a dropped future harms nothing: the write runs to its end and the memory lives until then.
/// Method: drop writes at once and reuse the pool. Oracle: all or nothing of each write, on disk.
#[tokio::test]
async fn dropped_operations_keep_their_memory() {
    for (disk, _directory) in disks() {
        let pool = pool();
        let file = disk.open(Path::new(NAME), true).expect("open");
        file.set_len(256 * 4096).expect("grow");
        for page in 0..256_u64 {
            let payload = pages(&pool, 7, 1).await;
            drop(file.write(payload, 0..4096, page * 4096));
            let buffer = pool.acquire(4096).await.expect("room");
            drop(file.read(buffer, page * 4096));
            pages(&pool, 9, 1).await;
        }
        file.sync().await.expect("sync");
        let deadline = firepond_core::sys::clock::now() + std::time::Duration::from_secs(20);
        while read(&*file, &pool, 0, 256 * 4096).await != vec![7; 256 * 4096] {
            assert!(firepond_core::sys::clock::now() < deadline, "every write ends");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// Goal: directories list and remove; bad paths, unaligned writes and unknown engines are refused.
/// Oracle: names and error kinds.
#[tokio::test]
async fn names_and_refusals() {
    for (disk, _directory) in disks() {
        let file = disk.open(Path::new(NAME), true).expect("open");
        assert!(disk.list().expect("list").contains(&NAME.into()));
        assert!(disk.open(Path::new("absent"), false).is_err());
        let payload = pages(&pool(), 1, 1).await;
        let refused = file.write(payload, 0..100, 0).await.expect_err("unaligned");
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        drop(file);
        disk.remove(Path::new(NAME)).expect("remove");
        disk.remove(Path::new(NAME)).expect("absent is fine");
        assert!(!disk.list().expect("list").contains(&NAME.into()));
        let (total, free) = disk.space().expect("space");
        assert!(total >= free && total > 0);
    }
    let directory = tempfile::tempdir().expect("directory");
    assert!(open_disk(directory.path(), "floppy").is_err());
    let disk = open_disk(directory.path(), "auto").expect("some engine");
    assert!(disk.open(Path::new("../outside"), true).is_err());
}
