//! What happens to an update once it has the chunk's lock: begin, adopt, roll forward, answer,
//! refuse.
//!
//! Why apart from `update`: this is one decision over what the replica has, without any waiting.
//! Invariants: the version that an update makes is decided here and nowhere else; a version number
//! that is pending is never given to another write; a cached success is returned, a cached failure
//! does not exist; an old duplicate never replaces something newer of the same chain version.

use super::role::Standing;
use super::space::Room;
use crate::store::{ChunkState, TOMBSTONE_AGE, VersionState};
use firepond_core::ids::{ChainVersion, ChunkId, ChunkVersion, WriteId};
use firepond_core::routing::PublicState;
use firepond_core::sys::clock::steady_unix_ns;
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::wire::storage::{SINCE_CONTEXT, UpdateKind, UpdateReply};
use firepond_core::{Error, ErrorKind, Result};
use std::time::Duration;

/// Where an update comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: we are the head and give the version.
    Client,
    /// The predecessor, which gives the version.
    Predecessor {
        /// The version.
        version: ChunkVersion,
        /// The update replaces whatever is here.
        full_chunk: bool,
    },
}

/// What identifies an update and decides over it.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The chunk.
    pub chunk: ChunkId,
    /// The write.
    pub write_id: WriteId,
    /// What is done.
    pub kind: UpdateKind,
    /// CRC32C of the payload.
    pub checksum: u32,
    /// A version of the chunk before which the write did not happen.
    pub since: ChunkVersion,
    /// Where it comes from.
    pub origin: Origin,
}

/// What to do with the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done already.
    Done(UpdateReply),
    /// Another update is pending: bring that to its end, then decide again.
    RollForward(VersionState),
    /// It is pending already: carry on with that.
    Adopt(VersionState),
    /// Begin it.
    Begin {
        /// The version that it makes.
        version: ChunkVersion,
        /// It replaces whatever is here.
        full_chunk: bool,
    },
}

/// The reply for a version that is committed here.
pub fn reply(state: &VersionState, chain_version: ChainVersion) -> UpdateReply {
    UpdateReply { version: state.version, chain_version, checksum: state.checksum, len: state.len }
}

/// Decides over an update that holds the chunk's lock.
///
/// # Errors
/// `ChunkExists`, `DiskFull`, `UpdateStale`, `UpdateGap`.
pub fn admit(
    standing: &Standing,
    facts: &Facts,
    state: Option<&ChunkState>,
    room: Room,
) -> Result<Verdict> {
    let verdict = match facts.origin {
        Origin::Client => admit_client(standing, facts, state)?,
        Origin::Predecessor { version, full_chunk } => {
            admit_forward(standing, facts, state, version, full_chunk)?
        }
    };
    if matches!(verdict, Verdict::Begin { .. }) && facts.kind.grows() && room == Room::Full {
        return Err(refuse(
            ErrorKind::DiskFull,
            "the disk has no room for the update",
            standing,
            facts,
        ));
    }
    Ok(verdict)
}

fn refuse(kind: ErrorKind, why: &str, standing: &Standing, facts: &Facts) -> Error {
    Error::new(kind, why)
        .with("chunk", facts.chunk)
        .with("target", standing.target)
        .with("write", facts.write_id)
}

fn admit_client(standing: &Standing, facts: &Facts, state: Option<&ChunkState>) -> Result<Verdict> {
    if let Some(pending) = state.and_then(|state| state.pending) {
        let same = pending.write_id == facts.write_id;
        return Ok(if same { Verdict::Adopt(pending) } else { Verdict::RollForward(pending) });
    }
    let committed = state.and_then(|state| state.committed);
    let exists = committed.is_some_and(|one| !one.removed);
    let version = committed.map_or(ChunkVersion(0), |one| one.version);
    if let Some(done) = recent(standing, facts, state, committed) {
        return Ok(Verdict::Done(UpdateReply { chain_version: standing.chain_version, ..done }));
    }
    if superseded(facts, state) {
        let why = "a later write of the same channel came first";
        return Err(refuse(ErrorKind::UpdateStale, why, standing, facts));
    }
    if is_unproven(facts, state) {
        let why = "the chunk forgot writes that this one may be among";
        let error = refuse(ErrorKind::UpdateUnproven, why, standing, facts);
        return Err(error.with(SINCE_CONTEXT, version.0));
    }
    match facts.kind {
        UpdateKind::Fence if follows(facts, state, committed) => {
            let why = "the write that the fence is for has happened";
            Err(refuse(ErrorKind::UpdateStale, why, standing, facts))
        }
        UpdateKind::Create if exists => {
            Err(refuse(ErrorKind::ChunkExists, "the chunk exists", standing, facts))
        }
        UpdateKind::PunchHole if !exists => Ok(Verdict::Done(UpdateReply {
            version,
            chain_version: standing.chain_version,
            checksum: 0,
            len: 0,
        })),
        // Also to remove nothing: it leaves a trace, so that a late repeat removes nothing newer.
        _ => Ok(Verdict::Begin { version: ChunkVersion(version.0 + 1), full_chunk: false }),
    }
}

