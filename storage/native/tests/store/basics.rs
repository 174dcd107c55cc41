//! What each operation promises, on every engine.

use crate::fixture::*;
use firepond_core::ErrorKind;
use firepond_core::ids::{ChainVersion, ChunkId, ChunkVersion, NamespaceId, TargetId, WriteId};
use firepond_core::wire::storage::UpdateKind;
use firepond_storage::store::{ChunkStore, ChunkWrite, NamespaceUsage, ReadVersion, TargetUsage};

/// Goal: writes, overwrites, holes and cuts give the bytes that a plain array gives, on every real
/// engine, and again after opening anew. Oracle: a vector.
#[tokio::test]
async fn bytes_are_those_of_a_plain_array() {
    for engine in ["positional", "auto"] {
        let directory = tempfile::tempdir().expect("directory");
        let store = open(directory.path(), engine);
        let mut plain = bytes(1, 300_000);
        store.apply(TARGET, write(1, 1, 0, &plain)).await.expect("write");
        let edits: [(u32, usize); 5] =
            [(0, 4096), (5000, 10), (290_000, 20_000), (4096, 8192), (99, 70_000)];
        for (number, (offset, len)) in edits.into_iter().enumerate() {
            let data = bytes(number as u32 + 9, len);
            let end = offset as usize + len;
            plain.resize(plain.len().max(end), 0);
            plain[offset as usize..end].copy_from_slice(&data);
            let state = store.apply(TARGET, write(1, number as u64 + 2, offset, &data)).await;
            assert_eq!(state.expect("write").checksum, firepond_core::checksum::crc32c(&plain));
            assert_eq!(committed(&store, 1).await, plain);
        }
        store.apply(TARGET, truncate(1, 7, 100_001)).await.expect("cut");
        store.apply(TARGET, truncate(1, 8, 700_001)).await.expect("extend");
        plain.resize(100_001, 0);
        plain.resize(700_001, 0);
        assert_eq!(committed(&store, 1).await, plain);
        let part =
            store.read(TARGET, chunk(1), ReadVersion::Committed, 99_999, 5).await.expect("part");
        assert_eq!(part.payload.filled(), &plain[99_999..100_004]);
        let beyond = store.read(TARGET, chunk(1), ReadVersion::Committed, 800_000, 5).await;
        assert!(beyond.expect("short").payload.is_empty());
        drop(store);
        let store = open(directory.path(), engine);
        assert_eq!(committed(&store, 1).await, plain);
        store.apply(TARGET, remove(1, 9)).await.expect("remove");
        let gone = read(&store, 1, ReadVersion::Committed).await.expect_err("removed");
        assert_eq!(gone.kind(), ErrorKind::ChunkNotFound);
        assert_eq!(store.space(TARGET).used_bytes, 0);
    }
}

/// Goal: a pending version is separate until it is committed. Oracle: what each read version shows.
#[tokio::test]
async fn pending_is_invisible_until_commit() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    let (old, new) = (bytes(1, 10_000), bytes(2, 4096));
    store.apply(TARGET, write(1, 1, 0, &old)).await.expect("write");
    store.apply(TARGET, pending(write(1, 2, 4096, &new))).await.expect("pending");
    assert_eq!(committed(&store, 1).await, old);
    let mut both = old.clone();
    both[4096..8192].copy_from_slice(&new);
    assert_eq!(read(&store, 1, ReadVersion::Newest).await.expect("newest"), both);
    assert_eq!(store.pending(TARGET).expect("list"), vec![chunk(1)]);
    let state = store.commit(TARGET, chunk(1), ChunkVersion(2), ChainVersion(5)).await.expect("ok");
    assert_eq!((state.version, state.chain_version), (ChunkVersion(2), ChainVersion(5)));
    assert_eq!(committed(&store, 1).await, both);
    assert!(store.pending(TARGET).expect("list").is_empty());
    let again = store.commit(TARGET, chunk(1), ChunkVersion(2), ChainVersion(5)).await;
    assert_eq!(again.expect("idempotent"), state);
    let state = store.state(TARGET, chunk(1)).expect("state").expect("there");
    let recent: Vec<u64> = state.recent_writes.iter().map(|one| one.version.0).collect();
    assert_eq!(recent, [2], "the last write of a channel stands for those before it");
}

