//! The format of records never changes meaning: golden files, made by hand and never edited.

use super::codec::{
    chunk_key, decode_chunk_key, decode_record, decode_target, decode_tombstone_key, encode_record,
    encode_target, target_key, tombstone_key,
};
use super::image::{Extent, HOLE, Image};
use super::record::{ChunkKey, Record, Version};
use super::types::{TargetRecord, VersionState};
use firepond_core::ErrorKind;
use firepond_core::ids::{
    ChainId, ChainVersion, ChangeStamp, ChunkId, ChunkVersion, ClientId, TargetId, WriteId,
};
use firepond_core::wire::storage::RecentWrite;
use std::sync::Arc;

const CHUNK_1: &[u8] = include_bytes!("../../../../tests/golden/v1/store_chunk_record.bin");
const CHUNK_2: &[u8] = include_bytes!("../../../../tests/golden/v2/store_chunk_record.bin");
const CHUNK: &[u8] = include_bytes!("../../../../tests/golden/v3/store_chunk_record.bin");
const TARGET: &[u8] = include_bytes!("../../../../tests/golden/v1/store_target_record.bin");

fn write_id(client: u64, channel: u32, sequence: u64) -> WriteId {
    WriteId { client: ClientId(client), channel, sequence }
}

fn record() -> Record {
    let committed = VersionState {
        version: ChunkVersion(4),
        chain_version: ChainVersion(5),
        write_id: write_id(0x11, 2, 3),
        len: 8193,
        checksum: 0xaabb_ccdd,
        removed: false,
    };
    let pending = VersionState {
        version: ChunkVersion(5),
        chain_version: ChainVersion(6),
        write_id: write_id(0x12, 0, 9),
        len: 0,
        checksum: 0,
        removed: true,
    };
    let image = Image {
        extents: vec![Extent { unit: 256, count: 2 }, Extent { unit: HOLE, count: 1 }],
        checksums: vec![1, 2, 3],
    };
    let tag = std::array::from_fn(|index| index as u8);
    Record {
        committed: Some(Version { state: committed, tag, image: Arc::new(image) }),
        pending: Some(Version { state: pending, tag: [0; 32], image: Arc::default() }),
        recent_writes: vec![RecentWrite {
            write_id: write_id(0x11, 2, 3),
            version: ChunkVersion(4),
        }],
        forgotten: ChunkVersion(2),
        updated_ns: 1_700_000_000_000_000_000,
        stamp: ChangeStamp::new(ChainVersion(6), 0x0102),
    }
}

/// Goal: today's code writes the newest bytes and reads all. Oracle: the golden files.
#[test]
fn golden_records() {
    assert_eq!(encode_record(&record()), CHUNK);
    assert_eq!(decode_record(CHUNK).expect("decodes"), record());
    let second = Record { forgotten: ChunkVersion(0), ..record() };
    assert_eq!(decode_record(CHUNK_2).expect("decodes"), second);
    let stamp = ChangeStamp::new(ChainVersion(6), 0);
    assert_eq!(decode_record(CHUNK_1).expect("decodes"), Record { stamp, ..second });
    let generation = 0x0102_0304_0506_0708;
    let target = TargetRecord { target: TargetId(9), chain: ChainId(7), generation, served: true };
    assert_eq!(encode_target(&target), TARGET);
    assert_eq!(decode_target(&target_key(TargetId(9)), TARGET).expect("decodes"), target);
}

/// Goal: keys come back, and sort by target, then chunk. Oracle: what went in.
#[test]
fn keys_round_trip() {
    let key = ChunkKey { target: TargetId(0x0102), chunk: ChunkId([7; 16]) };
    assert_eq!(decode_chunk_key(&chunk_key(&key)[1..]).expect("decodes"), key);
    assert_eq!(decode_tombstone_key(&tombstone_key(5, &key)).expect("decodes"), (5, key));
    let next = ChunkKey { target: TargetId(0x0200), chunk: ChunkId([0; 16]) };
    assert!(chunk_key(&key) < chunk_key(&next));
}

/// Goal: damage is an error, never a panic. Method: every prefix, every byte changed.
/// Oracle: the error kind, or another record.
#[test]
fn damaged_records_are_errors() {
    for len in 0..CHUNK.len() {
        assert!(decode_record(&CHUNK[..len]).is_err(), "a prefix of {len} bytes");
    }
    for position in 0..CHUNK.len() {
        let mut bytes = CHUNK.to_vec();
        bytes[position] ^= 0xff;
        if let Err(error) = decode_record(&bytes) {
            assert!(matches!(error.kind(), ErrorKind::StoreCorrupt | ErrorKind::Unsupported));
        }
    }
}
