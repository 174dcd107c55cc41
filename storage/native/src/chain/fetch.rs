//! The bytes of a version that rotted here, from the other replicas of the chain.
//!
//! Whoever has them will do, also one that is being synced or waits for its turn, and a version
//! that is pending there: if this replica is the only one that serves, nobody else could ever
//! become complete. If nobody has the version, nobody may need to: the pages that did not rot are
//! here, and a page that no update touched since is the same in an older version.
//! Invariant: only bytes with the version's length and checksum are taken, so that it does not
//! matter how far the others are.

use super::backend::Backend;
use super::replica::Replica;
use crate::store::{PAGE_BYTES, ReadVersion, VersionState};
use bytes::Bytes;
use firepond_core::checksum::crc32c;
use firepond_core::ids::{ChunkId, ChunkVersion};
use firepond_core::routing::{ChainTarget, Durability, PublicState};
use firepond_core::sys::clock::now;
use firepond_core::transport::Request;
use firepond_core::wire::MessageKind;
use firepond_core::wire::storage::{
    READ_FLAG_NEWEST, READ_FLAG_RELAXED, ReadIo, ReadResult, decode_table, encode_table,
};
use firepond_core::{Error, ErrorKind, Result};
use std::ops::Range;
use std::time::Duration;

/// How long one replica may take to send its copy.
const FETCH_PATIENCE: Duration = Duration::from_secs(5);
/// What is asked for: what is committed there, or else the newest that is stored.
const FLAGS: [u32; 2] = [READ_FLAG_RELAXED, READ_FLAG_RELAXED | READ_FLAG_NEWEST];
/// Who is asked, in this order. One that is offline does not answer.
const STATES: [PublicState; 4] =
    [PublicState::Serving, PublicState::LastServing, PublicState::Syncing, PublicState::Waiting];

/// A part of another replica's copy.
struct Part {
    status: u16,
    version: u64,
    bytes: Bytes,
}

/// What is good of our own copy.
struct Remains {
    bytes: Vec<u8>,
    /// Rotten parts, in order.
    holes: Vec<Range<u32>>,
}

impl<B: Backend> Replica<B> {
    /// The bytes of exactly this version, and who had what was missing here.
    ///
    /// # Errors
    /// `ChunkLost` when it is certain that nobody has them: every other replica is rotten, too, and
    /// none is away that could bring them back; a value that may be lost waits for nobody.
    pub(super) async fn fetch(
        &self,
        chunk: ChunkId,
        wanted: &VersionState,
    ) -> Result<(Bytes, ChainTarget)> {
        let routing = self.node.peers.routing().current();
        let chain = routing.chain(self.chain)?;
        let others = || chain.targets.iter().rev().filter(|other| other.target != self.target);
        let mut last =
            Error::new(ErrorKind::ChunkChecksumMismatch, "no other replica to mend from");
        let serves = |other: &ChainTarget| other.state == PublicState::Serving;
        let mut hopeless = chain.durability == Durability::Cache || others().all(serves);
        let mut answered = Vec::new();
        for state in STATES {
            for other in others().filter(|other| other.state == state) {
                match self.fetch_whole(*other, chunk, wanted).await {
                    Ok(bytes) => return Ok((bytes, *other)),
                    Err(error) => {
                        let lost = error.kind() == ErrorKind::ChunkLost;
                        hopeless &= !serves(other) || lost;
                        if lost || error.kind() == ErrorKind::ChunkChecksumMismatch {
                            answered.push(*other);
                        }
                        last = error;
                    }
                }
            }
        }
        if let Some(found) = self.salvage(&answered, chunk, wanted).await? {
            return Ok(found);
        }
        if hopeless {
            last = Error::new(ErrorKind::ChunkLost, "every replica of the chunk is damaged");
        }
        Err(last.with("chunk", chunk).with("chain", self.chain))
    }

    /// Whether it is certain that no other replica has this version or a newer one, in whatever
    /// state it is: each of them says so.
    pub(super) async fn is_nowhere_else(&self, chunk: ChunkId, version: ChunkVersion) -> bool {
        let routing = self.node.peers.routing().current();
        let Ok(chain) = routing.chain(self.chain) else { return false };
        let nothing = 0..0;
        let absent = |part: &Part| {
            let older = part.status == 0 && part.version < version.0;
            older || part.status == ErrorKind::ChunkNotFound as u16
        };
        for other in chain.targets.iter().filter(|other| other.target != self.target) {
            for flags in FLAGS {
                let parts = self.ask(*other, flags, chunk, std::slice::from_ref(&nothing)).await;
                if !parts.is_ok_and(|parts| parts.first().is_some_and(absent)) {
                    return false;
                }
            }
        }
        true
    }

