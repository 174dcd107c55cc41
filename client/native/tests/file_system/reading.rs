//! Reads: into scattered memory, in batches, ahead.

use crate::world::{CHUNK, Memory, World, create, open, read, root};
use bytes::Bytes;
use firepond_client::file_system::FileSystemOptions;
use firepond_core::sys::clock;
use firepond_core::wire::meta::AttributeChanges;
use std::sync::atomic::Ordering;

/// Goal: one small read is one request; bytes land in scattered slices across chunks.
/// Oracle: the contents, and the storage's count.
#[tokio::test]
async fn reads_land_in_the_callers_memory() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let bytes: Vec<u8> = (0..3 * CHUNK).map(|at| (at * 7 % 253) as u8).collect();
    let file = create(&files, "f").await;
    file.write(0, Bytes::from(bytes.clone())).await.expect("takes in");
    file.close().await.expect("closes");
    let file = open(&files, "f", false).await;
    let before = world.storage.read_count.load(Ordering::SeqCst);
    let memory = Memory::new(4096);
    assert_eq!(file.read_into(8192, memory.sinks(&[4096])).await.expect("reads"), 4096);
    assert_eq!(memory.bytes(), &bytes[8192..8192 + 4096]);
    assert_eq!(world.storage.read_count.load(Ordering::SeqCst) - before, 1);
    let memory = Memory::new(CHUNK + 50);
    let sinks = memory.sinks(&[10, 0, CHUNK - 30, 70]);
    let offset = CHUNK as u64 - 100;
    assert_eq!(file.read_into(offset, sinks).await.expect("reads"), CHUNK + 50);
    assert_eq!(memory.bytes(), &bytes[offset as usize..][..CHUNK + 50]);
}

/// Goal: a batch serves many files at once, each with its own end. Oracle: contents, request count.
#[tokio::test]
async fn batches_are_one_request() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let mut opened = Vec::new();
    for number in 0..20_u8 {
        let file = create(&files, &format!("f{number}")).await;
        file.write_slice(0, &[number; 1000]).await.expect("takes in");
        file.flush().await.expect("flushes");
        opened.push(file);
    }
    let before = world.storage.read_count.load(Ordering::SeqCst);
    let memories: Vec<Memory> = opened.iter().map(|_| Memory::new(800)).collect();
    let reads = opened.iter().zip(&memories);
    let reads = reads.map(|(file, memory)| (file.clone(), 500, memory.sinks(&[800]))).collect();
    for (number, result) in files.read_batch(reads).await.into_iter().enumerate() {
        assert_eq!(result.expect("reads"), 500);
        assert_eq!(memories[number].bytes()[..500], vec![number as u8; 500]);
        assert!(memories[number].bytes()[500..].iter().all(|byte| *byte == b'?'));
    }
    assert_eq!(world.storage.read_count.load(Ordering::SeqCst) - before, 1);
}

/// Goal: read-ahead serves a sequential reader, and never shows old bytes after a write.
/// Method: small reads, a write in between through another handle. Oracle: contents, request count.
#[tokio::test]
async fn read_ahead_is_fast_and_fresh() {
    let world = World::new().await;
    let files = world.client(FileSystemOptions::default());
    let bytes: Vec<u8> = (0..4 << 20).map(|at| (at / 4096 % 256) as u8).collect();
    let file = create(&files, "f").await;
    file.write(0, Bytes::from(bytes.clone())).await.expect("takes in");
    file.sync().await.expect("syncs");
    let reader = open(&files, "f", false).await;
    let before = world.storage.read_count.load(Ordering::SeqCst);
    let step = 16 << 10;
    for offset in (0..bytes.len()).step_by(step) {
        assert_eq!(read(&reader, offset as u64, step).await, bytes[offset..offset + step]);
    }
    let requests = world.storage.read_count.load(Ordering::SeqCst) - before;
    assert!(requests < 40, "{requests} requests for {} reads", bytes.len() / step);
    for offset in (0..8 * step).step_by(step) {
        read(&reader, offset as u64, step).await;
    }
    file.write_slice(8 * step as u64, b"fresh").await.expect("takes in");
    assert_eq!(read(&reader, 8 * step as u64, 5).await, b"fresh");
}

/// Goal: a reader that stays inside of what it knows sees another client's truncation within the
/// bound. Method: cut and rewrite elsewhere, read the same range on. Oracle: the bytes, the clock.
#[tokio::test]
async fn an_open_file_follows_a_truncation() {
    let world = World::new().await;
    let (first, second) =
        (world.client(FileSystemOptions::default()), world.client(FileSystemOptions::default()));
    let file = create(&first, "f").await;
    file.write_slice(0, &[1; 5000]).await.expect("takes in");
    file.close().await.expect("closes");
    let reader = open(&first, "f", false).await;
    assert_eq!(read(&reader, 0, 4000).await, [1; 4000]);
    let writer = open(&second, "f", true).await;
    let cut = AttributeChanges { size_bytes: Some(0), ..AttributeChanges::default() };
    second.set_attributes(&root(), writer.inode(), cut).await.expect("cuts");
    writer.write_slice(0, b"new").await.expect("takes in");
    writer.close().await.expect("closes");
    let deadline = clock::now() + std::time::Duration::from_secs(5);
    while read(&reader, 0, 4000).await != b"new" {
        assert!(clock::now() < deadline, "it never follows");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
