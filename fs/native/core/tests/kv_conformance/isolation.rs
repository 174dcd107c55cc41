//! Serialisability: who must lose, and who must not.

use crate::support::{committed, conflicts, get, keys, put, range};
use firepond_core::kv::{CommitOutcome, KvStore, KvTransaction, RangeQuery};

/// Goal: an insert into a range that was read is a conflict. Oracle: the outcome.
pub(crate) async fn phantom_by_insert<S: KvStore>(store: S) {
    put(&store, &[("a", "1"), ("c", "1")]).await;
    let mut reader = store.begin();
    assert_eq!(keys(&mut reader, range(b"a", b"d", 9, false)).await, "a c");
    reader.set(b"count", b"2");
    put(&store, &[("b", "1")]).await;
    conflicts(reader).await;
}

/// Goal: a removal, by key or by range, from a range that was read is a conflict. Oracle: the
/// outcome.
pub(crate) async fn phantom_by_delete<S: KvStore>(store: S) {
    for by_range in [false, true] {
        put(&store, &[("a", "1"), ("b", "1")]).await;
        let mut reader = store.begin();
        assert_eq!(keys(&mut reader, range(b"a", b"d", 9, true)).await, "b a");
        reader.set(b"count", b"2");
        let mut remover = store.begin();
        if by_range {
            remover.clear_range(b"b".to_vec()..b"c".to_vec());
        } else {
            remover.clear(b"b");
        }
        committed(remover).await;
        conflicts(reader).await;
    }
}

/// Goal: two that each read what the other writes cannot both commit. Oracle: the invariant "at
/// least one of a and b is on duty".
pub(crate) async fn write_skew<S: KvStore>(store: S) {
    put(&store, &[("a", "on"), ("b", "on")]).await;
    let (mut one, mut two) = (store.begin(), store.begin());
    for transaction in [&mut one, &mut two] {
        assert_eq!(get(transaction, "a").await.as_deref(), Some("on"));
        assert_eq!(get(transaction, "b").await.as_deref(), Some("on"));
    }
    one.set(b"a", b"off");
    two.set(b"b", b"off");
    committed(one).await;
    conflicts(two).await;
}

/// Goal: writers that read nothing never lose. Oracle: the last commit's value.
pub(crate) async fn blind_writes_do_not_conflict<S: KvStore>(store: S) {
    let (mut one, mut two, mut three) = (store.begin(), store.begin(), store.begin());
    one.set(b"a", b"1");
    two.set(b"a", b"2");
    three.clear_range(b"x".to_vec()..b"z".to_vec());
    committed(one).await;
    committed(two).await;
    committed(three).await;
    // Reading an own write adds no conflict either.
    let mut four = store.begin();
    four.set(b"a", b"4");
    assert_eq!(get(&mut four, "a").await.as_deref(), Some("4"));
    put(&store, &[("a", "3")]).await;
    committed(four).await;
    assert_eq!(get(&mut store.begin(), "a").await.as_deref(), Some("4"));
}

/// Goal: snapshot reads add no conflict. Oracle: the outcome.
pub(crate) async fn snapshot_reads_do_not_conflict<S: KvStore>(store: S) {
    put(&store, &[("a", "1")]).await;
    let mut reader = store.begin();
    reader.snapshot_get(b"a").await.expect("reads");
    let query = RangeQuery { snapshot: true, ..range(b"a", b"z", 9, false) };
    reader.get_range(query).await.expect("reads");
    reader.set(b"other", b"1");
    put(&store, &[("a", "2"), ("b", "2")]).await;
    committed(reader).await;
}

/// Goal: conflicts that are declared without reading or writing. Oracle: the outcomes.
pub(crate) async fn explicit_conflicts<S: KvStore>(store: S) {
    put(&store, &[("a", "1")]).await;
    let (mut by_key, mut by_range, mut apart) = (store.begin(), store.begin(), store.begin());
    by_key.add_read_conflict_key(b"a");
    by_key.set(b"k", b"1");
    by_range.add_read_conflict_range(b"0".to_vec()..b"b".to_vec());
    by_range.set(b"r", b"1");
    apart.add_read_conflict_range(b"a\x00".to_vec()..b"z".to_vec());
    apart.set(b"0", b"1");
    // Touches `a` without changing it.
    let mut toucher = store.begin();
    toucher.add_write_conflict_key(b"a");
    committed(toucher).await;
    conflicts(by_key).await;
    conflicts(by_range).await;
    committed(apart).await;
    assert_eq!(get(&mut store.begin(), "a").await.as_deref(), Some("1"));
}

