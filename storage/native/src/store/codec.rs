//! The bytes of records, little-endian, as docs/disk-format.md describes them.
//!
//! Why by hand: the format outlives libraries, and a page checksum is 4 bytes, not a varint.
//! Invariants: the first byte is the version of the format; decoding checks every length, so that
//! rot gives `StoreCorrupt` and never a panic.

use super::image::{Extent, Image};
use super::page::page_count;
use super::record::{ChunkKey, Record, Version};
use super::types::{RECENT_WRITES_MAX_COUNT, TargetRecord, VersionState};
use firepond_core::ids::{
    ChainId, ChainVersion, ChangeStamp, ChunkId, ChunkVersion, ClientId, TargetId, WriteId,
};
use firepond_core::wire::storage::RecentWrite;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// The version of target records.
const TARGET_VERSION: u8 = 1;
/// The version of chunk records. Version 1 has no stamp, version 2 does not say what it forgot.
const RECORD_VERSION: u8 = 3;

const FLAG_COMMITTED: u8 = 1;
const FLAG_PENDING: u8 = 2;

/// First bytes of the index's keys.
pub(super) const KIND_CHUNK: u8 = b'c';
pub(super) const KIND_FORMAT: u8 = b'f';
pub(super) const KIND_TARGET: u8 = b't';
pub(super) const KIND_TOMBSTONE: u8 = b'x';

/// The key of a chunk record.
pub(super) fn chunk_key(key: &ChunkKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(25);
    bytes.push(KIND_CHUNK);
    bytes.extend_from_slice(&key.target.0.to_be_bytes());
    bytes.extend_from_slice(&key.chunk.0);
    bytes
}

/// The key of the entry that finds tombstones by age.
pub(super) fn tombstone_key(updated_ns: u64, key: &ChunkKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(33);
    bytes.push(KIND_TOMBSTONE);
    bytes.extend_from_slice(&updated_ns.to_be_bytes());
    bytes.extend_from_slice(&chunk_key(key)[1..]);
    bytes
}

/// The key of a target record.
pub(super) fn target_key(target: TargetId) -> Vec<u8> {
    let mut bytes = vec![KIND_TARGET];
    bytes.extend_from_slice(&target.0.to_be_bytes());
    bytes
}

/// The chunk that a chunk key, or the end of a tombstone key, names.
pub(super) fn decode_chunk_key(bytes: &[u8]) -> Result<ChunkKey> {
    let mut input = Input(bytes);
    let target = TargetId(u64::from_be_bytes(input.take()?));
    Ok(ChunkKey { target, chunk: ChunkId(input.take()?) })
}

/// When the chunk of a tombstone key was removed, and which it is.
pub(super) fn decode_tombstone_key(bytes: &[u8]) -> Result<(u64, ChunkKey)> {
    let mut input = Input(bytes);
    let [_kind] = input.take()?;
    let updated_ns = u64::from_be_bytes(input.take()?);
    Ok((updated_ns, decode_chunk_key(input.0)?))
}

/// The bytes of a target record.
pub(super) fn encode_target(record: &TargetRecord) -> Vec<u8> {
    let mut out = vec![TARGET_VERSION];
    out.extend_from_slice(&record.chain.0.to_le_bytes());
    out.extend_from_slice(&record.generation.to_le_bytes());
    out.push(u8::from(record.served));
    out
}

/// A target record from its key and value.
pub(super) fn decode_target(key: &[u8], value: &[u8]) -> Result<TargetRecord> {
    let mut name = Input(key);
    let [_kind] = name.take()?;
    let target = TargetId(u64::from_be_bytes(name.take()?));
    let mut input = Input(value);
    input.version_up_to(TARGET_VERSION)?;
    let chain = ChainId(input.u32()?);
    let generation = input.u64()?;
    let served = input.u8()? != 0;
    input.end()?;
    Ok(TargetRecord { target, chain, generation, served })
}

/// The bytes of a chunk record.
pub(super) fn encode_record(record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.memory_bytes());
    out.push(RECORD_VERSION);
    let committed = if record.committed.is_some() { FLAG_COMMITTED } else { 0 };
    let pending = if record.pending.is_some() { FLAG_PENDING } else { 0 };
    out.push(committed | pending);
    out.extend_from_slice(&record.stamp.0.to_le_bytes());
    out.extend_from_slice(&record.forgotten.0.to_le_bytes());
    out.extend_from_slice(&record.updated_ns.to_le_bytes());
    out.push(record.recent_writes.len() as u8);
    for recent in &record.recent_writes {
        put_write_id(&mut out, &recent.write_id);
        out.extend_from_slice(&recent.version.0.to_le_bytes());
    }
    for version in record.committed.iter().chain(&record.pending) {
        put_version(&mut out, version);
    }
    out
}