/// The reply of a write that the chunk remembers. If others followed, only its version is known.
fn recent(
    standing: &Standing,
    facts: &Facts,
    state: Option<&ChunkState>,
    committed: Option<VersionState>,
) -> Option<UpdateReply> {
    let own = |one: &VersionState| one.chain_version == standing.chain_version;
    let committed = committed.filter(|one| own(one) || !planted(Mistake::RetryForgotten))?;
    if committed.write_id == facts.write_id {
        return Some(reply(&committed, committed.chain_version));
    }
    let known = state?.recent_writes.iter().find(|one| one.write_id == facts.write_id)?;
    let done = known.version <= committed.version;
    done.then_some(UpdateReply {
        version: known.version,
        chain_version: committed.chain_version,
        checksum: 0,
        len: 0,
    })
}

/// The chunk does not know the channel of the write but has forgotten channels, and the write may
/// be as old as those: perhaps it happened. A sender that is sure that it did not says since when.
fn is_unproven(facts: &Facts, state: Option<&ChunkState>) -> bool {
    let Some(state) = state.filter(|state| facts.since < state.forgotten) else { return false };
    let channel = |id: &WriteId| (id.client, id.channel);
    let mut recent = state.recent_writes.iter();
    !recent.any(|one| channel(&one.write_id) == channel(&facts.write_id))
}

/// A late duplicate: its channel has moved on since.
fn superseded(facts: &Facts, state: Option<&ChunkState>) -> bool {
    let mut recent = state.into_iter().flat_map(|state| &state.recent_writes);
    recent.any(|one| {
        one.write_id.client == facts.write_id.client
            && one.write_id.channel == facts.write_id.channel
            && one.write_id.sequence > facts.write_id.sequence
    })
}

/// Whether the chunk remembers the write of the same channel just before this one.
fn follows(facts: &Facts, state: Option<&ChunkState>, committed: Option<VersionState>) -> bool {
    let sequence = facts.write_id.sequence.wrapping_sub(1);
    let before = WriteId { sequence, ..facts.write_id };
    let mut recent = state.into_iter().flat_map(|state| &state.recent_writes);
    committed.is_some_and(|one| one.write_id == before) || recent.any(|one| one.write_id == before)
}

fn admit_forward(
    standing: &Standing,
    facts: &Facts,
    state: Option<&ChunkState>,
    version: ChunkVersion,
    full_chunk: bool,
) -> Result<Verdict> {
    let begin = Ok(Verdict::Begin { version, full_chunk });
    let same = |one: &VersionState| {
        let whole = full_chunk && !one.removed && facts.kind != UpdateKind::Remove;
        one.version == version
            && one.write_id == facts.write_id
            && (!whole || one.checksum == facts.checksum || planted(Mistake::PartialToSyncing))
    };
    let stale = || {
        let why = "the replica has a newer version";
        Err(refuse(ErrorKind::UpdateStale, why, standing, facts).with("version", version))
    };
    let updated_ns = state.map_or(0, |state| state.updated_ns);
    let newer_now = |one: &VersionState| {
        let counts = one.version > version && one.chain_version == standing.chain_version;
        counts && !is_forgotten(one, updated_ns)
    };
    let committed = state.and_then(|state| state.committed);
    if let Some(pending) = state.and_then(|state| state.pending) {
        if same(&pending) {
            return Ok(Verdict::Adopt(pending));
        }
        match (full_chunk, pending.version.cmp(&version)) {
            (true, _) if newer_now(&pending) => return stale(),
            // Also if the committed version is the sent one: what is pending has to go.
            (true, _) => return begin,
            (false, std::cmp::Ordering::Less) => return Ok(Verdict::RollForward(pending)),
            (false, std::cmp::Ordering::Equal) => return gap(standing, facts, version),
            (false, std::cmp::Ordering::Greater) => return stale(),
        }
    }
    let current = committed.map_or(ChunkVersion(0), |one| one.version);
    match committed {
        Some(one) if same(&one) => Ok(Verdict::Done(reply(&one, standing.chain_version))),
        Some(one) if full_chunk && newer_now(&one) => stale(),
        _ if full_chunk => begin,
        _ if version.0 == current.0 + 1 => begin,
        _ if version > current => gap(standing, facts, version),
        _ => stale(),
    }
}

