//! What a target may do now, from routing, lease and local state.
//!
//! Why a value and not a set of questions: a decision takes one `Standing` and everything in it is
//! of the same moment; whoever waited makes a new one.
//! Invariants: only a target that routing shows serving, that is complete here and whose node holds
//! its lease answers reads or acknowledges; a syncing target acknowledges only its predecessor.

use firepond_core::ids::{ChainId, ChainVersion, TargetId};
use firepond_core::routing::{ChainTarget, Durability, LocalState, PublicState, Routing};
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::{Error, ErrorKind, Result};

/// A target's place and rights at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The target.
    pub target: TargetId,
    /// Its chain.
    pub chain: ChainId,
    /// The version of the chain in our routing; 0 when routing does not know the chain.
    pub chain_version: ChainVersion,
    /// What an acknowledgement of the chain promises.
    pub durability: Durability,
    /// What the manager decided; none when the target is no member.
    pub state: Option<PublicState>,
    /// What the node knows of its own target.
    pub local: LocalState,
    /// Whether the node's lease holds.
    pub lease: bool,
    /// Takes updates from clients.
    pub head: bool,
    /// Receives our updates.
    pub successor: Option<ChainTarget>,
    /// Knows what is committed.
    pub tail: Option<ChainTarget>,
}

impl Standing {
    /// The standing of a target under a routing snapshot.
    pub fn of(
        routing: &Routing,
        chain: ChainId,
        target: TargetId,
        local: LocalState,
        lease: bool,
    ) -> Standing {
        let info = routing.chain(chain).ok();
        let entry = info.and_then(|info| info.member(target));
        Standing {
            target,
            chain,
            chain_version: info.map_or(ChainVersion(0), |info| info.version),
            durability: info.map_or(Durability::Durable, |info| info.durability),
            state: entry.map(|entry| entry.state),
            local,
            lease,
            head: info.and_then(|info| info.head()).is_some_and(|head| head.target == target),
            successor: entry.and_then(|_| info?.successor(target).copied()),
            tail: info.and_then(|info| info.tail().copied()),
        }
    }

    /// The last serving target of the chain.
    pub fn is_tail(&self) -> bool {
        self.tail.is_some_and(|tail| tail.target == self.target)
    }

    /// Serving by routing and complete here, whatever the lease says.
    pub fn is_serving(&self) -> bool {
        self.state == Some(PublicState::Serving) && self.local == LocalState::UpToDate
    }

    fn is_syncing(&self) -> bool {
        self.state == Some(PublicState::Syncing) && self.local != LocalState::Offline
    }

    fn refuse(&self, kind: ErrorKind, why: &str) -> Error {
        Error::new(kind, why)
            .with("target", self.target)
            .with("chain", self.chain)
            .with("chain_version", self.chain_version)
    }

    /// The target takes part in updates of the chain.
    ///
    /// # Errors
    /// `TargetNotServing`.
    pub fn check_replicates(&self) -> Result<()> {
        if self.is_serving() || self.is_syncing() {
            return Ok(());
        }
        Err(self.refuse(ErrorKind::TargetNotServing, "the target takes no updates now"))
    }

    /// The node's lease holds.
    ///
    /// # Errors
    /// `LeaseExpired`.
    pub fn check_lease(&self) -> Result<()> {
        if self.lease {
            return Ok(());
        }
        Err(self.refuse(ErrorKind::LeaseExpired, "the node's lease ran out"))
    }

    /// The sender knows the same version of the chain.
    ///
    /// # Errors
    /// `ChainVersionMismatch`.
    pub fn check_version(&self, sent: ChainVersion) -> Result<()> {
        let passed = planted(Mistake::StandingNotRenewed) && sent < self.chain_version;
        if sent == self.chain_version || passed {
            return Ok(());
        }
        let error =
            self.refuse(ErrorKind::ChainVersionMismatch, "the chain has another version here");
        Err(error.with("sent", sent))
    }

    /// May take an update from a client.
    ///
    /// # Errors
    /// `ChainVersionMismatch`, `TargetNotServing`, `LeaseExpired`.
    pub fn check_client_update(&self, sent: ChainVersion) -> Result<()> {
        self.check_version(sent)?;
        if !self.head || !self.is_serving() {
            return Err(self.refuse(ErrorKind::TargetNotServing, "the target is not the head"));
        }
        self.check_lease()
    }

