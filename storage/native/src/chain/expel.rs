//! Telling a successor to leave the chain, and leaving when told.
//!
//! Why the successor itself reports it: it says "offline" in its own heartbeat, so the manager
//! takes it out as it does with any target that is gone, and it comes back through a resync.
//! Nothing hangs on the message: it is said again as long as the successor cannot follow.
//! Invariants: only the predecessor of this chain version is believed; a target that left for lack
//! of room stays away until there is room.

use super::backend::Backend;
use super::replica::Replica;
use firepond_core::ids::{ChainVersion, ChangeStamp};
use firepond_core::routing::ChainTarget;
use firepond_core::sys::clock::now;
use firepond_core::sys::task;
use firepond_core::transport::Request;
use firepond_core::wire::storage::ResyncControl;
use firepond_core::wire::{MessageKind, encode};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long the message may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl<B: Backend> Replica<B> {
    /// Tells the successor to leave the chain. Nobody waits for it.
    pub(crate) fn expel(&self, to: ChainTarget, chain_version: ChainVersion, full: bool) {
        let control = ResyncControl {
            chain: self.chain,
            chain_version,
            target: to.target,
            complete_through: ChangeStamp(0),
            purged_through: ChangeStamp(0),
            full,
        };
        let (node, target) = (Arc::clone(&self.node), self.target);
        task::spawn(async move {
            let request = Request::new(MessageKind::Expel, encode(&control), now() + PATIENCE);
            let told = node.peers.call_node(to.node, request).await;
            tracing::info!(
                target_id = target.0,
                successor = to.target.0,
                full,
                told = told.is_ok(),
                "the successor cannot follow"
            );
        });
    }

    /// `Expel`: this target cannot follow its predecessor.
    ///
    /// # Errors
    /// `ChainVersionMismatch`, `TargetNotServing`.
    pub async fn expelled(&self, control: &ResyncControl) -> Result<()> {
        self.await_routing(control.chain_version).await;
        let standing = self.standing();
        standing.check_version(control.chain_version)?;
        standing.check_replicates()?;
        if standing.head {
            return Err(Error::new(ErrorKind::TargetNotServing, "the head follows nobody")
                .with("target", self.target));
        }
        self.leave(control.full);
        Ok(())
    }
}