/// A removal that the predecessor may not know of: it was made by a resync for a chunk that the
/// chain does not have, or is so old that the predecessor may have purged its own. The chunk's
/// versions may begin anew there.
fn is_forgotten(one: &VersionState, updated_ns: u64) -> bool {
    let age = Duration::from_nanos(steady_unix_ns().saturating_sub(updated_ns));
    one.removed && (one.write_id == WriteId::default() || age >= TOMBSTONE_AGE / 2)
}

fn gap(standing: &Standing, facts: &Facts, version: ChunkVersion) -> Result<Verdict> {
    if planted(Mistake::PartialToSyncing) && standing.state == Some(PublicState::Syncing) {
        return Ok(Verdict::Begin { version, full_chunk: false });
    }
    let why = "the replica lacks an earlier update, or has another one under this version";
    Err(refuse(ErrorKind::UpdateGap, why, standing, facts).with("version", version))
}

#[cfg(test)]
mod tests {
    use super::super::role::tests::standing;
    use super::*;
    use firepond_core::ids::{ChangeStamp, ChunkIndex, ClientId, InodeId};
    use firepond_core::routing::PublicState::Serving;
    use firepond_core::wire::storage::RecentWrite;

    fn write_id(sequence: u64) -> WriteId {
        WriteId { client: ClientId(7), channel: 0, sequence }
    }

    fn made(version: u64, sequence: u64) -> VersionState {
        VersionState {
            version: ChunkVersion(version),
            chain_version: ChainVersion(4),
            write_id: write_id(sequence),
            len: 10,
            checksum: sequence as u32,
            removed: false,
        }
    }

    fn chunk_state(committed: Option<VersionState>, pending: Option<VersionState>) -> ChunkState {
        let recent_writes = committed
            .map(|one| RecentWrite { write_id: one.write_id, version: one.version })
            .into_iter()
            .collect();
        let (tag, updated_ns, stamp) = ([0; 32], 0, ChangeStamp(0));
        let forgotten = ChunkVersion(0);
        ChunkState { committed, pending, recent_writes, forgotten, tag, updated_ns, stamp }
    }

    fn facts(origin: Origin, sequence: u64, kind: UpdateKind) -> Facts {
        Facts {
            chunk: ChunkId::file(InodeId(1), ChunkIndex(0)),
            write_id: write_id(sequence),
            kind,
            checksum: sequence as u32,
            since: ChunkVersion(0),
            origin,
        }
    }

    fn decide(facts: &Facts, state: Option<&ChunkState>) -> Result<Verdict> {
        let standing = standing(4, &[(1, Serving), (2, Serving)], 1);
        admit(&standing, facts, state, Room::Ample)
    }

    fn begin(version: u64, full_chunk: bool) -> Verdict {
        Verdict::Begin { version: ChunkVersion(version), full_chunk }
    }