    /// May take an update from its predecessor. The same chain version means the same predecessor.
    ///
    /// # Errors
    /// `ChainVersionMismatch`, `TargetNotServing`, `LeaseExpired`.
    pub fn check_forward(&self, sent: ChainVersion) -> Result<()> {
        self.check_version(sent)?;
        self.check_replicates()?;
        self.check_lease()
    }

    /// May serve reads.
    ///
    /// # Errors
    /// `TargetNotServing`, `LeaseExpired`.
    pub fn check_read(&self) -> Result<()> {
        if !self.is_serving() {
            return Err(self.refuse(ErrorKind::TargetNotServing, "the target serves no reads now"));
        }
        self.check_lease()
    }

    /// May say what is committed.
    ///
    /// # Errors
    /// `TargetNotServing`, `LeaseExpired`.
    pub fn check_tail(&self) -> Result<()> {
        self.check_read()?;
        if !self.is_tail() {
            return Err(self.refuse(ErrorKind::TargetNotServing, "the target is not the tail"));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use firepond_core::ids::NodeId;
    use firepond_core::routing::ChainInfo;

    /// A routing with chain 1 at `version`, whose target n is on node n.
    pub(crate) fn routing(version: u32, targets: &[(u64, PublicState)]) -> Routing {
        let entry = |(id, state): &(u64, PublicState)| ChainTarget {
            target: TargetId(*id),
            node: NodeId(*id as u32),
            state: *state,
        };
        let mut routing = Routing::default();
        routing.chains.push(ChainInfo {
            id: ChainId(1),
            version: ChainVersion(version),
            durability: Durability::Durable,
            targets: targets.iter().map(entry).collect(),
        });
        routing.reindex();
        routing
    }

    /// The standing of a target of `routing`, complete here and with a lease.
    pub(crate) fn standing(version: u32, targets: &[(u64, PublicState)], id: u64) -> Standing {
        let routing = routing(version, targets);
        Standing::of(&routing, ChainId(1), TargetId(id), LocalState::UpToDate, true)
    }

    /// Goal: every combination of public state, local state and lease gives exactly these rights.
    /// Oracle: the table below, (reads, takes forwards).
    #[test]
    fn rights_by_state() {
        use LocalState::{Offline, Online, UpToDate};
        use PublicState::{LastServing, Serving, Syncing, Waiting};
        let rows = [
            (Serving, UpToDate, true, (true, true)),
            (Serving, UpToDate, false, (false, false)),
            (Serving, Online, true, (false, false)),
            (Serving, Offline, true, (false, false)),
            (Syncing, Online, true, (false, true)),
            (Syncing, UpToDate, true, (false, true)),
            (Syncing, Offline, true, (false, false)),
            (LastServing, UpToDate, true, (false, false)),
            (Waiting, UpToDate, true, (false, false)),
            (PublicState::Offline, UpToDate, true, (false, false)),
        ];
        for (public, local, lease, expected) in rows {
            let routing = routing(4, &[(1, public)]);
            let standing = Standing::of(&routing, ChainId(1), TargetId(1), local, lease);
            let found =
                (standing.check_read().is_ok(), standing.check_forward(ChainVersion(4)).is_ok());
            assert_eq!(found, expected, "{public:?} {local:?} lease {lease}");
        }
    }

    /// Goal: only the head takes client updates, only under its own chain version. Oracle: kinds.
    #[test]
    fn client_updates_need_head_and_version() {
        let chain = [(1, PublicState::Serving), (2, PublicState::Serving)];
        let head = standing(4, &chain, 1);
        assert!(head.check_client_update(ChainVersion(4)).is_ok());
        for sent in [3, 5] {
            let error = head.check_client_update(ChainVersion(sent)).expect_err("mismatch");
            assert_eq!(error.kind(), ErrorKind::ChainVersionMismatch);
        }
        let error = standing(4, &chain, 2).check_client_update(ChainVersion(4));
        assert_eq!(error.expect_err("tail").kind(), ErrorKind::TargetNotServing);
        assert!(standing(4, &chain, 2).check_tail().is_ok());
        assert!(head.check_tail().is_err());
    }
}
