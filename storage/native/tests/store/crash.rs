//! A simulated machine crashes at every operation; what was acknowledged is there afterwards.

use crate::fixture::*;
use firepond_core::ids::{ChainVersion, ChunkVersion};
use firepond_storage::store::{ChunkStore, ReadVersion};
use std::collections::BTreeMap;

/// What a chunk may hold after the crash: what was acknowledged, or what was being written.
#[derive(Clone, Default)]
struct Expected {
    version: u64,
    bytes: Vec<u8>,
    in_flight: Option<Vec<u8>>,
    in_flight_version: u64,
}

/// Runs a fixed script until it ends or the machine stops.
async fn script(store: &ChunkStore, chunks: &mut BTreeMap<u32, Expected>) {
    for round in 0..6_u32 {
        for number in 0..3_u32 {
            let entry = chunks.entry(number).or_default();
            let offset = (round * 30_011) % 60_000;
            let data = bytes(round * 10 + number, if round % 2 == 0 { 70_000 } else { 4096 });
            let mut next = entry.bytes.clone();
            let end = offset as usize + data.len();
            next.resize(next.len().max(end), 0);
            next[offset as usize..end].copy_from_slice(&data);
            let version = entry.version + 1;
            entry.in_flight = Some(next.clone());
            entry.in_flight_version = version;
            let update = write(number, version, offset, &data);
            let two_steps = number == 1;
            let update = if two_steps { pending(update) } else { update };
            if store.apply(TARGET, update).await.is_err() {
                return;
            }
            if two_steps {
                let version = ChunkVersion(version);
                let commit = store.commit(TARGET, chunk(number), version, ChainVersion(1));
                if commit.await.is_err() {
                    return;
                }
            }
            let entry = chunks.entry(number).or_default();
            (entry.version, entry.bytes, entry.in_flight) = (version, next, None);
        }
    }
}

/// Everything acknowledged is there, committed or as the pending version to roll forward.
async fn check(store: &ChunkStore, chunks: &BTreeMap<u32, Expected>) {
    for (number, expected) in chunks {
        let Some(state) = store.state(TARGET, chunk(*number)).expect("state") else {
            assert_eq!(expected.version, 0, "an acknowledged chunk is there");
            continue;
        };
        let newest = state.pending.or(state.committed).expect("a version").version.0;
        assert!(newest >= expected.version, "an acknowledged version is there");
        let found = read(store, *number, ReadVersion::Newest).await.expect("readable");
        let is_known = (newest == expected.version && found == expected.bytes)
            || (newest == expected.in_flight_version
                && Some(&found) == expected.in_flight.as_ref());
        assert!(is_known, "version {newest} of chunk {number} has its bytes");
    }
}

/// Goal: no crash loses or tears what was acknowledged, and the store works on afterwards.
/// Method: crash at every operation of a script, with several seeds for what survives.
/// Oracle: the bytes of the acknowledged or the interrupted update, by version.
#[tokio::test]
async fn nothing_acknowledged_is_lost_at_any_crash_point() {
    let mut points = 0;
    for stop_at in 1.. {
        let machine = Machine::new(stop_at, 64 << 20);
        let store = machine.open().expect("opens");
        machine.crash_point.stop_at(stop_at);
        let mut chunks = BTreeMap::new();
        script(&store, &mut chunks).await;
        let is_complete = chunks.len() == 3 && chunks.values().all(|chunk| chunk.version == 6);
        drop(store);
        machine.crash((stop_at % 3) as usize);
        let store = machine.open().expect("opens after the crash");
        check(&store, &chunks).await;
        for (number, expected) in &mut chunks {
            roll_forward(&store, *number, expected).await;
        }
        drop(store);
        let store = machine.open().expect("opens once more");
        for (number, expected) in &chunks {
            assert!(committed(&store, *number).await == expected.bytes, "chunk {number}");
        }
        points += 1;
        if is_complete {
            break;
        }
    }
    assert!(points > 30, "the script has many crash points, not {points}");
}

/// What a chain does after a restart: commits what is pending, then writes on.
async fn roll_forward(store: &ChunkStore, number: u32, expected: &mut Expected) {
    let state = store.state(TARGET, chunk(number)).expect("state");
    let newest = state.and_then(|state| state.pending.or(state.committed));
    let version = newest.map_or(0, |newest| newest.version.0);
    if version > 0 {
        let commit = store.commit(TARGET, chunk(number), ChunkVersion(version), ChainVersion(2));
        commit.await.expect("commit");
        expected.bytes = committed(store, number).await;
    }
    let data = bytes(77, 9000);
    store.apply(TARGET, write(number, version + 1, 0, &data)).await.expect("write");
    expected.bytes.resize(expected.bytes.len().max(9000), 0);
    expected.bytes[..9000].copy_from_slice(&data);
}