/// A chunk record from its bytes.
pub(super) fn decode_record(bytes: &[u8]) -> Result<Record> {
    let mut input = Input(bytes);
    let record_version = input.version_up_to(RECORD_VERSION)?;
    let flags = input.u8()?;
    let stamp = if record_version >= 2 { Some(ChangeStamp(input.u64()?)) } else { None };
    let forgotten = ChunkVersion(if record_version >= 3 { input.u64()? } else { 0 });
    let updated_ns = input.u64()?;
    let recent_count = usize::from(input.u8()?);
    if recent_count > RECENT_WRITES_MAX_COUNT || flags & !(FLAG_COMMITTED | FLAG_PENDING) != 0 {
        return Err(corrupt("a count or flag of a chunk record is out of range"));
    }
    let mut recent_writes = Vec::with_capacity(recent_count);
    for _ in 0..recent_count {
        let write_id = input.write_id()?;
        recent_writes.push(RecentWrite { write_id, version: ChunkVersion(input.u64()?) });
    }
    let committed = if flags & FLAG_COMMITTED != 0 { Some(input.version()?) } else { None };
    let pending = if flags & FLAG_PENDING != 0 { Some(input.version()?) } else { None };
    input.end()?;
    // Before there were stamps: what was made under a chain version is not newer than its start.
    let made_under = |version: &Version| version.state.chain_version;
    let newest = committed.iter().chain(&pending).map(made_under).max().unwrap_or_default();
    let stamp = stamp.unwrap_or(ChangeStamp::new(newest, 0));
    Ok(Record { committed, pending, recent_writes, forgotten, updated_ns, stamp })
}

fn put_write_id(out: &mut Vec<u8>, id: &WriteId) {
    out.extend_from_slice(&id.client.0.to_le_bytes());
    out.extend_from_slice(&id.channel.to_le_bytes());
    out.extend_from_slice(&id.sequence.to_le_bytes());
}

fn put_version(out: &mut Vec<u8>, version: &Version) {
    let state = &version.state;
    out.extend_from_slice(&state.version.0.to_le_bytes());
    out.extend_from_slice(&state.chain_version.0.to_le_bytes());
    put_write_id(out, &state.write_id);
    out.extend_from_slice(&state.len.to_le_bytes());
    out.extend_from_slice(&state.checksum.to_le_bytes());
    out.push(u8::from(state.removed));
    out.extend_from_slice(&version.tag);
    out.extend_from_slice(&(version.image.extents.len() as u32).to_le_bytes());
    for extent in &version.image.extents {
        out.extend_from_slice(&extent.unit.to_le_bytes());
        out.extend_from_slice(&extent.count.to_le_bytes());
    }
    version.image.checksums.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
}

/// Bytes that are still to be read.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl Input<'_> {
    /// The next bytes.
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) =
            self.0.split_first_chunk().ok_or_else(|| corrupt("a record is too short"))?;
        self.0 = rest;
        Ok(*head)
    }

    /// The next `len` bytes.
    pub(super) fn slice(&mut self, len: usize) -> Result<&[u8]> {
        let parts = self.0.split_at_checked(len);
        let (head, rest) = parts.ok_or_else(|| corrupt("a record is too short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.take()?))
    }
    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }
    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// The record's version, which is 1 to `newest`.
    fn version_up_to(&mut self, newest: u8) -> Result<u8> {
        match self.u8()? {
            known if (1..=newest).contains(&known) => Ok(known),
            other => Err(Error::new(ErrorKind::Unsupported, "a record of a newer release")
                .with("record_version", other)),
        }
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(corrupt("a record is too long")) }
    }

    fn write_id(&mut self) -> Result<WriteId> {
        let (client, channel) = (ClientId(self.u64()?), self.u32()?);
        Ok(WriteId { client, channel, sequence: self.u64()? })
    }

    fn version(&mut self) -> Result<Version> {
        let version = ChunkVersion(self.u64()?);
        let chain_version = ChainVersion(self.u32()?);
        let write_id = self.write_id()?;
        let (len, checksum, removed) = (self.u32()?, self.u32()?, self.u8()? != 0);
        let tag = self.take()?;
        let image = Arc::new(self.image(page_count(len))?);
        let state = VersionState { version, chain_version, write_id, len, checksum, removed };
        Ok(Version { state, tag, image })
    }

    fn image(&mut self, pages: u32) -> Result<Image> {
        let extent_count = self.u32()? as usize;
        if extent_count > self.0.len() / 12 {
            return Err(corrupt("more extents than bytes"));
        }
        let mut extents = Vec::with_capacity(extent_count);
        let mut covered = 0_u64;
        for _ in 0..extent_count {
            let (unit, count) = (self.u64()?, self.u32()?);
            covered += u64::from(count);
            extents.push(Extent { unit, count });
        }
        let checksum_bytes = pages as usize * 4;
        if covered != u64::from(pages) || self.0.len() < checksum_bytes {
            return Err(corrupt("extents or checksums do not fit the length"));
        }
        let (sums, rest) = self.0.split_at(checksum_bytes);
        self.0 = rest;
        let (sums, _) = sums.as_chunks::<4>();
        let checksums = sums.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        Ok(Image { extents, checksums })
    }
}

pub(super) fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::StoreCorrupt, message)
}