/// Goal: a whole chunk that replaces a committed version of the same number, or of a higher one, is
/// committed like any other (seed 10082: it stayed pending for ever). Method: a tombstone as a
/// resync leaves it, and a chunk of an earlier chain version, each replaced in two steps. Oracle:
/// what the commit says, the bytes, nothing pending; the same after opening anew.
#[tokio::test]
async fn replacements_of_the_same_number_are_committed() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    let nobody = ChunkWrite { write_id: WriteId::default(), full_chunk: true, ..remove(1, 1) };
    store.apply(TARGET, nobody).await.expect("a removal of what the chain does not know");
    for version in 1..=5 {
        store.apply(TARGET, write(2, version, 0, b"before")).await.expect("write");
    }
    for (number, version) in [(1, 1), (2, 3)] {
        let new = bytes(number, 9_000);
        let whole = ChunkWrite { full_chunk: true, ..write(number, version, 0, &new) };
        store.apply(TARGET, pending(whole)).await.expect("pending");
        let commit = || store.commit(TARGET, chunk(number), ChunkVersion(version), ChainVersion(9));
        let state = commit().await.expect("committed");
        assert_eq!((state.version, state.removed), (ChunkVersion(version), false));
        assert_eq!(state.checksum, firepond_core::checksum::crc32c(&new));
        assert_eq!(committed(&store, number).await, new);
        assert_eq!(commit().await.expect("idempotent"), state);
    }
    assert!(store.pending(TARGET).expect("list").is_empty());
    store.close();
    drop(store);
    let store = machine.open().expect("opens again");
    assert_eq!(committed(&store, 1).await, bytes(1, 9_000));
    assert_eq!(committed(&store, 2).await, bytes(2, 9_000));
    assert!(store.pending(TARGET).expect("list").is_empty());
    settle(&store).await;
}

/// Goal: a dropped version leaves nothing behind, also on disk. Method: drop over a chunk and over
/// nothing, open again. Oracle: state, bytes, space, and that the number is free.
#[tokio::test]
async fn dropped_versions_leave_nothing() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    let (old, new) = (bytes(1, 10_000), bytes(2, 4096));
    store.apply(TARGET, write(1, 1, 0, &old)).await.expect("write");
    let left = |store: &ChunkStore| {
        let state = store.state(TARGET, chunk(1)).expect("state").expect("there");
        (store.space(TARGET), state.committed, state.pending, state.recent_writes)
    };
    let before = left(&store);
    store.apply(TARGET, pending(write(1, 2, 4096, &new))).await.expect("pending");
    store.apply(TARGET, pending(write(2, 1, 0, &new))).await.expect("pending");
    for (number, version) in [(1, 1), (1, 3), (3, 1), (1, 2), (2, 1), (2, 1)] {
        let dropped = store.drop_pending(TARGET, chunk(number), ChunkVersion(version));
        dropped.await.expect("dropped or not there");
    }
    assert_eq!(store.state(TARGET, chunk(2)).expect("state"), None);
    assert!(store.pending(TARGET).expect("list").is_empty());
    assert_eq!(left(&store), before);
    store.close();
    drop(store);
    let store = machine.open().expect("opens again");
    assert_eq!(left(&store), before);
    assert_eq!(committed(&store, 1).await, old);
    store.apply(TARGET, write(2, 1, 0, &new)).await.expect("the number is free");
    store.apply(TARGET, write(1, 2, 0, &new)).await.expect("the number is free");
}