    /// All bytes from one replica: `ChunkLost` says that its copy is rotten, too,
    /// `ChunkChecksumMismatch` that it has another version.
    async fn fetch_whole(
        &self,
        other: ChainTarget,
        chunk: ChunkId,
        wanted: &VersionState,
    ) -> Result<Bytes> {
        let whole = 0..wanted.len;
        let mut rotten = false;
        for flags in FLAGS {
            let parts = self.ask(other, flags, chunk, std::slice::from_ref(&whole)).await?;
            let Some(part) = parts.into_iter().next() else { continue };
            rotten |= part.status == ErrorKind::ChunkChecksumMismatch as u16;
            let same = part.status == 0 && part.version == wanted.version.0;
            if same && is_whole(&part.bytes, wanted) {
                return Ok(part.bytes);
            }
        }
        let (kind, why) = match rotten {
            true => (ErrorKind::ChunkLost, "the other replica's copy is rotten"),
            false => {
                let why = "the other replica does not have this version";
                (ErrorKind::ChunkChecksumMismatch, why)
            }
        };
        Err(Error::new(kind, why).with("target", other.target))
    }

    /// Our own good pages, and those that are missing from one of the others.
    async fn salvage(
        &self,
        others: &[ChainTarget],
        chunk: ChunkId,
        wanted: &VersionState,
    ) -> Result<Option<(Bytes, ChainTarget)>> {
        if others.is_empty() {
            return Ok(None);
        }
        let Remains { mut bytes, holes } = self.remains(chunk, wanted).await?;
        for other in others {
            for flags in FLAGS {
                let Ok(parts) = self.ask(*other, flags, chunk, &holes).await else { break };
                for (hole, part) in holes.iter().zip(&parts) {
                    let place = &mut bytes[hole.start as usize..hole.end as usize];
                    if part.status == 0 && part.bytes.len() == place.len() {
                        place.copy_from_slice(&part.bytes);
                    }
                }
                if is_whole(&bytes, wanted) {
                    return Ok(Some((Bytes::from(bytes), *other)));
                }
            }
        }
        Ok(None)
    }

    async fn remains(&self, chunk: ChunkId, wanted: &VersionState) -> Result<Remains> {
        let mut remains = Remains { bytes: vec![0; wanted.len as usize], holes: Vec::new() };
        let which = ReadVersion::Exactly(wanted.version);
        for start in (0..wanted.len).step_by(PAGE_BYTES) {
            let end = wanted.len.min(start + PAGE_BYTES as u32);
            match self.backend.read(self.target, chunk, which, start, end - start).await {
                Ok(image) => {
                    let place = &mut remains.bytes[start as usize..end as usize];
                    place.copy_from_slice(image.payload.complete().await?);
                }
                Err(error) if error.kind() == ErrorKind::ChunkChecksumMismatch => {
                    match remains.holes.last_mut().filter(|hole| hole.end == start) {
                        Some(hole) => hole.end = end,
                        None => remains.holes.push(start..end),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(remains)
    }

    /// Parts of what another replica has, each with its own outcome.
    async fn ask(
        &self,
        other: ChainTarget,
        flags: u32,
        chunk: ChunkId,
        parts: &[Range<u32>],
    ) -> Result<Vec<Part>> {
        let row = |part: &Range<u32>| ReadIo {
            chunk: chunk.0,
            chain: self.chain.0.into(),
            chain_version: 0.into(),
            offset: part.start.into(),
            len: (part.end - part.start).into(),
            target: other.target.0.into(),
            flags: flags.into(),
            reserved: 0.into(),
        };
        let rows: Vec<ReadIo> = parts.iter().map(row).collect();
        let deadline = now() + FETCH_PATIENCE;
        let request = Request::new(MessageKind::BatchRead, encode_table(&rows), deadline);
        let reply = self.node.peers.call_node(other.node, request).await?;
        let bytes = Bytes::copy_from_slice(reply.payload.complete().await?);
        let mut start = 0;
        let mut found = Vec::with_capacity(parts.len());
        for result in decode_table::<ReadResult>(&reply.body)? {
            let end = start + result.len.get() as usize;
            if end > bytes.len() {
                let why = "a read reply is shorter than its rows say";
                return Err(Error::new(ErrorKind::FrameInvalid, why).with("target", other.target));
            }
            let (status, version) = (result.status.get(), result.version.get());
            found.push(Part { status, version, bytes: bytes.slice(start..end) });
            start = end;
        }
        Ok(found)
    }
}

fn is_whole(bytes: &[u8], wanted: &VersionState) -> bool {
    bytes.len() == wanted.len as usize && crc32c(bytes) == wanted.checksum
}
