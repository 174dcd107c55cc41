//! Persisted records against golden bytes, which were made apart from this code and never change.

use firepond_core::ids::{ChainTableId, ChainTableVersion, InodeId};
use firepond_core::layout::{FileLayout, LayoutKind};
use firepond_core::wire::meta::{InodeKind, MetaReply};
use firepond_meta::records::*;
use std::fmt::Debug;

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/golden/v1/meta/", $name, ".bin"))
    };
}

fn agrees<R: Record + PartialEq + Debug>(record: &R, bytes: &[u8]) {
    assert_eq!(record.encode().unwrap(), bytes, "{}", R::NAME);
    assert_eq!(&R::decode(bytes).unwrap(), record, "{}", R::NAME);
}

fn inode(body: InodeBody) -> InodeRecord {
    InodeRecord {
        mode: 0o6755,
        uid: 1000,
        gid: 100,
        link_count: 3,
        accessed_ns: 1,
        modified_ns: 1 << 40,
        modified_set_ns: 300,
        changed_ns: u64::MAX,
        body,
    }
}

/// Goal: no release reads another's records wrong. Oracle: the golden files.
#[test]
fn records_are_golden() {
    let layout = FileLayout {
        kind: LayoutKind::Replicated,
        table: ChainTableId(1),
        table_version: ChainTableVersion(2),
        chunk_size_bytes: 1 << 20,
        stripe_count: 16,
        seed: 0xdead_beef,
    };
    let body =
        InodeBody::File { size_bytes: 1 << 33, truncate_version: 7, layout, collecting: true };
    agrees(&inode(body), golden!("inode_file"));
    agrees(&inode(InodeBody::Directory { parent: InodeId(99) }), golden!("inode_directory"));
    agrees(&inode(InodeBody::Symlink { target: b"a/b".to_vec() }), golden!("inode_symlink"));
    let entry = EntryRecord { inode: InodeId(77), kind: InodeKind::Symlink };
    agrees(&entry, golden!("entry"));
    let times = DirectoryTimes { entries_changed_ns: 1 << 50 };
    agrees(&times, golden!("directory_times"));
    agrees(&Counter { value: 4112 }, golden!("counter"));
    agrees(&SessionRecord { opened_ns: 1 << 50 }, golden!("session"));
    agrees(&GarbageRecord { unlinked_ns: 1 << 50 }, golden!("garbage"));
    let mut pending =
        PendingTruncate { size_bytes: 5, truncate_version: 2, extent_bytes: Some(1 << 30) };
    agrees(&pending, golden!("pending_truncate"));
    pending.extent_bytes = None;
    agrees(&pending, golden!("pending_truncate_open"));
    agrees(&RequestRecord::new(&Ok(MetaReply::Done)), golden!("request"));
}

/// Goal: what is no record of this release is refused. Oracle: the kinds of error.
#[test]
fn foreign_bytes_are_refused() {
    use firepond_core::ErrorKind::{StoreCorrupt, VersionUnsupported};
    let kind = |bytes: &[u8]| InodeRecord::decode(bytes).unwrap_err().kind();
    assert_eq!(kind(b""), StoreCorrupt);
    assert_eq!(kind(b"\x02rest"), VersionUnsupported);
    let whole = golden!("inode_file");
    for end in 1..whole.len() {
        assert_eq!(kind(&whole[..end]), StoreCorrupt, "cut at {end}");
    }
}
