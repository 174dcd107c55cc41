//! The KV tier's client against storage nodes that live in this process.

#[path = "kv_cache/fake_cluster.rs"]
mod fake_cluster;

use bytes::Bytes;
use fake_cluster::{CHAIN_COUNT, FakeCluster, Fault, NODE_COUNT};
use firepond_client::kv::{KvCache, KvRead, PutOutcome, VALUE_MAX_BYTES};
use firepond_core::ErrorKind;
use firepond_core::sys::clock::{Instant, now};
use firepond_core::transport::SinkSlice;
use std::sync::Arc;
use std::time::Duration;

fn soon() -> Instant {
    now() + Duration::from_secs(5)
}

async fn open(cluster: &FakeCluster) -> KvCache {
    KvCache::open(cluster.peers(), "tests", soon()).await.expect("opens")
}

/// Puts one value for each key.
async fn put(cache: &KvCache, entries: &[(&str, &[u8])]) -> Vec<PutOutcome> {
    let entries = entries.iter().map(|(key, value)| {
        (cache.digest(key.as_bytes()).expect("a key"), Bytes::copy_from_slice(value))
    });
    let outcomes = cache.put(entries.collect(), soon()).await;
    outcomes.into_iter().map(|outcome| outcome.expect("puts")).collect()
}

/// Gets values into buffers of a size; `None` is a miss.
async fn get(cache: &KvCache, keys: &[&str], buffer_len: usize) -> Vec<Option<Vec<u8>>> {
    let mut buffers: Vec<Box<[u8]>> =
        keys.iter().map(|_| vec![0; buffer_len].into_boxed_slice()).collect();
    let reads = keys.iter().zip(&mut buffers).map(|(key, buffer)| {
        // SAFETY: the buffers outlive the call below and nobody touches them meanwhile.
        let sink = unsafe { SinkSlice::new(buffer.as_mut_ptr(), buffer.len(), Arc::new(())) };
        KvRead { key: cache.digest(key.as_bytes()).expect("a key"), sink }
    });
    let sizes = cache.get(reads.collect(), soon()).await;
    let cut = |(size, buffer): (Option<u32>, Box<[u8]>)| Some(buffer[..size? as usize].to_vec());
    sizes.into_iter().zip(buffers).map(cut).collect()
}

/// Goal: the life of values in batches. Oracle: what was put, who was first, and the counts.
#[tokio::test]
async fn values_live_and_die() {
    let cluster = FakeCluster::start().await;
    let cache = open(&cluster).await;
    let outcomes = put(&cache, &[("a", b"one"), ("b", b""), ("c", &[7; 100_000])]).await;
    assert_eq!(outcomes, [PutOutcome::Stored; 3]);
    assert_eq!(
        put(&cache, &[("a", b"two"), ("d", b"4")]).await,
        [PutOutcome::Exists, PutOutcome::Stored]
    );
    let found = get(&cache, &["a", "missing", "b", "c"], 100_000).await;
    let expected = [Some(b"one".to_vec()), None, Some(vec![]), Some(vec![7; 100_000])];
    assert!(found == expected, "the values differ");
    let keys: Vec<_> =
        ["a", "b", "missing", "c"].map(|key| cache.digest(key.as_bytes()).expect("a key")).into();
    assert_eq!(cache.sizes(&keys, soon()).await, [Some(3), Some(0), None, Some(100_000)]);
    assert_eq!(cache.match_prefix(&keys, soon()).await, 2);
    for outcome in cache.delete(&keys[..1], soon()).await {
        outcome.expect("removes");
    }
    assert_eq!(get(&cache, &["a"], 10).await, [None]);
    let stats = cache.stats();
    assert_eq!((stats.hit_count, stats.miss_count), (3, 2));
    assert_eq!((stats.stored_count, stats.exists_count, stats.deleted_count), (4, 1, 1));
    assert_eq!((stats.read_failure_count, stats.last_error), (0, None));
}

