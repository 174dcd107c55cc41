//! Holes: they cost nothing, and a change of a chunk's shape is one version.

use crate::fixture::*;
use firepond_core::checksum::crc32c;
use firepond_core::routing::Durability;
use firepond_storage::store::{ChunkWrite, ReadVersion};

/// Goal: a hole frees its whole pages, reads as zeros with the right checksum, and never changes
/// the length. Method: holes at page borders, across them and beyond the end. Oracle: a vector, the
/// pages that are left.
#[tokio::test]
async fn holes_free_their_pages() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    let mut plain = bytes(1, 100_001);
    store.apply(TARGET, write(1, 1, 0, &plain)).await.expect("write");
    let cases = [
        (4096, 8192, 23),
        (5000, 100, 23),
        (20_000, 5000, 22),
        (40_000, 20_000, 18),
        (98_304, 9000, 17),
        (98_000, 500_000, 17),
        (200_000, 5, 17),
        (0, 1 << 20, 0),
    ];
    for (number, (offset, len, pages)) in cases.into_iter().enumerate() {
        let update = punch(1, number as u64 + 2, offset, len);
        let state = store.apply(TARGET, update).await.expect("punch");
        let end = plain.len().min((offset + len) as usize);
        plain[(offset as usize).min(end)..end].fill(0);
        assert_eq!(state.len as usize, plain.len());
        assert_eq!(state.checksum, crc32c(&plain), "hole {offset}+{len}");
        assert!(committed(&store, 1).await == plain, "hole {offset}+{len}");
        assert_eq!(store.space(TARGET).used_bytes, pages * 4096, "hole {offset}+{len}");
    }
    store.apply(TARGET, write(1, 10, 50_000, b"again")).await.expect("write into a hole");
    plain[50_000..50_005].copy_from_slice(b"again");
    assert!(committed(&store, 1).await == plain);
    settle(&store).await;
}

/// Goal: a hole is a version as any other: pending first, then visible at once and whole.
/// Oracle: what each read version shows.
#[tokio::test]
async fn a_pending_hole_is_invisible() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    let plain = bytes(1, 50_000);
    store.apply(TARGET, write(1, 1, 0, &plain)).await.expect("write");
    store.apply(TARGET, pending(punch(1, 2, 100, 40_000))).await.expect("punch");
    assert!(committed(&store, 1).await == plain);
    let mut holed = plain.clone();
    holed[100..40_100].fill(0);
    assert!(read(&store, 1, ReadVersion::Newest).await.expect("newest") == holed);
    store
        .commit(
            TARGET,
            chunk(1),
            firepond_core::ids::ChunkVersion(2),
            firepond_core::ids::ChainVersion(1),
        )
        .await
        .expect("commit");
    assert!(committed(&store, 1).await == holed);
    settle(&store).await;
}

/// Goal: chunks that are holes only, and extensions, take no page. Oracle: the space of the target.
#[tokio::test]
async fn extending_takes_no_page() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    for number in 0..50 {
        let update = truncate(number, 1, CHUNK_BYTES);
        let durability = if number % 2 == 0 { Durability::Cache } else { Durability::Durable };
        let update = ChunkWrite { durability, ..update };
        store.apply(TARGET, update).await.expect("extend");
    }
    assert_eq!(store.space(TARGET).used_bytes, 0);
    assert!(committed(&store, 7).await == vec![0; CHUNK_BYTES as usize]);
    settle(&store).await;
}
