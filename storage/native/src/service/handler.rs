//! Which message goes where.
//!
//! Invariants: what outside bytes say is checked before it costs memory; an update runs to its end
//! although its caller goes away.

use super::batch_read::BUDGET_UNIT_BYTES;
use super::targets::Targets;
use crate::chain::{Backend, Node};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::transport::{Handler, IncomingRequest, OutgoingReply};
use firepond_core::wire::storage::{
    ForwardRequest, ResyncControl, ResyncPageRequest, UpdateRequest,
};
use firepond_core::wire::{MessageKind, Pong, decode, encode};
use firepond_core::{Error, ErrorKind, Result};
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most permits of one acquisition.
const UNITS_MAX_COUNT: usize = 1 << 24;

/// All targets of one process, as its peers see them.
pub struct StorageService<B> {
    /// The process.
    pub node: Arc<Node>,
    /// Its targets.
    pub targets: Targets<B>,
    pub(super) read_budget: Semaphore,
    pub(super) read_units: usize,
    update_budget: Arc<Semaphore>,
    update_units: usize,
}

impl<B: Backend> StorageService<B> {
    /// A service without targets whose I/Os in flight take about `buffer_bytes`: half for reads, a
    /// quarter for clients' updates, the rest for what comes from predecessors.
    pub fn new(node: Arc<Node>, buffer_bytes: usize) -> StorageService<B> {
        let units = |bytes: usize| (bytes / BUDGET_UNIT_BYTES).clamp(1, UNITS_MAX_COUNT);
        let (read_units, update_units) = (units(buffer_bytes / 2), units(buffer_bytes / 4));
        StorageService {
            node,
            targets: Targets::default(),
            read_budget: Semaphore::new(read_units),
            read_units,
            update_budget: Arc::new(Semaphore::new(update_units)),
            update_units,
        }
    }

    /// Whether so much is being read that work without haste should wait.
    pub fn is_busy(&self) -> bool {
        self.read_budget.available_permits() < self.read_units / 2
    }

    async fn answer(&self, request: IncomingRequest) -> Result<OutgoingReply> {
        let deadline = request.deadline;
        match request.kind {
            MessageKind::BatchRead => self.batch_read(&request).await,
            MessageKind::Update => self.update(request).await,
            MessageKind::Forward => self.forward(request).await,
            MessageKind::QueryCommitted => {
                body(&self.query_committed(decode(&request.body)?, deadline).await?)
            }
            MessageKind::BatchStat => {
                body(&self.batch_stat(decode(&request.body)?, deadline).await?)
            }
            MessageKind::ListChunks => {
                body(&self.list_chunks(decode(&request.body)?, deadline).await?)
            }
            MessageKind::Space => body(&self.space()),
            MessageKind::Ping => {
                body(&Pong { node: self.node.id, incarnation: self.node.incarnation })
            }
            MessageKind::ResyncBegin => {
                let control: ResyncControl = decode(&request.body)?;
                let replica = self.targets.find(control.chain, control.target)?;
                body(&replica.resync_begin(&control).await?)
            }
            MessageKind::ResyncPage => {
                let page: ResyncPageRequest = decode(&request.body)?;
                let replica = self.targets.find(page.control.chain, page.control.target)?;
                body(&replica.resync_page(&page).await?)
            }
            MessageKind::ResyncDone => {
                let control: ResyncControl = decode(&request.body)?;
                let replica = self.targets.find(control.chain, control.target)?;
                replica.resync_done(&control).await.map(|()| OutgoingReply::default())
            }
            MessageKind::Settled => {
                let control: ResyncControl = decode(&request.body)?;
                let replica = self.targets.find(control.chain, control.target)?;
                replica.settled(&control).await.map(|()| OutgoingReply::default())
            }
            MessageKind::Expel => {
                let control: ResyncControl = decode(&request.body)?;
                let replica = self.targets.find(control.chain, control.target)?;
                replica.expelled(&control).await.map(|()| OutgoingReply::default())
            }
            kind => Err(Error::new(ErrorKind::Unsupported, "not a storage message")
                .with("kind", format_args!("{kind:?}"))),
        }
    }

    async fn update(&self, request: IncomingRequest) -> Result<OutgoingReply> {
        let update: UpdateRequest = decode(&request.body)?;
        let _budget = self.take_budget(request.payload.len())?;
        let replica = self.targets.find(update.chain, update.target)?;
        body(&replica.update(update, request.payload).await?)
    }

    async fn forward(&self, request: IncomingRequest) -> Result<OutgoingReply> {
        let forward: ForwardRequest = decode(&request.body)?;
        let replica = self.targets.find(forward.update.chain, forward.update.target)?;
        body(&replica.forward(forward, request.payload).await?)
    }

    /// Refuses at once: whoever waits here would hold the buffers that predecessors need.
    fn take_budget(&self, len: usize) -> Result<OwnedSemaphorePermit> {
        let units = len.div_ceil(BUDGET_UNIT_BYTES).min(self.update_units) as u32;
        Arc::clone(&self.update_budget).try_acquire_many_owned(units).map_err(|_| {
            Error::new(ErrorKind::PeerOverloaded, "too many bytes of updates in flight")
        })
    }
}

fn body<T: Serialize>(message: &T) -> Result<OutgoingReply> {
    Ok(OutgoingReply::body(encode(message)))
}

impl<B: Backend> Handler for StorageService<B> {
    fn handle(&self, request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>> {
        Box::pin(self.answer(request))
    }
}