    /// Goal: the head's decision in every state. Oracle: the rows.
    #[test]
    fn client_rows() {
        let write = |sequence| facts(Origin::Client, sequence, UpdateKind::Write);
        let committed = chunk_state(Some(made(3, 5)), None);
        let dirty = chunk_state(Some(made(3, 5)), Some(made(4, 6)));
        let other = |mut facts: Facts| {
            facts.write_id.channel = 1;
            facts
        };
        assert_eq!(decide(&write(1), None).expect("first"), begin(1, false));
        assert_eq!(decide(&write(6), Some(&committed)).expect("next"), begin(4, false));
        let done = decide(&write(5), Some(&committed)).expect("retry");
        assert_eq!(done, Verdict::Done(reply(&made(3, 5), ChainVersion(4))));
        let adopted = decide(&write(6), Some(&dirty)).expect("retry of the pending one");
        assert_eq!(adopted, Verdict::Adopt(made(4, 6)));
        let foreign = decide(&other(write(1)), Some(&dirty)).expect("another write");
        assert_eq!(foreign, Verdict::RollForward(made(4, 6)));
        let late = decide(&write(4), Some(&committed)).expect_err("late duplicate");
        assert_eq!(late.kind(), ErrorKind::UpdateStale);
        let create = other(facts(Origin::Client, 9, UpdateKind::Create));
        let error = decide(&create, Some(&committed)).expect_err("exists");
        assert_eq!(error.kind(), ErrorKind::ChunkExists);
    }

    /// Goal: removing nothing leaves a trace, and after a removal versions go on. Oracle: the rows.
    #[test]
    fn removal_rows() {
        let remove = facts(Origin::Client, 9, UpdateKind::Remove);
        assert_eq!(decide(&remove, None).expect("fine when absent"), begin(1, false));
        let tombstone = VersionState { removed: true, len: 0, ..made(3, 5) };
        let state = chunk_state(Some(tombstone), None);
        let create = facts(Origin::Client, 9, UpdateKind::Create);
        assert_eq!(decide(&create, Some(&state)).expect("gone"), begin(4, false));
    }

    /// Goal: a fence is refused if the write before it happened, begins if not, whether or not the
    /// chunk exists, and from then on that write is late. Oracle: the rows.
    #[test]
    fn fence_rows() {
        let fence = |sequence| facts(Origin::Client, sequence, UpdateKind::Fence);
        let create = |sequence| facts(Origin::Client, sequence, UpdateKind::Create);
        let happened = chunk_state(Some(made(3, 5)), None);
        let error = decide(&fence(6), Some(&happened)).expect_err("it happened");
        assert_eq!(error.kind(), ErrorKind::UpdateStale);
        assert_eq!(decide(&fence(7), Some(&happened)).expect("it did not"), begin(4, false));
        assert_eq!(decide(&fence(6), None).expect("nothing is there"), begin(1, false));
        let fenced = chunk_state(Some(VersionState { removed: true, ..made(1, 6) }), None);
        assert!(matches!(decide(&fence(6), Some(&fenced)), Ok(Verdict::Done(_))), "its retry");
        let late = decide(&create(5), Some(&fenced)).expect_err("the fenced write");
        assert_eq!(late.kind(), ErrorKind::UpdateStale);
    }

    /// Goal: a chunk that forgot channels takes an unknown one only from a sender that is sure
    /// since a version which is not older than those. Oracle: the rows.
    #[test]
    fn forgotten_channels() {
        let mut state = chunk_state(Some(made(9, 5)), None);
        state.forgotten = ChunkVersion(6);
        let mut write = facts(Origin::Client, 1, UpdateKind::Write);
        write.write_id.channel = 77;
        for (since, expected) in [(0, None), (5, None), (6, Some(begin(10, false)))] {
            write.since = ChunkVersion(since);
            match decide(&write, Some(&state)) {
                Ok(found) => assert_eq!(Some(found), expected, "since {since}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::UpdateUnproven);
                    assert_eq!(expected, None, "since {since}");
                    let version = error.context().iter().find(|one| one.0 == SINCE_CONTEXT);
                    assert_eq!(version.map(|one| one.1.as_str()), Some("9"));
                }
            }
        }
        let known = facts(Origin::Client, 6, UpdateKind::Write);
        assert_eq!(decide(&known, Some(&state)).expect("its channel is known"), begin(10, false));
    }