/// Goal: a limited read conflicts only with what it looked at. Oracle: the outcomes.
pub(crate) async fn limited_ranges_conflict_up_to_the_last_pair<S: KvStore>(store: S) {
    for (reverse, changed, expect_conflict) in [
        (false, "bb", false),
        (false, "ab", true),
        (false, "b", true),
        (true, "bb", false),
        (true, "d", true),
        (true, "c", true),
    ] {
        put(&store, &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).await;
        let mut cleaner = store.begin();
        cleaner.clear(b"bb");
        cleaner.clear(b"ab");
        committed(cleaner).await;
        let mut reader = store.begin();
        assert_eq!(keys(&mut reader, range(b"a", b"z", 2, reverse)).await.len(), 3);
        reader.set(b"zz", b"1");
        put(&store, &[(changed, "2")]).await;
        let outcome = reader.commit().await.expect("answers");
        let conflicted = outcome == CommitOutcome::Conflict;
        assert_eq!(conflicted, expect_conflict, "reverse={reverse} changed={changed}");
    }
}

/// Goal: keys made of versions sort by commit, and ranges conflict with them. Oracle: the versions
/// that the commits returned.
pub(crate) async fn versionstamps_follow_commit_order<S: KvStore>(store: S) {
    let mut reader = store.begin();
    assert_eq!(keys(&mut reader, range(b"log/", b"log0", 9, false)).await, "");
    reader.set(b"out", b"1");
    let mut pending: Vec<_> = (0..3_u8).map(|_| store.begin()).collect();
    let mut expected = Vec::new();
    for (number, transaction) in pending.iter_mut().enumerate() {
        transaction.set_versionstamped_key(b"log/", b"/x", number.to_string().as_bytes());
    }
    for transaction in pending.into_iter().rev() {
        let version = committed(transaction).await;
        expected.push([b"log/", &version.to_be_bytes()[..], b"/x"].concat());
    }
    assert!(expected.is_sorted());
    let pairs = store.begin().get_range(range(b"log/", b"log0", 9, false)).await.expect("reads");
    let found: Vec<_> = pairs.iter().map(|(key, _)| key.to_vec()).collect();
    assert_eq!(found, expected);
    let values: Vec<_> = pairs.iter().map(|(_, value)| value[0]).collect();
    assert_eq!(values, b"210");
    conflicts(reader).await;
}

/// Goal: no update is lost under concurrency. Method: tasks increment a few counters, retrying on
/// conflict. Oracle: the exact sum.
pub(crate) async fn concurrent_counters_add_up<S: KvStore>(store: S) {
    const TASK_COUNT: usize = 8;
    const INCREMENT_COUNT: usize = 25;
    let increment = async |store: &S, key: String| {
        loop {
            let mut transaction = store.begin();
            let value = get(&mut transaction, &key).await;
            let value: u64 = value.map_or(0, |text| text.parse().expect("a number"));
            transaction.set(key.as_bytes(), (value + 1).to_string().as_bytes());
            if transaction.commit().await.expect("answers") != CommitOutcome::Conflict {
                return;
            }
        }
    };
    let mut tasks = Vec::new();
    for task in 0..TASK_COUNT {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            for number in 0..INCREMENT_COUNT {
                increment(&store, format!("counter{}", (task + number) % 3)).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("counts");
    }
    let mut reader = store.begin();
    let mut sum = 0;
    for number in 0..3 {
        let value = get(&mut reader, &format!("counter{number}")).await.expect("counted");
        sum += value.parse::<usize>().expect("a number");
    }
    assert_eq!(sum, TASK_COUNT * INCREMENT_COUNT);
}
