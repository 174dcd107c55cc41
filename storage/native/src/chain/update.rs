//! The life of one update on one replica, from its admission to its acknowledgement.
//!
//! A machine without I/O: `step(standing, event) -> actions`. The runtime (`drive`) performs the
//! actions and brings back what became of them, each time with the standing of that moment.
//!
//! 1. `Started`: store it; forward it at the same time if that is possible (cut-through).
//! 2. `Applied` and `Forwarded`, in any order. A forward that fails is tried again, under the chain
//!    version and to the successor of that moment; one that was refused for good ends the update.
//! 3. Both there and equal: commit under the successor's chain version, or as the tail.
//! 4. `Committed`: if a new successor appeared meanwhile, it gets the chunk too; then acknowledge.
//!
//! Invariants: nothing is acknowledged that is not durable here and acknowledged from below, nor
//! without lease, nor by a target that was taken out. A pending version is dropped only if it is
//! certain that nobody below has it (or that it rotted here and nobody at all has it); else it
//! stays and is rolled forward later. A replica that lost an update which others below may have
//! takes itself out of the chain. A successor that stays different after whole chunks were sent, or
//! that is syncing and full, is told to leave the chain; a replica never doubts itself for what
//! another one says.

use super::admit::reply;
use super::role::Standing;
use crate::store::VersionState;
use firepond_core::ids::{ChainVersion, ChangeStamp, ChunkVersion};
use firepond_core::routing::{ChainTarget, PublicState};
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::wire::storage::UpdateReply;
use firepond_core::{Error, ErrorKind, Result};
use std::time::Duration;

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_millis(200);
const LEASE_POLL: Duration = Duration::from_millis(20);
/// Whole chunks sent to bring one successor in line, and repeats after a damaged transfer.
const HEALS_MAX_COUNT: u32 = 3;

/// How an update travels to the successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it came.
    Delta,
    /// As it came, replacing whatever is there: the payload is the whole chunk, or it is a removal.
    Whole,
    /// The whole chunk as this update made it, read back from our store.
    Image,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The update was admitted.
    Started,
    /// The store answered.
    Applied(Result<VersionState>),
    /// The successor answered.
    Forwarded(Result<UpdateReply>),
    /// Nothing was sent: the version rotted here, and nobody else gives it.
    Unreadable {
        /// What the store said.
        error: Error,
        /// It is certain that no other replica of the chain has it.
        nowhere: bool,
    },
    /// The store made the version the committed one.
    Committed(Result<VersionState>),
    /// The store dropped the pending version.
    Aborted(Result<()>),
    /// Newer routing arrived.
    RoutingChanged,
    /// The pause asked for is over.
    RetryDue,
    /// It took too long: leave the rest to a later roll-forward.
    Tired,
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Store the update.
    Apply {
        /// Under this chain version.
        chain_version: ChainVersion,
        /// As the tail: committed at once.
        commit: bool,
    },
    /// Send it to the successor.
    Forward {
        /// The successor.
        to: ChainTarget,
        /// Stamped on it.
        chain_version: ChainVersion,
        /// How.
        form: Form,
    },
    /// Give the running forward up.
    CancelForward,
    /// Make the pending version the committed one.
    Commit {
        /// Under which it was committed below.
        chain_version: ChainVersion,
    },
    /// Drop the pending version.
    Abort,
    /// Come back with `RetryDue`.
    RetryAfter(Duration),
    /// This target lost an update that others may have.
    FailTarget(Error),
    /// The successor cannot follow: it must leave the chain.
    Expel {
        /// The successor.
        to: ChainTarget,
        /// Under which it is one.
        chain_version: ChainVersion,
        /// It has no room.
        full: bool,
    },
    /// The end: the answer to whoever sent the update.
    Finish(Result<UpdateReply>),
}

/// What is known of an update before it begins here.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The version that it makes.
    pub version: ChunkVersion,
    /// When the head took it.
    pub stamp: ChangeStamp,
    /// Its payload is the whole chunk, or it is a removal.
    pub whole: bool,
    /// It must replace whatever the replicas below have.
    pub replaces: bool,
    /// Its payload is at hand.
    pub has_payload: bool,
    /// The disk is nearly full: store before forwarding.
    pub persist_first: bool,
}