/// Goal: gaps, stale and repeated updates are told apart. Oracle: the error kinds.
#[tokio::test]
async fn versions_are_dense() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    let data = bytes(1, 100);
    let kind = |result: firepond_core::Result<_>| result.expect_err("refused").kind();
    assert_eq!(kind(store.apply(TARGET, write(1, 2, 0, &data)).await), ErrorKind::UpdateGap);
    let first = store.apply(TARGET, write(1, 1, 0, &data)).await.expect("write");
    assert_eq!(store.apply(TARGET, write(1, 1, 0, &data)).await.expect("same"), first);
    let other = ChunkWrite { write_id: Default::default(), ..write(1, 1, 0, &data) };
    assert_eq!(kind(store.apply(TARGET, other.clone()).await), ErrorKind::UpdateStale);
    let create = ChunkWrite { kind: UpdateKind::Create, ..write(1, 2, 0, &data) };
    assert_eq!(kind(store.apply(TARGET, create).await), ErrorKind::ChunkExists);
    store.apply(TARGET, pending(write(1, 2, 0, &data))).await.expect("pending");
    assert_eq!(kind(store.apply(TARGET, write(1, 3, 0, &data)).await), ErrorKind::UpdateGap);
    assert_eq!(
        kind(store.commit(TARGET, chunk(1), ChunkVersion(3), ChainVersion(1)).await),
        ErrorKind::UpdateGap
    );
    let full = ChunkWrite { full_chunk: true, version: ChunkVersion(9), ..other };
    store.apply(TARGET, full).await.expect("a full chunk replaces anything");
    assert!(store.pending(TARGET).expect("list").is_empty());
    assert_eq!(
        kind(store.apply(TargetId(9), write(1, 1, 0, &data)).await),
        ErrorKind::NoSuchTarget
    );
}

/// Goal: nonsense and damaged payloads change nothing. Oracle: error kinds, the old bytes, free
/// space.
#[tokio::test]
async fn bad_input_is_refused() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    let data = bytes(1, 70_000);
    store.apply(TARGET, write(1, 1, 0, &data)).await.expect("write");
    let used = store.status().used_bytes;
    let damaged = ChunkWrite { checksum: 1, ..write(1, 2, 0, &bytes(2, 80_000)) };
    let beyond = write(1, 2, CHUNK_BYTES - 1, b"ab");
    let short = ChunkWrite { len: 7, ..write(1, 2, 0, b"ab") };
    let zero = ChunkWrite { version: ChunkVersion(0), ..write(1, 2, 0, b"ab") };
    let cases = [
        (damaged, ErrorKind::PayloadChecksumMismatch),
        (beyond, ErrorKind::InvalidArgument),
        (short, ErrorKind::InvalidArgument),
        (zero, ErrorKind::InvalidArgument),
    ];
    for (bad, kind) in cases {
        assert_eq!(store.apply(TARGET, bad).await.expect_err("refused").kind(), kind);
    }
    assert_eq!(committed(&store, 1).await, data);
    assert_eq!(store.status().used_bytes, used);
}

/// Goal: lists are in order, in both directions, within their range, with what is not in the index
/// yet. Oracle: the numbers written.
#[tokio::test]
async fn lists_are_ordered_ranges() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    for number in 0..20 {
        let update = pending(write(number, 1, 0, b"x"));
        store.apply(TARGET, update).await.expect("write");
        if number % 2 == 0 {
            store
                .commit(TARGET, chunk(number), ChunkVersion(1), ChainVersion(1))
                .await
                .expect("ok");
        }
    }
    let list = |from, to, limit, reverse| -> Vec<ChunkId> {
        let rows = store.list(TARGET, chunk(from), chunk(to), limit, reverse).expect("list");
        rows.into_iter().map(|(chunk, _)| chunk).collect()
    };
    assert_eq!(list(3, 9, 100, false), (3..9).map(chunk).collect::<Vec<_>>());
    assert_eq!(list(3, 9, 2, true), vec![chunk(8), chunk(7)]);
    assert_eq!(list(0, 100, 5, false), (0..5).map(chunk).collect::<Vec<_>>());
    assert_eq!(store.pending(TARGET).expect("list").len(), 10);
}