    /// Goal: a follower's decision in every state. Oracle: the rows.
    #[test]
    fn forward_rows() {
        let forward = |version, sequence, full_chunk| {
            let origin = Origin::Predecessor { version: ChunkVersion(version), full_chunk };
            facts(origin, sequence, UpdateKind::Replace)
        };
        let committed = chunk_state(Some(made(3, 5)), None);
        let dirty = chunk_state(Some(made(3, 5)), Some(made(4, 6)));
        let ok = |facts: Facts, state| decide(&facts, state).expect("admitted");
        let kind = |facts: Facts, state| decide(&facts, state).expect_err("refused").kind();
        assert_eq!(ok(forward(1, 1, false), None), begin(1, false));
        assert_eq!(ok(forward(4, 6, false), Some(&committed)), begin(4, false));
        assert_eq!(kind(forward(5, 7, false), Some(&committed)), ErrorKind::UpdateGap);
        assert_eq!(kind(forward(3, 9, false), Some(&committed)), ErrorKind::UpdateStale);
        assert_eq!(kind(forward(2, 3, true), Some(&committed)), ErrorKind::UpdateStale);
        assert_eq!(ok(forward(9, 9, true), Some(&committed)), begin(9, true));
        assert_eq!(ok(forward(4, 6, false), Some(&dirty)), Verdict::Adopt(made(4, 6)));
        assert_eq!(ok(forward(5, 7, false), Some(&dirty)), Verdict::RollForward(made(4, 6)));
        assert_eq!(kind(forward(4, 9, false), Some(&dirty)), ErrorKind::UpdateGap);
        assert_eq!(ok(forward(4, 9, true), Some(&dirty)), begin(4, true));
        let old = VersionState { chain_version: ChainVersion(3), ..made(4, 6) };
        let leftover = chunk_state(Some(made(3, 5)), Some(old));
        assert_eq!(ok(forward(3, 5, true), Some(&leftover)), begin(3, true));
        let done = ok(forward(3, 5, false), Some(&committed));
        assert_eq!(done, Verdict::Done(reply(&made(3, 5), ChainVersion(4))));
    }

    /// Goal: a late whole chunk does not undo a removal, but one of a chunk that begins anew does.
    /// Oracle: the rows.
    #[test]
    fn whole_chunks_and_removals() {
        let origin = Origin::Predecessor { version: ChunkVersion(2), full_chunk: true };
        let replace = facts(origin, 1, UpdateKind::Replace);
        let removed = VersionState { removed: true, len: 0, ..made(8, 5) };
        let fresh =
            |one| ChunkState { updated_ns: steady_unix_ns(), ..chunk_state(Some(one), None) };
        let late =
            decide(&replace, Some(&fresh(removed))).expect_err("the chunk was removed since");
        assert_eq!(late.kind(), ErrorKind::UpdateStale);
        let by_resync = VersionState { write_id: WriteId::default(), ..removed };
        assert_eq!(decide(&replace, Some(&fresh(by_resync))).expect("new"), begin(2, true));
        let old = chunk_state(Some(removed), None);
        assert_eq!(decide(&replace, Some(&old)).expect("forgotten"), begin(2, true));
    }

    /// Goal: a chunk of an earlier chain version is replaced whatever its number, and one whose
    /// bytes differ under the same write is healed. Oracle: the rows.
    #[test]
    fn full_chunks_heal() {
        let origin = Origin::Predecessor { version: ChunkVersion(2), full_chunk: true };
        let old = VersionState { chain_version: ChainVersion(3), ..made(8, 5) };
        let replaced =
            decide(&facts(origin, 1, UpdateKind::Replace), Some(&chunk_state(Some(old), None)));
        assert_eq!(replaced.expect("replaced"), begin(2, true));
        let rotten = VersionState { checksum: 999, ..made(2, 5) };
        let healed =
            decide(&facts(origin, 5, UpdateKind::Replace), Some(&chunk_state(Some(rotten), None)));
        assert_eq!(healed.expect("healed"), begin(2, true));
    }

    /// Goal: a full disk refuses what grows, and nothing else. Oracle: kinds.
    #[test]
    fn full_disk_rows() {
        let standing = standing(4, &[(1, Serving)], 1);
        let committed = chunk_state(Some(made(3, 5)), None);
        let write = facts(Origin::Client, 6, UpdateKind::Write);
        let error = admit(&standing, &write, Some(&committed), Room::Full).expect_err("full");
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        let remove = facts(Origin::Client, 6, UpdateKind::Remove);
        assert!(admit(&standing, &remove, Some(&committed), Room::Full).is_ok());
        let retry = facts(Origin::Client, 5, UpdateKind::Write);
        assert!(admit(&standing, &retry, Some(&committed), Room::Full).is_ok());
    }
}
