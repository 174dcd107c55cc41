//! Clients that change and read a few chunks until they are told to stop.

use super::CHUNK_COUNT;
use super::history::{Change, Deed, History};
use crate::harness::{CHAIN, TestClient, bare, chunk, update};
use bytes::Bytes;
use firepond_core::ids::ChunkId;
use firepond_core::peer::{ChunkRead, ChunkUpdate};
use firepond_core::routing::ChainTarget;
use firepond_core::sys::clock::{self, Instant, now};
use firepond_core::sys::random;
use firepond_core::transport::Request;
use firepond_core::wire::MessageKind;
use firepond_core::wire::storage::{ReadIo, ReadResult, UpdateKind, decode_table, encode_table};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const LEN_MAX: u64 = 64;

/// One client.
pub struct Worker {
    pub id: usize,
    pub start: Instant,
    pub client: TestClient,
    pub history: History,
    pub stop: Arc<AtomicBool>,
    /// Numbers the changes of all clients: each writes bytes that no other writes.
    pub markers: Arc<AtomicU64>,
}

impl Worker {
    pub async fn run(self) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = random::below(u64::from(CHUNK_COUNT)) as u32;
            match random::below(10) {
                0..5 => self.change(number).await,
                5..7 => self.read_any(number).await,
                _ => self.read_one(number).await,
            }
            clock::sleep(Duration::from_millis(random::below(20))).await;
        }
    }

    fn marker(&self) -> Bytes {
        let number = self.markers.fetch_add(1, Ordering::Relaxed);
        let mut text = format!("<{number}>");
        let len = 1 + random::below(LEN_MAX) as usize;
        while text.len() < len {
            text.push('.');
        }
        Bytes::from(text)
    }

    fn pick(&self) -> Change {
        match random::below(10) {
            0..5 => Change::Write { offset: random::below(LEN_MAX) as u32, bytes: self.marker() },
            5..7 => Change::Replace { bytes: self.marker() },
            7 => Change::Create { bytes: self.marker() },
            8 => Change::Truncate { len: random::below(LEN_MAX) as u32 },
            _ => Change::Remove,
        }
    }

    /// Most updates have time to outlive the faults; some are given up soon.
    async fn change(&self, number: u32) {
        let patience_ms = match random::below(4) {
            0 => 20 + random::below(2000),
            _ => 60_000,
        };
        let change = self.pick();
        let begun = self.history.tick();
        let deadline = now() + Duration::from_millis(patience_ms);
        let sent = sent(chunk(number), &change);
        let result = self.client.chains.update(CHAIN, sent, deadline).await;
        assert!(now() < deadline + Duration::from_secs(1), "a deadline was passed over");
        let note = format!("{:?} by {}: {result:?}", self.start.elapsed(), self.id);
        let version = result.ok().map(|reply| reply.version.0);
        self.history.ended(number, begun, Deed::Update { change, version }, note);
    }

    /// A read as a client does it, with fail-over.
    async fn read_any(&self, number: u32) {
        let read = ChunkRead {
            chain: CHAIN,
            chunk: chunk(number),
            offset: 0,
            len: 1 << 20,
            sink: None,
            prefer_head: random::below(2) == 0,
        };
        let begun = self.history.tick();
        let deadline = now() + Duration::from_millis(100 + random::below(5000));
        let outcome = self.client.chains.batch_read(vec![read], deadline).await.remove(0);
        let seen = match outcome {
            Ok(outcome) => {
                let bytes = outcome.bytes.complete().await.expect("verified");
                Some((outcome.version.0, Bytes::copy_from_slice(bytes)))
            }
            Err(error) if error.kind() == ErrorKind::ChunkNotFound => None,
            Err(_) => return,
        };
        let note = format!("{:?} by {}", self.start.elapsed(), self.id);
        self.history.ended(number, begun, Deed::Read { seen }, note);
    }

    /// A read of one replica, whichever.
    async fn read_one(&self, number: u32) {
        let begun = self.history.tick();
        let routing = self.client.chains.peers().routing().current();
        let Ok(chain) = routing.chain(CHAIN) else { return };
        let target = chain.targets[random::below(chain.targets.len() as u64) as usize];
        let version = chain.version.0;
        if let Ok(seen) = self.read_from(target, version, chunk(number)).await {
            let note = format!("{:?} by {} of {target:?}", self.start.elapsed(), self.id);
            self.history.ended(number, begun, Deed::Read { seen }, note);
        }
    }

    async fn read_from(
        &self,
        target: ChainTarget,
        chain_version: u32,
        chunk: ChunkId,
    ) -> Result<Option<(u64, Bytes)>> {
        let io = ReadIo {
            chunk: chunk.0,
            chain: CHAIN.0.into(),
            chain_version: chain_version.into(),
            offset: 0.into(),
            len: (1 << 20).into(),
            target: target.target.0.into(),
            flags: 0.into(),
            reserved: 0.into(),
        };
        let deadline = now() + Duration::from_secs(2);
        let request = Request::new(MessageKind::BatchRead, encode_table(&[io]), deadline);
        let reply = self.client.chains.peers().call_node(target.node, request).await?;
        let results = decode_table::<ReadResult>(&reply.body)?;
        let bytes = Bytes::copy_from_slice(reply.payload.complete().await?);
        match results[0].status.get() {
            0 => Ok(Some((results[0].version.get(), bytes))),
            code if code == ErrorKind::ChunkNotFound as u16 => Ok(None),
            _ => Err(Error::internal("the replica refused")),
        }
    }
}

fn sent(chunk: ChunkId, change: &Change) -> ChunkUpdate {
    match change {
        Change::Write { offset, bytes } => update(chunk, UpdateKind::Write, *offset, bytes),
        Change::Replace { bytes } => update(chunk, UpdateKind::Replace, 0, bytes),
        Change::Create { bytes } => update(chunk, UpdateKind::Create, 0, bytes),
        Change::Truncate { len } => bare(chunk, UpdateKind::Truncate, *len),
        Change::Remove => bare(chunk, UpdateKind::Remove, 0),
    }
}
