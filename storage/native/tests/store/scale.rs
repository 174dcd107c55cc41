//! Opening a store of many chunks.

use crate::fixture::*;
use firepond_core::routing::Durability;
use firepond_core::sys::clock;
use firepond_storage::store::{ChunkWrite, StoreOptions};

/// Goal: opening takes under 10 s for a million chunks, so a fifth of it for 200,000.
/// Method: chunks of the cache class, half of them holes only and half of a page of data in 64 KiB;
/// FIREPOND_TEST_CHUNK_COUNT for more. Oracle: the processor time of this thread, which others on
/// the machine do not change, and that all are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_is_fast() {
    let count = std::env::var("FIREPOND_TEST_CHUNK_COUNT").ok().and_then(|text| text.parse().ok());
    let count: u32 = count.unwrap_or(200_000);
    let directory = tempfile::tempdir().expect("directory");
    let store = open_with(directory.path(), "auto", StoreOptions::default());
    for number in 0..count {
        let update = match number % 2 {
            0 => truncate(number, 1, 64 << 10),
            _ => write(number, 1, 60 << 10, &[number as u8; 4096]),
        };
        let update = ChunkWrite { durability: Durability::Cache, ..update };
        store.apply(TARGET, update).await.expect("write");
    }
    store.close();
    drop(store);
    let (start, cpu) = (clock::now(), thread_seconds());
    let store = open_with(directory.path(), "auto", StoreOptions::default());
    let (wall, seconds) = (start.elapsed().as_secs_f64(), thread_seconds() - cpu);
    eprintln!("{count} chunks opened in {wall:.2} s, {seconds:.2} s of processor");
    let usage = store.space(TARGET);
    assert_eq!(usage.chunk_count, u64::from(count));
    assert_eq!(usage.used_bytes, u64::from(count / 2) * 4096);
    assert!(seconds < 10.0 * f64::from(count) / 1e6 * 2.0 + 1.0, "opening took {seconds} s");
}

/// Processor time of this thread.
fn thread_seconds() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "looks at this process from outside")]
    let text = std::fs::read_to_string("/proc/thread-self/stat").expect("stat");
    let fields = text.rsplit(") ").next().expect("fields").split(' ').skip(11).take(2);
    fields.map(|field| field.parse::<f64>().expect("ticks")).sum::<f64>() / 100.0
}
