//! Chains of one, two and three replicas: what every client relies on, one fact a test.
//!
//! The clock is paused and jumps; randomness comes from a seed; so a run repeats exactly.

mod harness;

use firepond_core::ErrorKind;
use firepond_core::checksum::crc32c;
use firepond_core::ids::{
    ChainVersion, ChangeStamp, ChunkVersion, ClientId, NamespaceId, TargetId, WriteId,
};
use firepond_core::payload::Payload;
use firepond_core::peer::ChunkRead;
use firepond_core::routing::{Durability, LocalState, NamespaceInfo, PublicState};
use firepond_core::sys::clock::{self, now};
use firepond_core::sys::random;
use firepond_core::wire::storage::{UpdateKind, UpdateRequest};
use firepond_storage::chain::Backend;
use firepond_storage::store::{ChunkWrite, RECENT_WRITES_MAX_COUNT};
use harness::{CHAIN, CHUNK_MAX, Cluster, bare, chunk, update};
use std::time::Duration;

fn request(cluster: &Cluster, write_id: WriteId, target: u64, bytes: &[u8]) -> UpdateRequest {
    let standing = cluster.nodes[target as usize - 1].replica.standing();
    UpdateRequest {
        write_id,
        chunk: chunk(0),
        chain: CHAIN,
        chain_version: standing.chain_version,
        target: TargetId(target),
        kind: UpdateKind::Write,
        offset: 0,
        len: bytes.len() as u32,
        checksum: crc32c(bytes),
        chunk_len_max: CHUNK_MAX,
        tag: [0; 32],
        capability: vec![],
        since: ChunkVersion(0),
    }
}

fn payload(bytes: &[u8]) -> Payload {
    Payload::from_bytes(bytes::Bytes::copy_from_slice(bytes))
}

/// Goal: write, overwrite, truncate, create, remove mean the same on every chain length.
/// Oracle: a plain byte vector, and equal replicas.
#[tokio::test(start_paused = true)]
async fn operations_on_every_chain_length() {
    for replicas in 1..=3 {
        random::seed_thread(replicas);
        let mut cluster = Cluster::start(replicas).await;
        let client = cluster.client();
        assert_eq!(client.bytes(chunk(0)).await, None);
        client.write(chunk(0), 4, b"abcd").await.expect("write");
        assert_eq!(client.bytes(chunk(0)).await.expect("there"), b"\0\0\0\0abcd");
        client.write(chunk(0), 0, b"xy").await.expect("overwrite");
        client.send(bare(chunk(0), UpdateKind::Truncate, 6)).await.expect("truncate");
        assert_eq!(client.bytes(chunk(0)).await.expect("there"), b"xy\0\0ab");
        let create = client.send(update(chunk(0), UpdateKind::Create, 0, b"new")).await;
        assert_eq!(create.expect_err("exists").kind(), ErrorKind::ChunkExists);
        let removed = client.send(bare(chunk(0), UpdateKind::Remove, 0)).await.expect("remove");
        assert_eq!(removed.version, ChunkVersion(4));
        assert_eq!(client.bytes(chunk(0)).await, None);
        let create = client.send(update(chunk(0), UpdateKind::Create, 0, b"new")).await;
        assert_eq!(create.expect("gone before").version, ChunkVersion(5));
        client.send(update(chunk(0), UpdateKind::Replace, 0, b"newer")).await.expect("replace");
        assert_eq!(client.bytes(chunk(0)).await.expect("there"), b"newer");
        cluster.wait_serving().await;
        cluster.assert_replicas_agree();
    }
}

