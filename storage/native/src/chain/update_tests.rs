//! The update machine, event by event. Oracle throughout: the rules in the head of `update`.

use super::role::{Standing, tests::standing};
use super::update::{Action, Event, Plan, Update};
use crate::store::VersionState;
use firepond_core::ids::{ChainVersion, ChangeStamp, ChunkVersion, TargetId, WriteId};
use firepond_core::routing::PublicState::{self, Offline, Serving, Syncing};
use firepond_core::wire::storage::UpdateReply;
use firepond_core::{Error, ErrorKind};

const CHAIN: [(u64, PublicState); 2] = [(1, Serving), (2, Serving)];

fn plan() -> Plan {
    Plan {
        version: ChunkVersion(4),
        stamp: ChangeStamp::new(ChainVersion(7), 1),
        whole: false,
        replaces: false,
        has_payload: true,
        persist_first: false,
    }
}

fn made(checksum: u32) -> VersionState {
    VersionState {
        version: ChunkVersion(4),
        chain_version: ChainVersion(7),
        write_id: WriteId::default(),
        len: 10,
        checksum,
        removed: false,
    }
}

fn below(chain_version: u32, checksum: u32) -> UpdateReply {
    UpdateReply {
        version: ChunkVersion(4),
        chain_version: ChainVersion(chain_version),
        checksum,
        len: 10,
    }
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "injected")
}

/// The actions of one step in short: "apply", "apply+commit", "forward 2@7 Delta", ...
fn step(update: &mut Update, standing: &Standing, event: Event) -> Vec<String> {
    let short = |action: Action| match action {
        Action::Apply { commit, .. } => (if commit { "apply+commit" } else { "apply" }).into(),
        Action::Forward { to, chain_version, form } => {
            format!("forward {}@{} {form:?}", to.target.0, chain_version.0)
        }
        Action::CancelForward => "cancel".into(),
        Action::Commit { chain_version } => format!("commit@{}", chain_version.0),
        Action::Abort => "abort".into(),
        Action::RetryAfter(_) => "pause".into(),
        Action::FailTarget(_) => "fail target".into(),
        Action::Expel { to, chain_version, full } => {
            format!("expel {}@{}{}", to.target.0, chain_version.0, if full { " full" } else { "" })
        }
        Action::Finish(Ok(reply)) => format!("ack@{}", reply.chain_version.0),
        Action::Finish(Err(error)) => format!("error {}", error.kind().name()),
    };
    update.step(standing, event).into_iter().map(short).collect()
}

fn head(version: u32) -> Standing {
    standing(version, &CHAIN, 1)
}

fn without_lease(mut standing: Standing) -> Standing {
    standing.lease = false;
    standing
}

/// Goal: store and forward at once, commit after both, under the successor's chain version.
#[test]
fn cut_through_then_commit() {
    for forward_first in [true, false] {
        let mut update = Update::new(plan());
        let begun = step(&mut update, &head(7), Event::Started);
        assert_eq!(begun, ["apply", "forward 2@7 Delta"]);
        let events = if forward_first {
            [Event::Forwarded(Ok(below(7, 1))), Event::Applied(Ok(made(1)))]
        } else {
            [Event::Applied(Ok(made(1))), Event::Forwarded(Ok(below(7, 1)))]
        };
        let [first, second] = events;
        assert!(step(&mut update, &head(7), first).is_empty());
        assert_eq!(step(&mut update, &head(7), second), ["commit@7"]);
        assert_eq!(step(&mut update, &head(7), Event::Committed(Ok(made(1)))), ["ack@7"]);
    }
}

/// Goal: the tail commits at once and acknowledges, but never without lease or after its demotion.
#[test]
fn tail_acknowledges_only_in_office() {
    let tail = standing(7, &CHAIN, 2);
    let mut update = Update::new(plan());
    assert_eq!(step(&mut update, &tail, Event::Started), ["apply+commit"]);
    let waiting = step(&mut update, &without_lease(tail.clone()), Event::Applied(Ok(made(1))));
    assert_eq!(waiting, ["pause"]);
    let demoted = standing(8, &[(1, Serving), (2, Offline)], 2);
    let ended = step(&mut update, &demoted, Event::RetryDue);
    assert_eq!(ended, ["error target_not_serving"]);
}

/// Goal: a demoted head never acknowledges, although the successor did.
#[test]
fn demoted_head_never_acknowledges() {
    let mut update = Update::new(plan());
    step(&mut update, &head(7), Event::Started);
    step(&mut update, &head(7), Event::Applied(Ok(made(1))));
    let demoted = standing(8, &[(2, Serving), (1, Offline)], 1);
    let ended = step(&mut update, &demoted, Event::Forwarded(Ok(below(8, 1))));
    assert_eq!(ended, ["error target_not_serving"]);
}

