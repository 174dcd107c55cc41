//! Bringing a successor in line by what changed.
//!
//! Which chunks: those that changed here after what the successor is complete through, those that
//! changed there, and those that are pending there. All others agree; why, is in the head of
//! `resync`. The set is taken once, before anything is sent: a chunk that changes later is either
//! in it or changes through the successor.
//! Invariants: the set is taken after everything that began without the successor has ended here;
//! if removals as young as the mark were forgotten meanwhile, the walk counts for nothing.

use super::compare::differences;
use super::mark::walk_from;
use super::successor::{LAST, PAGE_MAX_COUNT};
use super::worker::Resync;
use crate::chain::Backend;
use crate::store::ChunkState;
use firepond_core::Result;
use firepond_core::ids::{ChangeStamp, ChunkId};
use firepond_core::wire::storage::ResyncChoice;
use std::collections::BTreeSet;

/// Chunks of one walk, 16 bytes each; with more of them everything is compared, in pages.
const WALK_MAX_COUNT: usize = 1 << 20;

impl<B: Backend> Resync<B> {
    /// Sends what changed; false if that is not enough and everything has to be compared.
    pub(super) async fn walk(&self, theirs: ChangeStamp) -> Result<bool> {
        let Some(from) = self.walk_from(theirs)? else { return Ok(false) };
        let Some(chunks) = self.changed(from).await? else { return Ok(false) };
        self.progress.begin(chunks.len() as u64);
        tracing::info!(
            target_id = self.replica.target.0,
            successor = self.successor.target.0,
            chunk_count = chunks.len(),
            from = from.0,
            "resync by what changed"
        );
        let chunks: Vec<ChunkId> = chunks.into_iter().collect();
        for part in chunks.chunks(PAGE_MAX_COUNT as usize) {
            let choice = ResyncChoice::Chunks(part.to_vec());
            let page = self.page(None, Some(choice)).await?;
            self.send_all(differences(&page.entries, &self.ours(part)?)).await?;
            self.progress.done(part.len() as u64);
        }
        Ok(self.walk_from(theirs)?.is_some())
    }

    fn walk_from(&self, theirs: ChangeStamp) -> Result<Option<ChangeStamp>> {
        let marks = self.replica.backend.marks(self.replica.target)?;
        Ok(walk_from(marks, theirs, self.replica.standing().durability))
    }

    fn ours(&self, chunks: &[ChunkId]) -> Result<Vec<(ChunkId, ChunkState)>> {
        let mut found = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let state = self.replica.backend.state(self.replica.target, *chunk)?;
            found.extend(state.map(|state| (*chunk, state)));
        }
        Ok(found)
    }

    /// The chunks in question; none if they are too many.
    async fn changed(&self, from: ChangeStamp) -> Result<Option<BTreeSet<ChunkId>>> {
        let (backend, target) = (&self.replica.backend, self.replica.target);
        let ours = backend.changes(target, (from, LAST), WALK_MAX_COUNT)?;
        let mut chunks: BTreeSet<ChunkId> = ours.into_iter().map(|(_, chunk)| chunk).collect();
        self.pending_there(&mut chunks).await?;
        self.changed_there(from, &mut chunks).await?;
        Ok(Some(chunks).filter(|chunks| chunks.len() < WALK_MAX_COUNT))
    }

    async fn pending_there(&self, chunks: &mut BTreeSet<ChunkId>) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.page(after, Some(ResyncChoice::Pending)).await?;
            chunks.extend(page.entries.iter().map(|entry| entry.chunk));
            after = page.entries.last().map(|entry| entry.chunk);
            if !page.more || after.is_none() || chunks.len() >= WALK_MAX_COUNT {
                return Ok(());
            }
        }
    }

    /// What it got under this chain version, it got from us.
    async fn changed_there(&self, from: ChangeStamp, chunks: &mut BTreeSet<ChunkId>) -> Result<()> {
        let mut choice = ResyncChoice::Changed { stamp: from, chunk: None };
        loop {
            let page = self.page(None, Some(choice)).await?;
            chunks.extend(page.entries.iter().map(|entry| entry.chunk));
            let Some((stamp, chunk)) = page.end.filter(|_| page.more) else { return Ok(()) };
            let is_ours = stamp > ChangeStamp::new(self.chain_version, 0);
            if is_ours || chunks.len() >= WALK_MAX_COUNT {
                return Ok(());
            }
            choice = ResyncChoice::Changed { stamp, chunk: Some(chunk) };
        }
    }
}
