//! Short forms that the suite is written in.

use firepond_core::kv::{CommitOutcome, EmbeddedStore, KvStore, KvTransaction, RangeQuery};
use tempfile::TempDir;

/// An embedded store in a directory that goes away with the first value.
pub(crate) fn embedded() -> (TempDir, EmbeddedStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(directory.path()).expect("opens");
    (directory, store)
}

/// A range query.
pub(crate) fn range(start: &[u8], end: &[u8], limit: usize, reverse: bool) -> RangeQuery {
    RangeQuery { keys: start.to_vec()..end.to_vec(), limit, reverse, snapshot: false }
}

/// The value of a key as text.
pub(crate) async fn get(transaction: &mut impl KvTransaction, key: &str) -> Option<String> {
    let value = transaction.get(key.as_bytes()).await.expect("reads");
    value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The keys of a query as text, joined.
pub(crate) async fn keys(transaction: &mut impl KvTransaction, query: RangeQuery) -> String {
    let pairs = transaction.get_range(query).await.expect("reads");
    let keys: Vec<_> =
        pairs.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect();
    keys.join(" ")
}

/// Sets keys to values in a transaction of its own.
pub(crate) async fn put(store: &impl KvStore, pairs: &[(&str, &str)]) {
    let mut transaction = store.begin();
    for (key, value) in pairs {
        transaction.set(key.as_bytes(), value.as_bytes());
    }
    committed(transaction).await;
}

/// Commits what cannot conflict; returns the version.
pub(crate) async fn committed(transaction: impl KvTransaction) -> u64 {
    match transaction.commit().await.expect("commits") {
        CommitOutcome::Committed(version) => version,
        other => panic!("expected a commit, got {other:?}"),
    }
}

/// Commits what must conflict.
pub(crate) async fn conflicts(transaction: impl KvTransaction) {
    assert_eq!(transaction.commit().await.expect("answers"), CommitOutcome::Conflict);
}