/// Goal: the same write id is the same write: at once, after a restart of all, at a new head, and
/// while it still is pending. Oracle: the version that it made the first time.
#[tokio::test(start_paused = true)]
async fn retries_are_exactly_once() {
    random::seed_thread(11);
    let mut cluster = Cluster::start(3).await;
    let write_id = WriteId { client: ClientId(5), channel: 1, sequence: 1 };
    let send = async |cluster: &Cluster, target: u64| {
        let request = request(cluster, write_id, target, b"once");
        cluster.nodes[target as usize - 1].replica.update(request, payload(b"once")).await
    };
    let first = send(&cluster, 1).await.expect("the first");
    assert_eq!(send(&cluster, 1).await.expect("again").version, first.version);
    cluster.kill(0);
    clock::sleep(Duration::from_millis(200)).await;
    assert_eq!(send(&cluster, 2).await.expect("new head").version, first.version);
    cluster.restart(0).await;
    cluster.wait_serving().await;
    for index in 0..3 {
        cluster.kill(index);
    }
    for index in 0..3 {
        cluster.restart(index).await;
    }
    cluster.wait_serving().await;
    let head = cluster.manager.lock().states()[0].0;
    assert_eq!(send(&cluster, head).await.expect("after restart").version, first.version);
    cluster.wait_serving().await;
    cluster.assert_replicas_agree();
}

/// Goal: a write that was fenced never happens, whether or not the chunk was there. Method: a
/// create and its fence, a removal by another, a late copy of the create. Oracle: kinds, the chunk.
#[tokio::test(start_paused = true)]
async fn fenced_writes_never_happen() {
    for there in [false, true] {
        random::seed_thread(12);
        let mut cluster = Cluster::start(3).await;
        let client = cluster.client();
        if there {
            client.write(chunk(0), 0, b"another's").await.expect("write");
        }
        let send = async |cluster: &Cluster, sequence, kind, bytes: &[u8]| {
            let write_id = WriteId { client: ClientId(5), channel: 1, sequence };
            let request = UpdateRequest { kind, ..request(cluster, write_id, 1, bytes) };
            cluster.nodes[0].replica.update(request, payload(bytes)).await
        };
        send(&cluster, 2, UpdateKind::Fence, b"").await.expect("the fence of 1");
        let expected = there.then(|| b"another's".to_vec());
        assert_eq!(client.bytes(chunk(0)).await, expected, "a fence changes nothing");
        send(&cluster, 2, UpdateKind::Fence, b"").await.expect("its retry");
        client.send(bare(chunk(0), UpdateKind::Remove, 0)).await.expect("remove");
        let late = send(&cluster, 1, UpdateKind::Create, b"late").await.expect_err("fenced");
        assert_eq!(late.kind(), ErrorKind::UpdateStale);
        assert_eq!(client.bytes(chunk(0)).await, None);
        send(&cluster, 3, UpdateKind::Create, b"next").await.expect("the channel goes on");
        let refused = send(&cluster, 4, UpdateKind::Fence, b"").await.expect_err("3 happened");
        assert_eq!(refused.kind(), ErrorKind::UpdateStale);
        cluster.wait_serving().await;
        cluster.assert_replicas_agree();
    }
}

/// Stores a pending version on one replica behind the service's back, as a crash would leave it.
async fn plant_pending(cluster: &mut Cluster, index: usize, version: u64, bytes: &[u8]) -> WriteId {
    let write_id = WriteId { client: ClientId(77), channel: 0, sequence: version };
    let node = &cluster.nodes[index];
    let write = ChunkWrite {
        chunk: chunk(0),
        kind: UpdateKind::Replace,
        offset: 0,
        len: bytes.len() as u32,
        chunk_len_max: CHUNK_MAX,
        payload: payload(bytes),
        checksum: crc32c(bytes),
        version: ChunkVersion(version),
        chain_version: node.replica.standing().chain_version,
        write_id,
        tag: [0; 32],
        full_chunk: false,
        commit: false,
        recent_writes: vec![],
        durability: Durability::Durable,
        forgotten: ChunkVersion(0),
        stamp: ChangeStamp::new(node.replica.standing().chain_version, 1),
    };
    node.store.apply(node.replica.target, write).await.expect("pending");
    write_id
}