/// Goal: many values over all chains, in waves. Method: more bytes than a wave. Oracle: each value.
#[tokio::test]
async fn batches_are_larger_than_waves() {
    let cluster = FakeCluster::start().await;
    let cache = open(&cluster).await;
    let names: Vec<String> = (0..90).map(|number| format!("key{number}")).collect();
    let values: Vec<Vec<u8>> = (0..90_u8).map(|number| vec![number; 500_000]).collect();
    let entries: Vec<_> =
        names.iter().zip(&values).map(|(name, value)| (name.as_str(), &value[..])).collect();
    put(&cache, &entries).await;
    assert!(cluster.chains_used() == CHAIN_COUNT, "the values are spread over all chains");
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = get(&cache, &keys, 500_000).await;
    for (found, value) in found.iter().zip(&values) {
        assert!(found.as_ref() == Some(value), "a value differs");
    }
    // A look for a prefix is one round trip a node, over however many chains.
    let before = cluster.stat_request_count();
    let digests: Vec<_> =
        keys.iter().map(|key| cache.digest(key.as_bytes()).expect("a key")).collect();
    assert_eq!(cache.match_prefix(&digests, soon()).await, keys.len());
    assert_eq!(cluster.stat_request_count() - before, NODE_COUNT);
}

/// Goal: a value under a foreign tag is never returned. Method: the nodes lie about tags.
/// Oracle: misses everywhere.
#[tokio::test]
async fn foreign_values_are_misses() {
    let cluster = FakeCluster::start().await;
    let cache = open(&cluster).await;
    put(&cache, &[("a", b"one")]).await;
    cluster.set_fault(Fault::ForeignTag);
    assert_eq!(get(&cache, &["a"], 10).await, [None]);
    let key = cache.digest(b"a").expect("a key");
    assert_eq!(cache.sizes(&[key], soon()).await, [None]);
    assert_eq!(cache.match_prefix(&[key], soon()).await, 0);
}

/// Goal: failures are outcomes of their keys, and misses that are counted. Method: refusing nodes,
/// a small buffer, a large value. Oracle: the kinds and counts.
#[tokio::test]
async fn failures_stay_with_their_keys() {
    let cluster = FakeCluster::start().await;
    let cache = open(&cluster).await;
    put(&cache, &[("a", b"one")]).await;
    assert_eq!(get(&cache, &["a"], 2).await, [None]);
    let last = cache.stats().last_error.expect("an error");
    assert!(last.starts_with("buffer_too_small"), "{last}");
    let key = |name: &[u8]| cache.digest(name).expect("a key");
    let entries = vec![
        (key(b"large"), Bytes::from(vec![0; VALUE_MAX_BYTES + 1])),
        (key(b"small"), Bytes::from_static(b"fits")),
    ];
    let outcomes = cache.put(entries, soon()).await;
    assert_eq!(outcomes[0].as_ref().expect_err("refused").kind(), ErrorKind::ValueTooLarge);
    assert_eq!(*outcomes[1].as_ref().expect("stored"), PutOutcome::Stored);
    cluster.set_fault(Fault::Refuse);
    let soon = now() + Duration::from_millis(50);
    let outcomes = cache.put(vec![(key(b"late"), Bytes::from_static(b"x"))], soon).await;
    outcomes[0].as_ref().expect_err("refused");
    assert_eq!(cache.match_prefix(&[key(b"a")], soon).await, 0);
    let stats = cache.stats();
    assert_eq!((stats.update_failure_count, stats.read_failure_count), (2, 2));
}

/// Goal: a namespace that does not come is an error, a deleted one a miss. Oracle: the kinds.
#[tokio::test]
async fn namespaces_come_and_go() {
    let cluster = FakeCluster::start().await;
    let unknown = KvCache::open(cluster.peers(), "nobody", now() + Duration::from_millis(20)).await;
    assert_eq!(unknown.err().map(|error| error.kind()), Some(ErrorKind::NamespaceUnknown));
    let cache = open(&cluster).await;
    put(&cache, &[("a", b"one")]).await;
    cluster.delete_namespaces();
    assert_eq!(get(&cache, &["a"], 10).await, [None]);
    let entries = vec![(cache.digest(b"b").expect("a key"), Bytes::from_static(b"x"))];
    let outcomes = cache.put(entries, soon()).await;
    assert_eq!(outcomes[0].as_ref().expect_err("deleted").kind(), ErrorKind::NamespaceUnknown);
}
