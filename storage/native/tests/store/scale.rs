//! Opening a store of many chunks.

use crate::fixture::*;
use firepond_core::routing::Durability;
use firepond_core::sys::clock;
use firepond_storage::store::ChunkWrite;

/// Goal: opening takes under 10 s for a million chunks, so a fifth of it for 200,000.
/// Method: small chunks of the cache class; FIREPOND_TEST_CHUNK_COUNT for more. Oracle: the clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_is_fast() {
    let count = std::env::var("FIREPOND_TEST_CHUNK_COUNT").ok().and_then(|text| text.parse().ok());
    let count: u32 = count.unwrap_or(200_000);
    let directory = tempfile::tempdir().expect("directory");
    let store = open(directory.path(), "auto");
    for number in 0..count {
        let update =
            ChunkWrite { durability: Durability::Cache, ..truncate(number, 1, CHUNK_BYTES) };
        store.apply(TARGET, update).await.expect("write");
    }
    drop(store);
    let start = clock::now();
    let store = open(directory.path(), "auto");
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{count} chunks opened in {seconds:.2} s");
    assert_eq!(store.space(TARGET).chunk_count, u64::from(count));
    assert!(seconds < 10.0 * f64::from(count) / 1e6 * 2.0 + 1.0, "opening took {seconds} s");
}