/// Goal: each try goes to the successor of its moment under the version of its moment; a dead
/// successor is left, and the last one commits as the tail.
#[test]
fn forwards_follow_the_routing() {
    let three = [(1, Serving), (2, Serving), (3, Serving)];
    let mut update = Update::new(plan());
    let first = standing(7, &three, 1);
    assert_eq!(step(&mut update, &first, Event::Started), ["apply", "forward 2@7 Delta"]);
    step(&mut update, &first, Event::Applied(Ok(made(1))));
    let lost = Event::Forwarded(Err(error(ErrorKind::PeerUnreachable)));
    assert_eq!(step(&mut update, &first, lost), ["pause"]);
    let second = standing(8, &[(1, Serving), (3, Serving), (2, Offline)], 1);
    let moved = step(&mut update, &second, Event::RoutingChanged);
    assert_eq!(moved, ["forward 3@8 Delta"]);
    let alone = standing(9, &[(1, Serving), (3, Offline), (2, Offline)], 1);
    assert_eq!(step(&mut update, &alone, Event::RoutingChanged), ["cancel", "commit@9"]);
    assert_eq!(step(&mut update, &alone, Event::Committed(Ok(made(1)))), ["ack@9"]);
}

/// Goal: a commit below under a newer chain version waits for our routing.
#[test]
fn newer_chain_version_is_awaited() {
    let mut update = Update::new(plan());
    step(&mut update, &head(7), Event::Started);
    step(&mut update, &head(7), Event::Applied(Ok(made(1))));
    assert!(step(&mut update, &head(7), Event::Forwarded(Ok(below(8, 1)))).is_empty());
    assert_eq!(step(&mut update, &head(8), Event::RoutingChanged), ["commit@8"]);
}

/// Goal: gaps, stale numbers and different bytes are healed by the whole chunk, a few times.
#[test]
fn disagreement_is_healed_by_the_whole_chunk() {
    for kind in [ErrorKind::UpdateGap, ErrorKind::UpdateStale] {
        let mut update = Update::new(plan());
        step(&mut update, &head(7), Event::Started);
        assert!(step(&mut update, &head(7), Event::Forwarded(Err(error(kind)))).is_empty());
        let healing = step(&mut update, &head(7), Event::Applied(Ok(made(1))));
        assert_eq!(healing, ["forward 2@7 Image"]);
        let again = step(&mut update, &head(7), Event::Forwarded(Ok(below(7, 2))));
        assert_eq!(again, ["forward 2@7 Image"]);
        assert_eq!(step(&mut update, &head(7), Event::Forwarded(Ok(below(7, 1)))), ["commit@7"]);
    }
}

/// Goal: a syncing successor gets whole chunks only: images of partial updates, whole updates as
/// is.
#[test]
fn syncing_successor_gets_whole_chunks() {
    let chain = [(1, Serving), (2, Syncing)];
    let head = standing(7, &chain, 1);
    let mut partial = Update::new(plan());
    assert_eq!(step(&mut partial, &head, Event::Started), ["apply"]);
    let stored = step(&mut partial, &head, Event::Applied(Ok(made(1))));
    assert_eq!(stored, ["forward 2@7 Image"]);
    let mut whole = Update::new(Plan { whole: true, ..plan() });
    assert_eq!(step(&mut whole, &head, Event::Started), ["apply", "forward 2@7 Whole"]);
}

/// Goal: a successor that appears while the tail commits gets the update before the
/// acknowledgement.
#[test]
fn late_successor_is_served_before_the_acknowledgement() {
    let alone = standing(7, &[(1, Serving)], 1);
    let joined = standing(8, &[(1, Serving), (2, Syncing)], 1);
    let mut update = Update::new(plan());
    assert_eq!(step(&mut update, &alone, Event::Started), ["apply+commit"]);
    let stored = step(&mut update, &joined, Event::Applied(Ok(made(1))));
    assert_eq!(stored, ["forward 2@8 Image"]);
}

/// Goal: a refusal below drops the pending version, unless a try went unanswered before.
#[test]
fn refusals_are_agreed() {
    let refusal = || Event::Forwarded(Err(error(ErrorKind::DiskFull)));
    let mut update = Update::new(plan());
    step(&mut update, &head(7), Event::Started);
    assert!(step(&mut update, &head(7), refusal()).is_empty(), "waits for our own store");
    assert_eq!(step(&mut update, &head(7), Event::Applied(Ok(made(1)))), ["abort"]);
    assert_eq!(step(&mut update, &head(7), Event::Aborted(Ok(()))), ["error disk_full"]);

    let mut doubtful = Update::new(plan());
    step(&mut doubtful, &head(7), Event::Started);
    step(&mut doubtful, &head(7), Event::Applied(Ok(made(1))));
    step(&mut doubtful, &head(7), Event::Forwarded(Err(error(ErrorKind::PeerUnreachable))));
    assert_eq!(step(&mut doubtful, &head(7), Event::RetryDue), ["forward 2@7 Delta"]);
    assert_eq!(step(&mut doubtful, &head(7), refusal()), ["error disk_full"]);
}