/// Goal: a target's generation and marks survive; a removed target's space comes back.
/// Oracle: the records after opening anew, the free space.
#[tokio::test]
async fn targets_are_remembered_and_removed() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open(directory.path(), "auto");
    let made = store.targets()[0];
    store.mark_served(TARGET).expect("mark");
    let lost_in = firepond_core::ids::ChainVersion(7);
    store.set_lost_in(TARGET, lost_in).expect("mark");
    store.apply(TARGET, write(1, 1, 0, &bytes(1, 500_000))).await.expect("write");
    drop(store);
    let store = open(directory.path(), "auto");
    assert_eq!(store.targets()[0].generation, made.generation);
    assert!(store.targets()[0].served);
    assert_eq!(store.marks(TARGET).expect("marks").lost_in, lost_in);
    store.remove_target(TARGET).expect("remove");
    assert_eq!(store.state(TARGET, chunk(1)).expect_err("gone").kind(), ErrorKind::NoSuchTarget);
    let deadline = firepond_core::sys::clock::now() + std::time::Duration::from_secs(20);
    while let Err(error) = store.create_target(TARGET, firepond_core::ids::ChainId(1)) {
        assert_eq!(error.kind(), ErrorKind::ChunkBusy);
        assert!(firepond_core::sys::clock::now() < deadline, "the old chunks go away");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_ne!(store.targets()[0].generation, made.generation);
    assert_eq!(store.state(TARGET, chunk(1)).expect("state"), None);
    assert_eq!(store.space(TARGET).used_bytes, 0);
}

/// Goal: what each KV namespace takes is known, also after a crash. Method: values and files, some
/// replaced, cut or removed. Oracle: counts of pages and chunks made by hand.
#[tokio::test]
async fn namespaces_are_accounted_for() {
    let machine = Machine::new(1, 64 << 20);
    let store = machine.open().expect("opens");
    let value = |namespace, number, version, len| ChunkWrite {
        chunk: ChunkId::kv(NamespaceId(namespace), &[number; 32]),
        ..write(0, version, 0, &bytes(1, len))
    };
    for number in 0..5 {
        store.apply(TARGET, value(3, number, 1, 10_000)).await.expect("put");
        store.apply(TARGET, value(9, number, 1, 100)).await.expect("put");
        store.apply(TARGET, write(u32::from(number), 1, 0, &bytes(2, 5000))).await.expect("write");
    }
    let removal = ChunkWrite { kind: UpdateKind::Remove, ..value(3, 0, 2, 0) };
    store.apply(TARGET, removal).await.expect("remove");
    let replaced = ChunkWrite { kind: UpdateKind::Replace, ..value(3, 1, 2, 50) };
    store.apply(TARGET, pending(replaced)).await.expect("put");
    for number in 0..5 {
        let gone = ChunkWrite { kind: UpdateKind::Remove, ..value(9, number, 2, 0) };
        store.apply(TARGET, gone).await.expect("remove");
    }
    let usage = |pages: u64, chunk_count| TargetUsage { used_bytes: pages * 4096, chunk_count };
    let three = NamespaceUsage { namespace: NamespaceId(3), usage: usage(13, 4) };
    assert_eq!(store.namespaces(TARGET), [three]);
    assert_eq!(store.space(TARGET), usage(13 + 10, 9));
    drop(store);
    machine.crash(0);
    let store = machine.open().expect("opens again");
    assert_eq!(store.namespaces(TARGET), [three]);
    assert_eq!(store.space(TARGET), usage(13 + 10, 9));
    let replaced = ChunkId::kv(NamespaceId(3), &[1; 32]);
    store.commit(TARGET, replaced, ChunkVersion(2), ChainVersion(1)).await.expect("commit");
    assert_eq!(store.namespaces(TARGET)[0].usage, usage(10, 4));
    settle(&store).await;
}

/// Goal: one process a directory. Oracle: the error of the second.
#[tokio::test]
async fn a_directory_is_locked() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open(directory.path(), "auto");
    let disk = firepond_core::sys::disk::open_disk(directory.path(), "auto").expect("disk");
    let second = firepond_storage::store::ChunkStore::open(disk, options(), buffers());
    assert_eq!(second.err().expect("locked").kind(), ErrorKind::StoreLocked);
    store.close();
    let closed = store.state(TARGET, chunk(1)).expect_err("closed");
    assert_eq!(closed.kind(), ErrorKind::Closed);
}