#[derive(Debug)]
enum Local {
    Absent,
    Applying { commit: bool },
    Pending(VersionState),
    Committing,
    Committed(VersionState),
    Aborting,
    Failed(Error),
}

#[derive(Debug)]
enum Link {
    Idle,
    Running(ChainTarget),
    Done(ChainTarget, UpdateReply),
    Refused(Error),
}

/// One update on one replica.
#[derive(Debug)]
pub struct Update {
    plan: Plan,
    local: Local,
    link: Link,
    /// A forward was begun at least once.
    attempted: bool,
    /// A forward ended without an answer: those below may have the update.
    unknown: bool,
    heals: u32,
    repeats: u32,
    paused: bool,
    backoff: Duration,
    finished: bool,
}

impl Update {
    /// An update that begins here.
    pub fn new(plan: Plan) -> Update {
        Update {
            plan,
            local: Local::Absent,
            link: Link::Idle,
            attempted: false,
            unknown: false,
            heals: 0,
            repeats: 0,
            paused: false,
            backoff: BACKOFF_MIN,
            finished: false,
        }
    }

    /// An update that is pending here since earlier: those below may have it.
    pub fn adopt(plan: Plan, pending: VersionState) -> Update {
        assert_eq!(plan.version, pending.version, "the pending version is the update's");
        Update { local: Local::Pending(pending), unknown: true, ..Update::new(plan) }
    }

    /// Takes an event under the standing of this moment; says what to do.
    pub fn step(&mut self, standing: &Standing, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.finished {
            return actions;
        }
        match event {
            Event::Started => {}
            Event::RoutingChanged | Event::RetryDue => self.paused = false,
            Event::Applied(result) => self.applied(result),
            Event::Forwarded(result) => self.forwarded(standing, result, &mut actions),
            Event::Unreadable { error, nowhere } => self.unreadable(error, nowhere, &mut actions),
            Event::Committed(Ok(state)) => self.local = Local::Committed(state),
            Event::Committed(Err(error)) => self.finish(Err(error), &mut actions),
            Event::Aborted(result) => self.aborted(result, &mut actions),
            Event::Tired => {
                let why = "the chain did not take the update in time";
                let error = Error::new(ErrorKind::ChunkBusy, why).with("target", standing.target);
                self.finish(Err(error), &mut actions);
            }
        }
        self.advance(standing, &mut actions);
        actions
    }

    fn finish(&mut self, result: Result<UpdateReply>, actions: &mut Vec<Action>) {
        if self.finished {
            return;
        }
        self.finished = true;
        if matches!(self.link, Link::Running(_)) {
            actions.push(Action::CancelForward);
        }
        actions.push(Action::Finish(result));
    }

    fn applied(&mut self, result: Result<VersionState>) {
        let committed = matches!(self.local, Local::Applying { commit: true });
        self.local = match result {
            Ok(state) => {
                assert_eq!(state.version, self.plan.version, "the store keeps the number");
                if committed { Local::Committed(state) } else { Local::Pending(state) }
            }
            Err(error) => Local::Failed(error),
        };
    }

    fn forwarded(
        &mut self,
        standing: &Standing,
        result: Result<UpdateReply>,
        actions: &mut Vec<Action>,
    ) {
        let Link::Running(to) = self.link else { return };
        self.link = Link::Idle;
        let error = match result {
            Ok(reply) => {
                self.link = Link::Done(to, reply);
                return;
            }
            Err(error) => error,
        };
        match error.kind() {
            // Nobody reads from it yet: it goes, and the writers go on.
            ErrorKind::DiskFull if to.state == PublicState::Syncing => {
                let chain_version = standing.chain_version;
                actions.push(Action::Expel { to, chain_version, full: true });
                self.pause(actions);
            }
            ErrorKind::DiskFull | ErrorKind::InvalidArgument | ErrorKind::ChunkLost => {
                self.link = Link::Refused(error)
            }
            ErrorKind::PayloadChecksumMismatch if self.repeats < HEALS_MAX_COUNT => {
                self.repeats += 1;
                self.pause(actions);
            }
            ErrorKind::PayloadChecksumMismatch => self.link = Link::Refused(error),
            ErrorKind::UpdateGap | ErrorKind::UpdateStale | ErrorKind::ReplicaChecksumMismatch => {
                self.heal(standing, to, actions)
            }
            ErrorKind::ChainVersionMismatch if planted(Mistake::CommitBeforeRouting) => {
                let (version, chain_version) = (self.plan.version, ChainVersion(0));
                let taken = UpdateReply { version, chain_version, checksum: 0, len: 0 };
                self.link = Link::Done(to, taken);
            }
            // Said before anything was stored.
            ErrorKind::ChainVersionMismatch
            | ErrorKind::LeaseExpired
            | ErrorKind::NoSuchTarget
            | ErrorKind::PeerOverloaded => self.pause(actions),
            _ => {
                self.unknown = true;
                self.pause(actions);
            }
        }
    }

