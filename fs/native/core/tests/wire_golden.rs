//! Messages of version 1, byte for byte: what this release sends, and what it must be able to read.
//!
//! The golden files are never edited. A message that changes gets a new field with a default, and a
//! new golden file beside the old one, which must still decode.

use firepond_core::error::WireError;
use firepond_core::ids::{
    ChainId, ChainVersion, ChangeStamp, ChunkId, ChunkIndex, ChunkVersion, ClientId, Incarnation,
    InodeId, NodeId, TargetId, WriteId,
};
use firepond_core::wire::storage::{
    ChunkQuery, ForwardRequest, ReadIo, ReadResult, RecentWrite, UpdateKind, UpdateReply,
    UpdateRequest, decode_table, encode_table,
};
use firepond_core::wire::{Pong, decode, encode};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, golden: &[u8]) {
    assert_eq!(encode(value).as_ref(), golden);
    assert_eq!(&decode::<T>(golden).expect("decodes"), value);
}

fn write_id() -> WriteId {
    WriteId { client: ClientId(0x1122_3344_5566_7788), channel: 3, sequence: 41 }
}

fn chunk() -> ChunkId {
    ChunkId::file(InodeId(7), ChunkIndex(2))
}

fn update() -> UpdateRequest {
    UpdateRequest {
        write_id: write_id(),
        chunk: chunk(),
        chain: ChainId(5),
        chain_version: ChainVersion(6),
        target: TargetId(70),
        kind: UpdateKind::Write,
        offset: 4096,
        len: 512,
        checksum: 0xdead_beef,
        chunk_len_max: 1 << 20,
        tag: [0; 32],
        capability: Vec::new(),
        since: ChunkVersion(0),
    }
}

fn forward() -> ForwardRequest {
    ForwardRequest {
        update: update(),
        version: ChunkVersion(9),
        full_chunk: true,
        committed: false,
        recent_writes: vec![RecentWrite { write_id: write_id(), version: ChunkVersion(8) }],
        forgotten: ChunkVersion(0),
        stamp: ChangeStamp(0),
    }
}

/// Goal: MessagePack messages keep their bytes. Oracle: the golden files.
#[test]
fn messages_keep_their_bytes() {
    macro_rules! golden {
        ($value:expr, $name:literal) => {
            check(&$value, include_bytes!(concat!("../../../../tests/golden/v1/", $name, ".bin")));
        };
    }
    golden!(update(), "message_update");
    golden!(forward(), "message_forward");
    let punch = UpdateRequest { kind: UpdateKind::PunchHole, ..update() };
    let golden: &[u8] = include_bytes!("../../../../tests/golden/v2/message_update_punch_hole.bin");
    check(&punch, golden);
    let fence = UpdateRequest { kind: UpdateKind::Fence, ..update() };
    let golden: &[u8] = include_bytes!("../../../../tests/golden/v2/message_update_fence.bin");
    check(&fence, golden);
    let stamped = ForwardRequest { stamp: ChangeStamp::new(ChainVersion(6), 3), ..forward() };
    let golden: &[u8] = include_bytes!("../../../../tests/golden/v2/message_forward.bin");
    check(&stamped, golden);
    golden!(
        UpdateReply {
            version: ChunkVersion(9),
            chain_version: ChainVersion(6),
            checksum: 0xcafe_f00d,
            len: 4608,
        },
        "message_update_reply"
    );
    golden!(
        ChunkQuery {
            chain: ChainId(5),
            chain_version: ChainVersion(6),
            target: TargetId(70),
            chunks: vec![chunk()],
        },
        "message_chunk_query"
    );
    golden!(Pong { node: NodeId(4), incarnation: Incarnation(12) }, "message_pong");
    let context = vec![("disk".to_owned(), "/d0".to_owned())];
    let error = WireError { code: 4010, message: "no extent".to_owned(), context };
    golden!(error, "message_error");
}

/// Goal: the tables of a batch read keep their bytes. Oracle: the golden files.
#[test]
fn tables_keep_their_bytes() {
    let io = ReadIo {
        chunk: chunk().0,
        chain: 5.into(),
        chain_version: 6.into(),
        offset: 4096.into(),
        len: 512.into(),
        target: 70.into(),
        flags: 1.into(),
        reserved: 0.into(),
    };
    let golden: &[u8] = include_bytes!("../../../../tests/golden/v1/table_read.bin");
    assert_eq!(encode_table(&[io]).as_ref(), golden);
    assert_eq!(decode_table::<ReadIo>(golden).expect("decodes"), [io]);
    let result = ReadResult {
        status: 0.into(),
        reserved: 0.into(),
        len: 512.into(),
        checksum: 0xdead_beef.into(),
        chunk_len: 4608.into(),
        version: 9.into(),
        tag: [7; 32],
        reserved_more: [0; 16],
    };
    let golden: &[u8] = include_bytes!("../../../../tests/golden/v1/table_read_result.bin");
    assert_eq!(encode_table(&[result]).as_ref(), golden);
    assert_eq!(decode_table::<ReadResult>(golden).expect("decodes"), [result]);
}

/// Goal: neighbouring releases understand each other. Method: a message with a field that this
/// release does not know, and one without a field that has a default. Oracle: the fields that both
/// know.
#[test]
fn unknown_fields_are_ignored_and_absent_ones_default() {
    #[derive(Serialize)]
    struct NewerPong {
        node: NodeId,
        incarnation: Incarnation,
        mood: &'static str,
    }
    let newer = NewerPong { node: NodeId(4), incarnation: Incarnation(12), mood: "fine" };
    let known: Pong = decode(&encode(&newer)).expect("decodes");
    assert_eq!(known, Pong { node: NodeId(4), incarnation: Incarnation(12) });

    #[derive(Serialize)]
    struct OlderForward {
        update: UpdateRequest,
        version: ChunkVersion,
        full_chunk: bool,
        committed: bool,
    }
    let version = ChunkVersion(9);
    let older = OlderForward { update: update(), version, full_chunk: false, committed: true };
    let known: ForwardRequest = decode(&encode(&older)).expect("decodes");
    assert!(known.recent_writes.is_empty() && known.committed);
}