/// Goal: a dirty replica shows what the tail committed, never less. Method: a head with a pending
/// version 2, before and after the tail has it. Oracle: the bytes.
#[tokio::test(start_paused = true)]
async fn dirty_reads_ask_the_tail() {
    random::seed_thread(3);
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client();
    client.send(update(chunk(0), UpdateKind::Replace, 0, b"old")).await.expect("write");
    cluster.wait_serving().await;
    cluster.kill(0);
    cluster.restart(0).await;
    cluster.wait_serving().await;
    // Now node 2 is the head and node 1 the tail.
    plant_pending(&mut cluster, 1, 2, b"new").await;
    let head = std::sync::Arc::clone(&cluster.nodes[1].replica);
    assert!(head.standing().head);
    head.refresh_dirty(chunk(0));
    let deadline = now() + Duration::from_secs(5);
    let read = head.read(&head.standing(), chunk(0), 0, 10, deadline).await.expect("read");
    assert_eq!((read.version, read.payload.filled()), (ChunkVersion(1), &b"old"[..]));
    plant_pending(&mut cluster, 0, 2, b"new").await;
    let tail = &cluster.nodes[0];
    let commit = tail.store.commit(TargetId(1), chunk(0), ChunkVersion(2), ChainVersion(1));
    commit.await.expect("committed at the tail");
    let read = head.read(&head.standing(), chunk(0), 0, 10, deadline).await.expect("read");
    assert_eq!((read.version, read.payload.filled()), (ChunkVersion(2), &b"new"[..]));
}

/// Goal: what was pending when a node died is rolled forward, under its own number and write id,
/// and another client's write comes after it. Oracle: versions, bytes, agreement.
#[tokio::test(start_paused = true)]
async fn pendings_roll_forward_after_restart() {
    random::seed_thread(4);
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    client.send(update(chunk(0), UpdateKind::Replace, 0, b"one")).await.expect("write");
    plant_pending(&mut cluster, 0, 2, b"two").await;
    for index in 0..3 {
        cluster.kill(index);
    }
    // Only the old head was serving at the end by the manager's account; it brings its pending
    // along.
    for index in [2, 0, 1] {
        cluster.restart(index).await;
    }
    cluster.wait_serving().await;
    let version = client.read(chunk(0)).await.expect("read").version;
    let after = client.write(chunk(0), 0, b"T").await.expect("write").version;
    assert_eq!(after.0, version.0 + 1);
    cluster.wait_serving().await;
    cluster.assert_replicas_agree();
}

/// Goal: nobody without a lease or out of the chain serves or acknowledges. Method: the head loses
/// contact to the manager but not to the others. Oracle: error kinds, before and after its
/// eviction.
#[tokio::test(start_paused = true)]
async fn isolated_head_serves_nothing() {
    random::seed_thread(5);
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client();
    client.write(chunk(0), 0, b"data").await.expect("write");
    let head = std::sync::Arc::clone(&cluster.nodes[0].replica);
    cluster.manager.lock().cut(1);
    cluster.nodes[0].open.send_replace(false);
    clock::sleep(Duration::from_secs(2)).await;
    assert!(head.standing().head, "it still believes to be the head");
    let write_id = WriteId { client: ClientId(6), channel: 1, sequence: 1 };
    let update = request(&cluster, write_id, 1, b"lost");
    let error = head.update(update, payload(b"lost")).await.expect_err("no lease");
    assert_eq!(error.kind(), ErrorKind::LeaseExpired);
    let deadline = now() + Duration::from_secs(1);
    let read = head.read(&head.standing(), chunk(0), 0, 4, deadline).await;
    assert_eq!(read.expect_err("no lease").kind(), ErrorKind::LeaseExpired);
    client.write(chunk(0), 0, b"more").await.expect("the other one is the head now");
    assert_eq!(client.bytes(chunk(0)).await.expect("there"), b"more");
}

/// Goal: a full follower fails the update cleanly: nobody keeps it, the number is not lost, removal
/// still works, and with room everything goes on. Oracle: kinds, agreement, bytes.
#[tokio::test(start_paused = true)]
async fn full_follower_refuses_cleanly() {
    for full in 0..3 {
        random::seed_thread(6);
        let mut cluster = Cluster::start(3).await;
        let client = cluster.client();
        client.write(chunk(0), 0, b"before").await.expect("write");
        cluster.wait_serving().await;
        cluster.nodes[full].store.set_full(true);
        let error = client.write(chunk(0), 0, b"AFTER!").await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        let error = client.write(chunk(1), 0, b"fresh").await.expect_err("full");
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        assert_eq!(client.bytes(chunk(0)).await.expect("there"), b"before");
        assert_eq!(client.bytes(chunk(1)).await, None);
        for node in &cluster.nodes {
            assert!(node.store.pending(node.replica.target).expect("list").is_empty());
        }
        client.send(bare(chunk(0), UpdateKind::Remove, 0)).await.expect("removal needs no room");
        cluster.nodes[full].store.set_full(false);
        client.write(chunk(0), 0, b"again").await.expect("room");
        client.write(chunk(1), 0, b"fresh").await.expect("room");
        cluster.wait_serving().await;
        cluster.assert_replicas_agree();
        assert_eq!(client.bytes(chunk(1)).await.expect("there"), b"fresh");
    }
}

