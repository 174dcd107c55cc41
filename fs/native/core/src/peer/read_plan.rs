//! One read request on its way: the table that is sent, and where the reply's bytes go.
//!
//! Invariants: a request has either sinks for all of its reads or for none; a reply that claims
//! more bytes than were asked for is refused before a byte is stored.

use super::chain_client::{ChunkRead, ReadOutcome};
use crate::checksum::crc32c;
use crate::ids::{ChunkVersion, TargetId};
use crate::payload::Payload;
use crate::routing::{ChainTarget, Durability, PublicState, Routing};
use crate::transport::{SinkPlan, SinkSlice};
use crate::wire::storage::{ReadIo, ReadResult, decode_table};
use crate::{Error, ErrorKind, Result};

/// One read with the history of its tries.
pub(super) struct PendingRead {
    /// Position in the caller's list.
    pub(super) index: usize,
    /// What is wanted.
    pub(super) read: ChunkRead,
    /// Targets that failed since the last pause.
    pub(super) failed: Vec<TargetId>,
    /// Those of them whose copy is damaged.
    pub(super) damaged: Vec<TargetId>,
    /// Whom the current try asks.
    pub(super) target: TargetId,
    /// Why the last try failed.
    pub(super) error: Option<Error>,
}

impl PendingRead {
    /// A read that nobody was asked for yet.
    pub(super) fn new(index: usize, read: ChunkRead) -> PendingRead {
        let (failed, damaged) = (Vec::new(), Vec::new());
        PendingRead { index, read, failed, damaged, target: TargetId::default(), error: None }
    }

    /// The replica that was asked failed it.
    pub(super) fn fail(&mut self, error: Error) {
        self.failed.push(self.target);
        if error.kind() == ErrorKind::ChunkChecksumMismatch {
            self.damaged.push(self.target);
        }
        self.error = Some(error);
    }

    /// The replicas may be asked anew.
    pub(super) fn forget_failed(&mut self) {
        self.failed.clear();
        self.damaged.clear();
    }

    /// What the read ends with if no replica is left that could have the bytes: all of them said
    /// that their copy is damaged. One that is away may bring a good copy back, unless its chain is
    /// one that may lose values.
    pub(super) fn lost(&self, routing: &Routing) -> Option<Error> {
        let chain = routing.chain(self.read.chain).ok()?;
        let counts = |one: &&ChainTarget| {
            chain.durability == Durability::Durable || one.state == PublicState::Serving
        };
        let mut members = chain.targets.iter().filter(counts);
        let lost =
            !self.damaged.is_empty() && members.all(|member| self.damaged.contains(&member.target));
        lost.then(|| {
            let why = "every replica of the chunk is damaged";
            self.locate(Error::new(ErrorKind::ChunkLost, why))
        })
    }

    /// The row that asks for it.
    pub(super) fn row(&self, routing: &Routing) -> ReadIo {
        self.row_to(routing, self.target)
    }

    /// The row that asks a target for it.
    pub(super) fn row_to(&self, routing: &Routing, target: TargetId) -> ReadIo {
        let version = routing.chain(self.read.chain).map_or(0, |chain| chain.version.0);
        ReadIo {
            chunk: self.read.chunk.0,
            chain: self.read.chain.0.into(),
            chain_version: version.into(),
            offset: self.read.offset.into(),
            len: self.read.len.into(),
            target: target.0.into(),
            flags: 0.into(),
            reserved: 0.into(),
        }
    }

    /// The outcome of a row of the reply. `bytes` is the read's part of the payload when it has no
    /// sink.
    pub(super) fn outcome(&mut self, row: &ReadResult, bytes: Payload) -> Result<ReadOutcome> {
        let status = row.status.get();
        if status != 0 {
            let kind = ErrorKind::from_code(status).unwrap_or(ErrorKind::Internal);
            return Err(self.locate(Error::new(kind, "the replica refused the read")));
        }
        let len = row.len.get();
        let found = match &mut self.read.sink {
            Some(sink) => crc32c(&sink.as_mut_slice()[..len as usize]),
            None => crc32c(bytes.filled()),
        };
        if found != row.checksum.get() {
            let error = Error::new(ErrorKind::PayloadChecksumMismatch, "bytes changed on the way");
            return Err(self.locate(error));
        }
        Ok(ReadOutcome {
            len,
            chunk_len: row.chunk_len.get(),
            version: ChunkVersion(row.version.get()),
            tag: row.tag,
            bytes,
        })
    }

    /// As `outcome`, of bytes that are not in the sink yet, whoever it was lent to is gone.
    pub(super) fn land(&mut self, row: &ReadResult, bytes: Payload) -> Result<ReadOutcome> {
        let mut sink = self.read.sink.take();
        let mut outcome = self.outcome(row, bytes);
        if let (Some(sink), Ok(outcome)) = (&mut sink, &mut outcome) {
            let bytes = std::mem::replace(&mut outcome.bytes, Payload::empty());
            sink.as_mut_slice()[..bytes.len()].copy_from_slice(bytes.filled());
        }
        self.read.sink = sink;
        outcome
    }

    fn locate(&self, error: Error) -> Error {
        let error = error.with("chunk", self.read.chunk).with("chain", self.read.chain);
        error.with("target", self.target)
    }
}

/// Decodes the rows of a reply and checks that they fit what was asked and what came.
pub(super) fn rows_checked(
    body: &[u8],
    lens: &[u32],
    payload_len: usize,
) -> Result<Vec<ReadResult>> {
    let rows: &[ReadResult] = decode_table(body)?;
    let fits = rows.len() == lens.len()
        && rows.iter().zip(lens).all(|(row, len)| row.len.get() <= *len)
        && rows.iter().map(|row| row.len.get() as usize).sum::<usize>() == payload_len;
    if !fits {
        return Err(Error::new(ErrorKind::FrameInvalid, "a read reply does not fit its request")
            .with("rows", rows.len())
            .with("asked", lens.len())
            .with("payload_bytes", payload_len));
    }
    Ok(rows.to_vec())
}

/// Sends each row's bytes into the sink of its read.
pub(super) struct ReadSinks {
    pub(super) lens: Vec<u32>,
    pub(super) slices: Vec<SinkSlice>,
}

impl SinkPlan for ReadSinks {
    fn plan(&mut self, body: &[u8], payload_len: usize) -> Result<Vec<SinkSlice>> {
        let rows = rows_checked(body, &self.lens, payload_len)?;
        let slices = std::mem::take(&mut self.slices);
        let cut = |(row, slice): (&ReadResult, SinkSlice)| slice.shorten(row.len.get() as usize);
        Ok(rows.iter().zip(slices).map(cut).filter(|slice| !slice.is_empty()).collect())
    }
}
