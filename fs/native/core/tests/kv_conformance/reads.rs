//! What a transaction sees: its own writes over one state that stands still.

use crate::support::{committed, get, keys, put, range};
use firepond_core::kv::{KvStore, KvTransaction};

/// Goal: a transaction reads what it wrote. Oracle: the last operation on each key.
pub(crate) async fn read_your_writes<S: KvStore>(store: S) {
    put(&store, &[("a", "1"), ("b", "1"), ("c", "1")]).await;
    let mut transaction = store.begin();
    transaction.set(b"a", b"2");
    transaction.clear(b"b");
    transaction.clear_range(b"c".to_vec()..b"d".to_vec());
    transaction.set(b"e", b"3");
    assert_eq!(get(&mut transaction, "a").await.as_deref(), Some("2"));
    assert_eq!(get(&mut transaction, "b").await, None);
    assert_eq!(get(&mut transaction, "c").await, None);
    transaction.set(b"c", b"4");
    assert_eq!(get(&mut transaction, "c").await.as_deref(), Some("4"));
    assert_eq!(transaction.snapshot_get(b"e").await.expect("reads").as_deref(), Some(&b"3"[..]));
    let mut other = store.begin();
    assert_eq!(get(&mut other, "a").await.as_deref(), Some("1"));
    committed(transaction).await;
    let mut after = store.begin();
    assert_eq!(keys(&mut after, range(b"a", b"z", 10, false)).await, "a c e");
}

/// Goal: limits and directions. Oracle: the list by hand.
pub(crate) async fn range_limits_forward_and_reverse<S: KvStore>(store: S) {
    put(&store, &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).await;
    let mut transaction = store.begin();
    for (query, expected) in [
        (range(b"a", b"d", 10, false), "a b c"),
        (range(b"a", b"d", 10, true), "c b a"),
        (range(b"a", b"z", 2, false), "a b"),
        (range(b"a", b"z", 2, true), "d c"),
        (range(b"b", b"b\x00", 9, false), "b"),
        (range(b"b", b"b", 9, false), ""),
        (range(b"c", b"a", 9, true), ""),
        (range(b"a", b"z", 0, false), ""),
        (range(b"", b"\xff", 9, false), "a b c d"),
    ] {
        let described = format!("{query:?}");
        assert_eq!(keys(&mut transaction, query).await, expected, "{described}");
    }
}

/// Goal: a limited range over own writes, in both directions. Oracle: the list by hand.
pub(crate) async fn ranges_see_own_writes<S: KvStore>(store: S) {
    put(&store, &[("b", "1"), ("d", "1"), ("f", "1"), ("h", "1")]).await;
    let mut transaction = store.begin();
    transaction.set(b"a", b"2");
    transaction.set(b"e", b"2");
    transaction.clear(b"b");
    transaction.clear_range(b"f".to_vec()..b"g".to_vec());
    transaction.set(b"i", b"2");
    for (limit, forward, backward) in
        [(9, "a d e h i", "i h e d a"), (1, "a", "i"), (2, "a d", "i h"), (3, "a d e", "i h e")]
    {
        assert_eq!(keys(&mut transaction, range(b"a", b"z", limit, false)).await, forward);
        assert_eq!(keys(&mut transaction, range(b"a", b"z", limit, true)).await, backward);
    }
}

/// Goal: a transaction reads one state, whatever others commit. Oracle: the state at its begin.
pub(crate) async fn snapshots_stand_still<S: KvStore>(store: S) {
    put(&store, &[("a", "1"), ("b", "1")]).await;
    let mut reader = store.begin();
    put(&store, &[("a", "2"), ("c", "2")]).await;
    let mut remover = store.begin();
    remover.clear(b"b");
    committed(remover).await;
    assert_eq!(get(&mut reader, "a").await.as_deref(), Some("1"));
    assert_eq!(keys(&mut reader, range(b"a", b"z", 9, false)).await, "a b");
    // It changed nothing, so it needs no check.
    committed(reader).await;
}