/// Goal: a rotten chunk is answered from another replica and mended; a partial write over one too.
/// Oracle: the bytes, the counter, agreement.
#[tokio::test(start_paused = true)]
async fn rotten_chunks_are_mended() {
    random::seed_thread(8);
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    client.write(chunk(0), 0, b"precious").await.expect("write");
    cluster.wait_serving().await;
    for index in 0..3 {
        cluster.nodes[index].store.rot(chunk(0));
        let replica = std::sync::Arc::clone(&cluster.nodes[index].replica);
        let deadline = now() + Duration::from_secs(5);
        let read = replica.read(&replica.standing(), chunk(0), 2, 4, deadline).await;
        assert_eq!(read.expect("from another replica").payload.filled(), b"ecio");
        let repaired = &replica.node.repaired_count;
        assert_eq!(repaired.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
    cluster.nodes[1].store.rot(chunk(0));
    client.write(chunk(0), 0, b"P").await.expect("mended on the way");
    assert_eq!(client.bytes(chunk(0)).await.expect("there"), b"Precious");
    cluster.wait_serving().await;
    cluster.assert_replicas_agree();
}

/// Goal: a namespace stays within its capacity, newest values stay, no put fails. Oracle: bytes.
#[tokio::test(start_paused = true)]
async fn full_namespace_evicts_the_oldest() {
    random::seed_thread(9);
    let mut cluster = Cluster::start(2).await;
    let namespace = NamespaceId(3);
    {
        let mut manager = cluster.manager.lock();
        manager.namespaces.push(NamespaceInfo {
            id: namespace,
            name: "cache".into(),
            table: firepond_core::ids::ChainTableId(1),
            table_version: firepond_core::ids::ChainTableVersion(1),
            class: Durability::Cache,
            capacity_bytes: 100_000,
        });
        manager.publish();
    }
    let client = cluster.client();
    let key = |number: u32| {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_be_bytes());
        firepond_core::ids::ChunkId::kv(namespace, &digest)
    };
    for number in 0..300 {
        let put = update(key(number), UpdateKind::Create, 0, &[number as u8; 1000]);
        client.send(put).await.expect("a put never fails for capacity");
        clock::sleep(Duration::from_millis(20)).await;
    }
    clock::sleep(Duration::from_secs(1)).await;
    let head = &cluster.nodes[0].replica;
    let kept = head.values.bytes(namespace);
    assert!((80_000..=100_000).contains(&kept), "{kept} bytes are kept");
    assert!(client.bytes(key(299)).await.is_some(), "the newest stays");
    assert!(client.bytes(key(0)).await.is_none(), "the oldest went");
    cluster.wait_serving().await;
    cluster.assert_replicas_agree();
}

/// Goal: a replica that was away, or lost its disk, is brought in line while writes go on; chunks
/// that were removed meanwhile are gone there too. Oracle: agreement, and every acknowledged byte.
#[tokio::test(start_paused = true)]
async fn resync_while_writes_go_on() {
    for wiped in [false, true] {
        random::seed_thread(10);
        let mut cluster = Cluster::start(3).await;
        let client = cluster.client();
        for index in 0..100 {
            client.write(chunk(index), 0, &[1; 500]).await.expect("write");
        }
        cluster.kill(1);
        for index in (0..100).step_by(3) {
            client.write(chunk(index), 100, &[2; 100]).await.expect("write");
        }
        for index in (0..100).step_by(7) {
            client.send(bare(chunk(index), UpdateKind::Remove, 0)).await.expect("remove");
        }
        if wiped {
            cluster.nodes[1].store.wipe();
        }
        cluster.restart(1).await;
        let writer = client.clone();
        let writing = tokio::spawn(async move {
            for round in 0..20 {
                for index in (0..100).step_by(9) {
                    let bytes = [3 + round as u8; 10];
                    let write = writer.write(chunk(index), round * 10, &bytes);
                    write.await.expect("write during resync");
                }
            }
        });
        cluster.wait_serving().await;
        writing.await.expect("writer");
        cluster.wait_serving().await;
        assert_eq!(cluster.nodes[1].replica.local_state(), LocalState::UpToDate);
        assert!(cluster.manager.lock().states().iter().all(|one| one.1 == PublicState::Serving));
        cluster.assert_replicas_agree();
    }
}

/// Goal: a bad place of every replica's medium fails the I/Os of its chunk and no other of the same
/// batch, neither of a read nor of a stat. Oracle: each outcome.
#[tokio::test(start_paused = true)]
async fn one_bad_chunk_fails_alone() {
    random::seed_thread(12);
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client();
    for index in 0..5 {
        client.write(chunk(index), 0, b"data").await.expect("write");
    }
    cluster.wait_serving().await;
    for node in &cluster.nodes {
        node.store.rot(chunk(2));
        node.store.break_chunk(chunk(3));
    }
    let deadline = now() + Duration::from_secs(5);
    let asked: Vec<_> = (0..5).map(|index| (CHAIN, chunk(index))).collect();
    let stats = client.chains.batch_stat(&asked, deadline).await;
    let failed: Vec<usize> = (0..5).filter(|index| stats[*index].is_err()).collect();
    assert_eq!(failed, [3], "{stats:?}");
    let read = |index| ChunkRead {
        chain: CHAIN,
        chunk: chunk(index),
        offset: 0,
        len: 4,
        sink: None,
        prefer_head: false,
    };
    let deadline = now() + Duration::from_secs(5);
    let reads = client.chains.batch_read((0..5).map(read).collect(), deadline).await;
    let failed: Vec<usize> = (0..5).filter(|index| reads[*index].is_err()).collect();
    assert_eq!(failed, [2], "a read needs the bytes alone");
}

/// Goal: a late repeat happens never again, however many channels wrote since, and however far the
/// head moved. Method: more clients than a chunk remembers; then the first write and a removal of
/// nothing come once more. Oracle: the version, the bytes, the kind of the refusal.
#[tokio::test(start_paused = true)]
async fn late_repeats_never_happen_again() {
    random::seed_thread(13);
    let mut cluster = Cluster::start(2).await;
    let write_id = WriteId { client: ClientId(5), channel: 1, sequence: 1 };
    let send = async |cluster: &Cluster, target: u64, kind: UpdateKind, id: WriteId| {
        let bytes: &[u8] = if kind == UpdateKind::Remove { b"" } else { b"once" };
        let request = UpdateRequest { kind, ..request(cluster, id, target, bytes) };
        cluster.nodes[target as usize - 1].replica.update(request, payload(bytes)).await
    };
    let removal = WriteId { channel: 2, ..write_id };
    send(&cluster, 1, UpdateKind::Remove, removal).await.expect("nothing is there");
    send(&cluster, 1, UpdateKind::Write, write_id).await.expect("the first");
    let count = RECENT_WRITES_MAX_COUNT as u64 + 20;
    for _ in 0..count {
        let client = cluster.client();
        client.write(chunk(0), 0, b"next").await.expect("each client's first write");
    }
    for head in [1, 2] {
        for (kind, id) in [(UpdateKind::Write, write_id), (UpdateKind::Remove, removal)] {
            let error = send(&cluster, head, kind, id).await.expect_err("a repeat");
            assert_eq!(error.kind(), ErrorKind::UpdateUnproven);
        }
        if head == 1 {
            cluster.kill(0);
            clock::sleep(Duration::from_secs(1)).await;
        }
    }
    let client = cluster.client();
    assert_eq!(client.read(chunk(0)).await.expect("there").version.0, count + 2);
    let remove = bare(chunk(1), UpdateKind::Remove, 0);
    client.send(remove).await.expect("nothing is there");
    client.write(chunk(1), 0, b"new").await.expect("a new chunk");
}
