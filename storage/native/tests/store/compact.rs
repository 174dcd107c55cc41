//! Compaction: it moves pages, and nothing else changes.

use crate::fixture::*;
use firepond_core::ids::{ChainVersion, ChunkVersion};
use firepond_storage::store::{ChunkStore, ReadVersion, StoreOptions};
use std::time::Duration;

fn eager() -> StoreOptions {
    StoreOptions { pieces_max_count: 4, compact_bytes_per_s: 1 << 40, ..options() }
}

/// A chunk of 200 KiB in many pieces, and its bytes.
async fn fragmented(store: &ChunkStore, number: u32) -> (u64, Vec<u8>) {
    let mut plain = bytes(number, 200 << 10);
    store.apply(TARGET, write(number, 1, 0, &plain)).await.expect("write");
    let mut version = 1;
    for page in (0..50).step_by(3) {
        version += 1;
        let data = bytes(page + 100, 4096);
        plain[page as usize * 4096..][..4096].copy_from_slice(&data);
        store.apply(TARGET, write(number, version, page * 4096, &data)).await.expect("write");
    }
    (version, plain)
}

/// Goal: a chunk in many pieces is put together, once, with the same version and bytes.
/// Oracle: the report, the state, the bytes also after opening anew, the audit.
#[tokio::test]
async fn pieces_are_put_together() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open_with(eager()).expect("opens");
    let (version, plain) = fragmented(&store, 1).await;
    let before = store.state(TARGET, chunk(1)).expect("state");
    let report = store.compact().await.expect("compacts");
    assert_eq!((report.chunk_count, report.moved_bytes), (1, 200 << 10));
    assert_eq!(store.compact().await.expect("again").chunk_count, 0, "nothing is left to move");
    assert_eq!(store.state(TARGET, chunk(1)).expect("state"), before);
    assert!(committed(&store, 1).await == plain);
    settle(&store).await;
    drop(store);
    let store = machine.open_with(eager()).expect("opens again");
    assert!(committed(&store, 1).await == plain);
    store.apply(TARGET, write(1, version + 1, 0, b"on it goes")).await.expect("write");
    settle(&store).await;
}

/// Goal: segments with a few pages each are emptied, so that their space is whole again.
/// Method: fill segments with small chunks, remove most of them. Oracle: pages in few segments.
#[tokio::test]
async fn sparse_segments_are_emptied() {
    let machine = Machine::new(1, 256 << 20);
    let store = machine.open_with(eager()).expect("opens");
    for number in 0..400 {
        store.apply(TARGET, write(number, 1, 0, &bytes(number, 100 << 10))).await.expect("write");
    }
    for number in (0..400).filter(|number| number % 10 != 0) {
        store.apply(TARGET, remove(number, 2)).await.expect("remove");
    }
    let report = store.compact().await.expect("compacts");
    assert!(report.chunk_count >= 20, "sparse segments had chunks: {report:?}");
    for number in (0..400).step_by(10) {
        assert!(committed(&store, number).await == bytes(number, 100 << 10), "chunk {number}");
    }
    settle(&store).await;
    assert!(store.compact().await.expect("again").chunk_count < 20, "they are together now");
}

/// Goal: compaction excludes removal, update and commit of the chunk that it moves.
/// Method: a slow disk, so that the copy takes long; the others come while it runs. Oracle: what
/// they did stands, nothing leaks. Without the lock the moved record would undo them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_excludes_changes() {
    for change in 0..3 {
        let machine = Machine::new(1, 64 << 20);
        let store = machine.open_with(eager()).expect("opens");
        let (version, mut plain) = fragmented(&store, 1).await;
        machine.disk.set_delay(Duration::from_millis(2));
        let mover = store.clone();
        let moving = tokio::spawn(async move { mover.compact().await });
        tokio::time::sleep(Duration::from_millis(15)).await;
        let next = version + 1;
        match change {
            0 => assert!(store.apply(TARGET, remove(1, next)).await.expect("remove").removed),
            1 => {
                let state = store.apply(TARGET, write(1, next, 0, b"new")).await.expect("write");
                assert_eq!(state.version, ChunkVersion(next));
            }
            _ => {
                store.apply(TARGET, pending(write(1, next, 0, b"new"))).await.expect("write");
                let commit = store.commit(TARGET, chunk(1), ChunkVersion(next), ChainVersion(1));
                let state = commit.await.expect("commit");
                assert_eq!(state.version, ChunkVersion(next));
            }
        }
        assert!(moving.await.expect("ran").expect("compacts").chunk_count <= 1);
        machine.disk.set_delay(Duration::ZERO);
        let state = store.state(TARGET, chunk(1)).expect("state").expect("known");
        assert_eq!(state.committed.expect("committed").version, ChunkVersion(next));
        plain[..3].copy_from_slice(b"new");
        match change {
            0 => assert!(state.committed.expect("committed").removed),
            _ => assert!(committed(&store, 1).await == plain),
        }
        settle(&store).await;
    }
}

/// Goal: a reader keeps its image while the chunk is moved again and again.
/// Oracle: the bytes of every read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_keep_their_image() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open_with(eager()).expect("opens");
    let (mut version, mut plain) = fragmented(&store, 1).await;
    machine.disk.set_delay(Duration::from_millis(1));
    let (reader, expected) = (store.clone(), plain[16_384..].to_vec());
    let reads = tokio::spawn(async move {
        for _ in 0..20 {
            let image = reader.read(TARGET, chunk(1), ReadVersion::Committed, 16_384, u32::MAX);
            assert!(image.await.expect("readable").payload.filled() == expected, "one image");
        }
    });
    let mut moved = 0;
    while !reads.is_finished() {
        for page in [0, 2] {
            version += 1;
            let data = bytes(version as u32, 4096);
            plain[page * 4096..][..4096].copy_from_slice(&data);
            let update = write(1, version, page as u32 * 4096, &data);
            store.apply(TARGET, update).await.expect("write");
        }
        moved += store.compact().await.expect("compacts").chunk_count;
    }
    reads.await.expect("no torn image");
    assert!(moved > 0, "the chunk was moved meanwhile");
    assert!(committed(&store, 1).await == plain);
    settle(&store).await;
}
