//! Sizes that a store refuses.

use crate::support::{committed, get};
use firepond_core::ErrorKind;
use firepond_core::kv::{
    KEY_MAX_BYTES, KvStore, KvTransaction, TRANSACTION_MAX_BYTES, VALUE_MAX_BYTES,
};

/// Goal: what is at a limit passes, what is above is refused whole. Oracle: the kinds, and that
/// nothing of a refused transaction is there.
pub(crate) async fn limits_are_kept<S: KvStore>(store: S) {
    let mut largest = store.begin();
    largest.set(&vec![b'k'; KEY_MAX_BYTES], &vec![b'v'; VALUE_MAX_BYTES]);
    committed(largest).await;
    for (key_len, value_len, kind) in [
        (KEY_MAX_BYTES + 1, 0, ErrorKind::TransactionTooLarge),
        (1, VALUE_MAX_BYTES + 1, ErrorKind::TransactionTooLarge),
        (0, 1, ErrorKind::InvalidArgument),
    ] {
        let mut transaction = store.begin();
        transaction.set(b"innocent", b"1");
        transaction.set(&vec![b'x'; key_len], &vec![b'v'; value_len]);
        assert_eq!(transaction.commit().await.expect_err("refused").kind(), kind);
    }
    let mut transaction = store.begin();
    transaction.set(b"innocent", b"1");
    for number in 0..=TRANSACTION_MAX_BYTES / VALUE_MAX_BYTES {
        transaction.set(number.to_string().as_bytes(), &vec![b'v'; VALUE_MAX_BYTES]);
    }
    let refused = transaction.commit().await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::TransactionTooLarge);
    let mut reader = store.begin();
    assert_eq!(get(&mut reader, "innocent").await, None);
    assert_eq!(reader.get(b"").await.expect_err("no key").kind(), ErrorKind::InvalidArgument);
}
