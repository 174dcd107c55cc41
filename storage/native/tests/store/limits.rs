//! Rot, full disks, failing disks, slow disks, bounds.

use crate::fixture::*;
use firepond_core::ErrorKind;
use firepond_core::routing::Durability;
use firepond_core::sys::disk::Disk;
use firepond_storage::store::{ChunkWrite, ReadVersion, StoreOptions};
use std::path::Path;
use std::time::Duration;

/// Goal: rot is found at the page that is read, told, and repaired by a full chunk.
/// Method: flip a bit of each page on disk. Oracle: errors exactly where the bit is.
#[tokio::test]
async fn rot_is_found_and_repaired() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    let data = bytes(1, 20_000);
    store.apply(TARGET, write(1, 1, 0, &data)).await.expect("write");
    let file = machine.disk.list().expect("files").remove(0);
    let place = machine.disk.contents(&file).windows(64).position(|w| w == &data[8192..8256]);
    machine.disk.rot(&file, place.expect("the page is on disk") + 100);
    let read = |offset, len| store.read(TARGET, chunk(1), ReadVersion::Committed, offset, len);
    assert_eq!(read(0, 8192).await.expect("good pages").payload.filled(), &data[..8192]);
    let error = read(9000, 1).await.expect_err("the page is bad");
    assert_eq!(error.kind(), ErrorKind::ChunkChecksumMismatch);
    assert!(error.to_string().contains("file:7/1"), "the error names the chunk: {error}");
    assert!(read(0, 20_000).await.is_err());
    let edge = store.apply(TARGET, write(1, 2, 8193, b"kept bytes are bad")).await;
    assert_eq!(edge.expect_err("refused").kind(), ErrorKind::ChunkChecksumMismatch);
    let repair = ChunkWrite { full_chunk: true, ..write(1, 1, 0, &data) };
    store.apply(TARGET, repair).await.expect("repair");
    assert_eq!(committed(&store, 1).await, data);
}

/// Goal: a full disk refuses new data, keeps the old, still removes and cuts, and then has room.
/// Oracle: error kinds and bytes.
#[tokio::test]
async fn full_disk_refuses_and_recovers() {
    let machine = Machine::new(1, 12 << 20);
    let store =
        machine.open_with(StoreOptions { reserve_bytes: 4 << 20, ..options() }).expect("opens");
    let data = bytes(1, CHUNK_BYTES as usize);
    let mut count = 0;
    let error = loop {
        match store.apply(TARGET, write(count, 1, 0, &data)).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), count), (ErrorKind::DiskFull, 8));
    assert_eq!(store.disk_failed().map(|error| error.to_string()), None);
    assert_eq!(committed(&store, 3).await, data);
    store.apply(TARGET, truncate(3, 2, 5000)).await.expect("a cut needs no room");
    store.apply(TARGET, remove(4, 2)).await.expect("a removal needs no room");
    store.apply(TARGET, write(50, 1, 0, &data)).await.expect("there is room again");
    assert_eq!(committed(&store, 50).await, data);
    assert_eq!(committed(&store, 3).await, &data[..5000]);
}

/// Goal: a disk that fails a write is out of service, at once and for everything.
#[tokio::test]
async fn failing_disk_is_out_of_service() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    store.apply(TARGET, write(1, 1, 0, b"before")).await.expect("write");
    machine.disk.set_failing(true);
    let error = store.apply(TARGET, write(2, 1, 0, b"x")).await.expect_err("fails");
    assert_eq!(error.kind(), ErrorKind::DiskFailed);
    machine.disk.set_failing(false);
    assert_eq!(store.disk_failed().expect("failed").kind(), ErrorKind::IoFailed);
    let error = store.state(TARGET, chunk(1)).expect_err("everything is refused");
    assert_eq!(error.kind(), ErrorKind::DiskFailed);
}

/// Goal: a reader keeps its image while the chunk is replaced many times.
/// Method: slow reads beside overwrites that would reuse the pages. Oracle: one version's bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_one_version() {
    let machine = Machine::new(1, 256 << 20);
    let store = machine.open().expect("opens");
    let fill = |version: u64| vec![version as u8; 600_000];
    store.apply(TARGET, write(1, 1, 0, &fill(1))).await.expect("write");
    machine.disk.set_delay(Duration::from_millis(3));
    let reader = store.clone();
    let reads = tokio::spawn(async move {
        for _ in 0..60 {
            let image = reader.read(TARGET, chunk(1), ReadVersion::Committed, 0, u32::MAX).await;
            let image = image.expect("readable");
            let expected = image.version.0 as u8;
            assert!(image.payload.filled().iter().all(|byte| *byte == expected), "one version");
        }
    });
    for version in 2..60 {
        store.apply(TARGET, write(1, version, 0, &fill(version))).await.expect("write");
    }
    reads.await.expect("no torn image");
    assert_eq!(store.space(TARGET).used_bytes, 600_000_u64.next_multiple_of(4096));
}

/// Goal: records in memory stay below the setting. Oracle: the status, every chunk still readable.
#[tokio::test]
async fn memory_is_bounded() {
    let machine = Machine::new(1, 256 << 20);
    let store =
        machine.open_with(StoreOptions { cache_bytes: 64 << 10, ..options() }).expect("opens");
    for number in 0..600 {
        store.apply(TARGET, write(number, 1, 0, &number.to_le_bytes())).await.expect("write");
    }
    for number in 0..600 {
        assert_eq!(committed(&store, number).await, number.to_le_bytes());
    }
    let cached = store.status().cached_bytes;
    assert!(cached > 0 && cached <= 64 << 10, "{cached} bytes are cached");
}

/// Goal: tombstones are forgotten after their age, not before. Oracle: `state`.
#[tokio::test]
async fn tombstones_age() {
    let machine = Machine::new(1, 64 << 20);
    let age = Duration::from_secs(2);
    let store = machine.open_with(StoreOptions { tombstone_age: age, ..options() }).expect("opens");
    store.apply(TARGET, write(1, 1, 0, b"x")).await.expect("write");
    store.apply(TARGET, remove(1, 2)).await.expect("remove");
    let state = store.state(TARGET, chunk(1)).expect("state").expect("remembered");
    assert!(state.committed.expect("version").removed);
    let deadline = firepond_core::sys::clock::now() + Duration::from_secs(20);
    while store.state(TARGET, chunk(1)).expect("state").is_some() {
        assert!(firepond_core::sys::clock::now() < deadline, "the tombstone goes away");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store.apply(TARGET, write(1, 1, 0, b"a new life")).await.expect("from version 1");
}

/// Goal: the cache class is visible at once and ends up in the index. Oracle: bytes after
/// reopening.
#[tokio::test]
async fn cache_class_does_not_wait() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    machine.disk.set_delay(Duration::ZERO);
    let update = ChunkWrite { durability: Durability::Cache, ..write(1, 1, 0, b"cached") };
    store.apply(TARGET, update).await.expect("write");
    assert_eq!(committed(&store, 1).await, b"cached");
    drop(store);
    let store = machine.open().expect("opens");
    assert_eq!(committed(&store, 1).await, b"cached");
    assert!(machine.disk.open(Path::new("none"), false).is_err());
}