/// Goal: a store that fails after others took the update takes its target out; before, it does not.
#[test]
fn lost_updates_take_the_target_out() {
    let broken = || Event::Applied(Err(error(ErrorKind::IoFailed)));
    let mut update = Update::new(plan());
    step(&mut update, &head(7), Event::Started);
    assert!(step(&mut update, &head(7), broken()).is_empty(), "the successor's answer decides");
    let ended = step(&mut update, &head(7), Event::Forwarded(Ok(below(7, 1))));
    assert_eq!(ended, ["fail target", "error target_not_serving"], "no refusal");

    let mut careful = Update::new(Plan { persist_first: true, ..plan() });
    assert_eq!(step(&mut careful, &head(7), Event::Started), ["apply"]);
    assert_eq!(step(&mut careful, &head(7), broken()), ["error io_failed"]);
}

/// Goal: a client that died in the middle harms nothing. Method: the payload ends early.
#[test]
fn broken_payload_is_clean() {
    let mut update = Update::new(plan());
    step(&mut update, &head(7), Event::Started);
    let broken = Event::Applied(Err(error(ErrorKind::PeerUnreachable)));
    assert_eq!(step(&mut update, &head(7), broken), ["cancel", "error peer_unreachable"]);
}

/// Goal: a pending version from before is rolled forward as a whole chunk and never dropped.
#[test]
fn adopted_updates_roll_forward() {
    let roll = Plan { has_payload: false, replaces: true, ..plan() };
    let mut update = Update::adopt(roll, made(1));
    assert_eq!(step(&mut update, &head(7), Event::Started), ["forward 2@7 Image"]);
    let refusal = Event::Forwarded(Err(error(ErrorKind::DiskFull)));
    assert_eq!(step(&mut update, &head(7), refusal), ["error disk_full"]);
    let mut tail = Update::adopt(roll, made(1));
    assert_eq!(step(&mut tail, &standing(9, &[(2, Serving)], 2), Event::Started), ["commit@9"]);
    assert_eq!(TargetId(2), standing(9, &[(2, Serving)], 2).target);
}

/// Goal: whoever waits too long leaves the pending version to a later roll-forward.
#[test]
fn patience_ends() {
    let mut update = Update::new(plan());
    step(&mut update, &head(7), Event::Started);
    step(&mut update, &head(7), Event::Applied(Ok(made(1))));
    assert_eq!(step(&mut update, &head(7), Event::Tired), ["cancel", "error chunk_busy"]);
    assert!(step(&mut update, &head(7), Event::Forwarded(Ok(below(7, 1)))).is_empty());
}

/// Goal: a successor that stays different, or is syncing and full, leaves the chain; the update
/// goes on without it and nobody else gives up. Oracle: the actions.
#[test]
fn successors_that_cannot_follow_leave() {
    let mut update = Update::new(plan());
    step(&mut update, &head(7), Event::Started);
    step(&mut update, &head(7), Event::Applied(Ok(made(1))));
    for _ in 0..3 {
        let healing = step(&mut update, &head(7), Event::Forwarded(Ok(below(7, 2))));
        assert_eq!(healing, ["forward 2@7 Image"]);
    }
    let given_up = step(&mut update, &head(7), Event::Forwarded(Ok(below(7, 2))));
    assert_eq!(given_up, ["expel 2@7", "pause"]);
    let alone = standing(8, &[(1, Serving), (2, Offline)], 1);
    assert_eq!(step(&mut update, &alone, Event::RoutingChanged), ["commit@8"]);

    let feeding = standing(7, &[(1, Serving), (2, Syncing)], 1);
    let mut update = Update::new(plan());
    step(&mut update, &feeding, Event::Started);
    step(&mut update, &feeding, Event::Applied(Ok(made(1))));
    let full = Event::Forwarded(Err(error(ErrorKind::DiskFull)));
    assert_eq!(step(&mut update, &feeding, full), ["expel 2@7 full", "pause"]);
    assert_eq!(step(&mut update, &alone, Event::RoutingChanged), ["commit@8"]);
}

/// Goal: a target whose pending version rotted leaves the chain while another one serves; the last
/// one drops it if nobody has it, and waits otherwise (seed 13885). Oracle: the actions.
#[test]
fn pending_versions_that_rotted() {
    let roll = Plan { has_payload: false, replaces: true, ..plan() };
    let rotten = |nowhere| {
        let error = error(ErrorKind::ChunkChecksumMismatch);
        Event::Unreadable { error, nowhere }
    };
    for nowhere in [false, true] {
        let mut update = Update::adopt(roll, made(1));
        step(&mut update, &head(7), Event::Started);
        let lost = step(&mut update, &head(7), rotten(nowhere));
        assert_eq!(lost, ["fail target", "error target_not_serving"]);
    }
    let feeding = standing(7, &[(1, Serving), (2, Syncing)], 1);
    let mut update = Update::adopt(roll, made(1));
    step(&mut update, &feeding, Event::Started);
    assert_eq!(step(&mut update, &feeding, rotten(false)), ["pause"]);
    assert_eq!(step(&mut update, &feeding, Event::RetryDue), ["forward 2@7 Image"]);
    assert_eq!(step(&mut update, &feeding, rotten(true)), ["abort"]);
    assert_eq!(step(&mut update, &feeding, Event::Aborted(Ok(()))), ["error chunk_busy"]);
}
