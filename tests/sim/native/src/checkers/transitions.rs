//! No chain changes its state without a row in the manager's transition table, as seen from the
//! routing that was published, whatever the manager believed.
//!
//! `ALLOWED` is what the rows of `fs/manager/transitions.py` allow, without the reasons that only
//! the manager knows; a test in Python compares the two.

use firepond_core::ids::{ChainId, RoutingVersion};
use firepond_core::routing::{ChainInfo, PublicState, Routing};
use std::collections::BTreeMap;
use std::sync::Arc;

use PublicState::{LastServing, Offline, Serving, Syncing, Waiting};

/// Every change of a member's public state that some row of the table makes.
pub const ALLOWED: [(PublicState, PublicState); 18] = [
    (Serving, LastServing),
    (Serving, Offline),
    (LastServing, Serving),
    (LastServing, Syncing),
    (LastServing, Waiting),
    (LastServing, Offline),
    (Syncing, Serving),
    (Syncing, LastServing),
    (Syncing, Waiting),
    (Syncing, Offline),
    (Waiting, Serving),
    (Waiting, LastServing),
    (Waiting, Syncing),
    (Waiting, Offline),
    (Offline, Serving),
    (Offline, LastServing),
    (Offline, Syncing),
    (Offline, Waiting),
];

/// Which change has no row.
pub fn check(routings: &[Arc<Routing>]) -> Result<(), String> {
    let mut chains: BTreeMap<ChainId, ChainInfo> = BTreeMap::new();
    let mut version: Option<RoutingVersion> = None;
    for routing in routings {
        if version.is_some_and(|before| routing.version <= before) {
            return Err(format!("{} was published after {version:?}", routing.version));
        }
        // Whoever fetches routing may get several versions at once, each with a step of the chain.
        let steps = version.map_or(1, |before| routing.version.0 - before.0);
        version = Some(routing.version);
        for chain in &routing.chains {
            if let Some(before) = chains.get(&chain.id) {
                check_change(before, chain, steps)
                    .map_err(|what| format!("{}, {}: {what}", routing.version, chain.id))?;
            }
            check_shape(chain).map_err(|what| format!("{}: {what}", chain.id))?;
            chains.insert(chain.id, chain.clone());
        }
    }
    Ok(())
}

fn check_shape(chain: &ChainInfo) -> Result<(), String> {
    let syncing = chain.targets.iter().filter(|one| one.state == Syncing).count();
    let rank = |state| match state {
        Serving => 0,
        LastServing => 1,
        Syncing => 2,
        Waiting => 3,
        Offline => 4,
    };
    let sorted = chain.targets.is_sorted_by_key(|one| rank(one.state));
    if syncing > 1 || !sorted {
        return Err(format!("{syncing} targets sync, in order: {sorted}: {:?}", chain.targets));
    }
    Ok(())
}

fn check_change(before: &ChainInfo, after: &ChainInfo, steps: u64) -> Result<(), String> {
    let (from, to) = (u64::from(before.version.0), u64::from(after.version.0));
    let unseen = (from + 2..=from + steps).contains(&to);
    if before.targets == after.targets {
        // Back to where it was takes two steps.
        return match to == from || unseen {
            true => Ok(()),
            false => Err("a new version without a change".to_owned()),
        };
    }
    if unseen {
        return Ok(());
    }
    if to != from + 1 {
        return Err(format!("{} follows {}", after.version, before.version));
    }
    let serves = |chain: &ChainInfo, target| {
        chain.member(target).is_some_and(|member| member.state == Serving)
    };
    let goes_on = after.serving().any(|one| serves(before, one.target));
    for target in &after.targets {
        let Some(old) = before.member(target.target) else { continue };
        if old.state == target.state {
            continue;
        }
        let change = format!("{}: {:?} to {:?}", target.target, old.state, target.state);
        if !ALLOWED.contains(&(old.state, target.state)) {
            return Err(format!("{change} has no row"));
        }
        let elected = matches!(old.state, Waiting | Offline) && target.state == Serving;
        if elected && goes_on {
            return Err(format!("{change}: elected although another target serves"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::{ChainVersion, NodeId, TargetId};
    use firepond_core::routing::{ChainTarget, Durability};

    /// Routings of one chain, with so many versions between two that were seen.
    fn routings(apart: u64, steps: &[(u32, &[PublicState])]) -> Vec<Arc<Routing>> {
        let step = |(at, (version, states)): (usize, &(u32, &[PublicState]))| {
            let target = |(id, state): (usize, &PublicState)| ChainTarget {
                target: TargetId(id as u64),
                node: NodeId(id as u32),
                state: *state,
            };
            let mut routing = Routing::default();
            routing.version = RoutingVersion((at as u64 + 1) * apart);
            routing.chains.push(ChainInfo {
                id: ChainId(1),
                version: ChainVersion(*version),
                durability: Durability::Durable,
                targets: states.iter().enumerate().map(target).collect(),
            });
            Arc::new(routing)
        };
        steps.iter().enumerate().map(step).collect()
    }

    /// Goal: changes without a row are found. Oracle: the rows below.
    #[test]
    fn finds_changes_without_a_row() {
        let ok = |steps: &[(u32, &[PublicState])]| check(&routings(1, steps)).is_ok();
        assert!(ok(&[(1, &[Offline, Offline]), (2, &[Serving, Serving])]), "its birth");
        assert!(ok(&[(1, &[Serving, Serving]), (2, &[Serving, Offline])]));
        assert!(!ok(&[(1, &[Serving, Serving]), (2, &[Serving, Waiting])]), "no row");
        assert!(!ok(&[(1, &[Serving, Serving]), (3, &[Serving, Offline])]), "a version is missing");
        assert!(!ok(&[(1, &[Serving]), (2, &[Serving])]), "a version without a change");
        assert!(!ok(&[(1, &[Serving, Offline]), (2, &[Serving, Serving])]), "elected beside it");
        assert!(!ok(&[(1, &[Syncing, Serving])]), "out of order");
    }

    /// Goal: versions that nobody saw may hide steps, one each at most. Oracle: the rows below.
    #[test]
    fn finds_too_many_steps() {
        let ok = |apart, steps: &[(u32, &[PublicState])]| check(&routings(apart, steps)).is_ok();
        assert!(ok(2, &[(1, &[Serving]), (3, &[Serving])]), "away and back");
        assert!(!ok(2, &[(1, &[Serving]), (2, &[Serving])]), "one step changes something");
        assert!(!ok(2, &[(1, &[Serving]), (4, &[Serving])]), "three steps in two versions");
        assert!(ok(2, &[(1, &[Serving, Serving]), (3, &[Serving, Waiting])]));
        assert!(!ok(2, &[(1, &[Serving, Serving]), (2, &[Serving, Waiting])]), "no row");
        assert!(!ok(2, &[(1, &[Serving, Serving]), (4, &[Serving, Offline])]), "three in two");
        assert!(!ok(2, &[(2, &[Serving, Serving]), (1, &[Serving, Offline])]), "it went back");
    }
}
