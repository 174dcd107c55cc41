//! The head tells how far everything has ended: the stamps of `Replica::mark_complete`.
//!
//! Every few seconds in which something was written the head closes its epoch, so that what begins
//! from now on has a later stamp; waits until every chunk lock that is held now was given up once;
//! and brings to an end what is still pending with a stamp up to the closed one. If it then still
//! is the head under the same chain version, with a lease, every update with such a stamp has
//! ended: acknowledged by every replica of the chain, or dropped by all. It remembers that and
//! tells the others.
//!
//! Invariants: nothing is said under a chain version other than the one in which the waiting began;
//! a message that is lost is made up for by the next one.

use crate::chain::{Backend, Replica};
use firepond_core::ids::{ChainVersion, ChangeStamp};
use firepond_core::routing::{ChainTarget, Durability};
use firepond_core::sys::clock::now;
use firepond_core::transport::Request;
use firepond_core::wire::storage::ResyncControl;
use firepond_core::wire::{MessageKind, encode};
use firepond_core::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// How often the head closes an epoch.
pub const EPOCH_INTERVAL: Duration = Duration::from_secs(2);
/// How long one message may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Closes the epoch of a head, if something was written in it.
pub async fn close_epoch<B: Backend>(replica: &Arc<Replica<B>>) {
    let standing = replica.standing();
    let chain_version = standing.chain_version;
    if standing.check_client_update(chain_version).is_err()
        || standing.durability != Durability::Durable
    {
        return;
    }
    let Some(closed) = replica.epochs.close(chain_version) else { return };
    if let Err(error) = settle(replica, chain_version, closed).await {
        tracing::debug!(target_id = replica.target.0, %error, "the epoch stays open");
        replica.epochs.retry();
    }
}

async fn settle<B: Backend>(
    replica: &Arc<Replica<B>>,
    chain_version: ChainVersion,
    closed: ChangeStamp,
) -> Result<()> {
    replica.await_updates().await?;
    for chunk in replica.backend.pending(replica.target)? {
        let state = replica.backend.state(replica.target, chunk)?;
        let waits = state.is_some_and(|state| state.pending.is_some() && state.stamp <= closed);
        if waits {
            replica.settle(chunk).await?;
        }
    }
    replica.standing().check_client_update(chain_version)?;
    replica.mark_complete(closed)?;
    let routing = replica.node.peers.routing().current();
    let chain = routing.chain(replica.chain)?;
    let mut first_error = None;
    for other in chain.serving().filter(|other| other.target != replica.target) {
        let told = tell(replica, *other, chain_version, closed).await;
        first_error = first_error.or(told.err());
    }
    first_error.map_or(Ok(()), Err::<(), Error>)
}

async fn tell<B: Backend>(
    replica: &Replica<B>,
    other: ChainTarget,
    chain_version: ChainVersion,
    closed: ChangeStamp,
) -> Result<()> {
    let control = ResyncControl {
        chain: replica.chain,
        chain_version,
        target: other.target,
        complete_through: closed,
        purged_through: ChangeStamp(0),
        full: false,
    };
    let request = Request::new(MessageKind::Settled, encode(&control), now() + PATIENCE);
    replica.node.peers.call_node(other.node, request).await.map(|_| ())
}