    /// What is pending here rotted. While another target serves, this one leaves the chain. The
    /// last one drops it if nobody has it: then nobody was told that it is done.
    fn unreadable(&mut self, error: Error, nowhere: bool, actions: &mut Vec<Action>) {
        let Link::Running(to) = self.link else { return };
        self.link = Link::Idle;
        match self.local {
            Local::Pending(_) if to.state == PublicState::Serving => self.lose(error, actions),
            Local::Pending(_) if nowhere => {
                self.unknown = false;
                let why = "the update rotted before another replica had it";
                self.link = Link::Refused(Error::new(ErrorKind::ChunkBusy, why));
            }
            _ => self.pause(actions),
        }
    }

    fn pause(&mut self, actions: &mut Vec<Action>) {
        self.paused = true;
        actions.push(Action::RetryAfter(self.backoff));
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// The successor has something else: send it the whole chunk. If that does not help, the
    /// successor leaves the chain, and the update goes on with whoever follows.
    fn heal(&mut self, standing: &Standing, to: ChainTarget, actions: &mut Vec<Action>) {
        self.link = Link::Idle;
        self.plan.replaces = true;
        self.plan.has_payload = false;
        self.heals += 1;
        if self.heals > HEALS_MAX_COUNT {
            self.heals = 0;
            self.unknown = true;
            let chain_version = standing.chain_version;
            actions.push(Action::Expel { to, chain_version, full: false });
            self.pause(actions);
        }
    }

    fn aborted(&mut self, result: Result<()>, actions: &mut Vec<Action>) {
        let refusal = match &self.link {
            Link::Refused(error) => error.clone(),
            _ => Error::internal("only refused updates are dropped"),
        };
        self.finish(Err(result.err().unwrap_or(refusal)), actions);
    }

    fn advance(&mut self, standing: &Standing, actions: &mut Vec<Action>) {
        if self.finished {
            return;
        }
        if matches!(self.local, Local::Failed(_)) {
            return self.advance_failed(actions);
        }
        if matches!(self.link, Link::Refused(_)) {
            return self.advance_refused(actions);
        }
        if let Err(error) = standing.check_replicates() {
            return self.finish(Err(error), actions);
        }
        if matches!(self.local, Local::Absent) {
            let commit = standing.successor.is_none();
            self.local = Local::Applying { commit };
            let chain_version = standing.chain_version;
            actions.push(Action::Apply { chain_version, commit });
        }
        self.advance_link(standing, actions);
        self.advance_commit(standing, actions);
    }

    /// The store failed. Clean if nobody below has the update; else this replica is behind.
    fn advance_failed(&mut self, actions: &mut Vec<Action>) {
        let Local::Failed(error) = &self.local else { return };
        let error = error.clone();
        if !self.is_lost_by(&error) {
            return self.finish(Err(error), actions);
        }
        if matches!(self.link, Link::Running(_)) {
            return;
        }
        self.lose(error, actions);
    }

    /// Whether those below may have the update that our store did not take.
    pub fn is_lost_by(&self, error: &Error) -> bool {
        // Incomplete or damaged bytes were sent on just as they are: nobody took them.
        let bad_payload = matches!(
            error.kind(),
            ErrorKind::PeerUnreachable | ErrorKind::PayloadChecksumMismatch | ErrorKind::Cancelled
        );
        let nobody_below = !self.attempted || matches!(self.link, Link::Refused(_));
        !bad_payload && (!nobody_below || self.unknown)
    }

    fn lose(&mut self, error: Error, actions: &mut Vec<Action>) {
        // Not the store's own kind: that could read as a refusal, and those above would give it up.
        let why = "the target lost the update and leaves the chain";
        let lost = Error::new(ErrorKind::TargetNotServing, why).with("cause", &error);
        actions.push(Action::FailTarget(error));
        self.finish(Err(lost), actions);
    }

    /// Nobody at or below the successor has the update, unless an earlier try went unanswered.
    fn advance_refused(&mut self, actions: &mut Vec<Action>) {
        let Link::Refused(error) = &self.link else { return };
        let error = error.clone();
        match self.local {
            Local::Pending(_) if !self.unknown => {
                self.local = Local::Aborting;
                actions.push(Action::Abort);
            }
            Local::Applying { .. } | Local::Aborting | Local::Committing => {}
            _ => self.finish(Err(error), actions),
        }
    }

    fn advance_link(&mut self, standing: &Standing, actions: &mut Vec<Action>) {
        let next = standing.successor;
        let moved = |to: &ChainTarget| next.map(|next| next.target) != Some(to.target);
        match &self.link {
            Link::Running(to) if moved(to) => {
                actions.push(Action::CancelForward);
                self.unknown = true;
                self.link = Link::Idle;
            }
            Link::Done(to, _) if next.is_some() && moved(to) => self.link = Link::Idle,
            _ => {}
        }
        let (Link::Idle, Some(to), false) = (&self.link, next, self.paused || self.finished) else {
            return;
        };
        if let Some(form) = self.form(to) {
            self.attempted = true;
            self.link = Link::Running(to);
            actions.push(Action::Forward { to, chain_version: standing.chain_version, form });
        }
    }

    /// How the update can travel now; none while it must wait for our own store.
    fn form(&self, to: ChainTarget) -> Option<Form> {
        let stored = matches!(self.local, Local::Pending(_) | Local::Committed(_));
        let syncing = to.state == PublicState::Syncing;
        let as_it_came = syncing && planted(Mistake::PartialToSyncing);
        let replaces = (self.plan.replaces || syncing) && !as_it_came;
        let early = self.plan.has_payload && (stored || !self.plan.persist_first);
        match (replaces, self.plan.whole) {
            (false, _) if early => Some(Form::Delta),
            (true, true) if early => Some(Form::Whole),
            _ if stored => Some(Form::Image),
            _ => None,
        }
    }

    fn advance_commit(&mut self, standing: &Standing, actions: &mut Vec<Action>) {
        let (state, committed) = match &self.local {
            Local::Pending(state) => (*state, false),
            Local::Committed(state) => (*state, true),
            _ => return,
        };
        let below = match &self.link {
            Link::Done(_, below) => Some(*below),
            Link::Idle if standing.successor.is_none() => None,
            _ => return,
        };
        if self.finished {
            return;
        }
        if !standing.lease {
            actions.push(Action::RetryAfter(LEASE_POLL));
            return;
        }
        if let Some(below) = below {
            let newer = below.chain_version > standing.chain_version;
            if newer && !planted(Mistake::CommitBeforeRouting) {
                return; // Our own routing will catch up: RoutingChanged.
            }
            let compared =
                !planted(Mistake::PartialToSyncing) && !planted(Mistake::CommitBeforeRouting);
            if !agrees(&state, &below) && compared {
                if let Link::Done(to, _) = self.link {
                    self.heal(standing, to, actions);
                }
                return self.advance_link(standing, actions);
            }
        }
        let below = below.filter(|_| !planted(Mistake::CommitBeforeRouting));
        let chain_version = below.map_or(standing.chain_version, |below| below.chain_version);
        if committed {
            self.finish(Ok(reply(&state, chain_version)), actions);
        } else {
            self.local = Local::Committing;
            actions.push(Action::Commit { chain_version });
        }
    }
}

/// Whether the successor has the same chunk.
fn agrees(ours: &VersionState, below: &UpdateReply) -> bool {
    ours.version == below.version
        && (ours.removed || (ours.checksum == below.checksum && ours.len == below.len))
}
