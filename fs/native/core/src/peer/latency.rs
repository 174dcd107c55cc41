//! How long the nodes take to answer reads, as this process sees it, and what follows from that:
//! when a read is asked of a second replica, and which nodes are asked less.
//!
//! Why one delay for all nodes, from the middle one: a node that is always slow must not set its
//! own standard; if all are slow, the delay grows with them and nothing is asked twice.
//! Invariants: at most `HEDGE_SHARE` of the requests, and a small burst, are asked twice, whatever
//! happens; an avoided node is asked again now and then, so that its recovery is seen; the same
//! observations give the same decisions. Lock: `state`, for a few comparisons.

use crate::ids::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;

/// Requests that may be sent twice, of all.
const HEDGE_SHARE: f64 = 0.03;
/// Hedges that may follow each other at once.
const HEDGE_BURST: f64 = 4.0;
/// Bounds of the delay before a second replica is asked, and the delay while little is known.
const DELAY_MIN_US: f64 = 5_000.0;
const DELAY_MAX_US: f64 = 500_000.0;
const DELAY_UNKNOWN_US: f64 = 50_000.0;
/// Answers of a node before its estimates count.
const KNOWN_COUNT: u32 = 8;
/// A node is slow when it takes so many times as long as the middle one, and at least this.
const SLOW_FACTOR: f64 = 4.0;
const SLOW_MIN_US: f64 = 2_000.0;
/// Every so many requests that avoid a slow node, one goes there.
const PROBE_INTERVAL_COUNT: u32 = 64;
/// Requests of different sizes are not compared: up to 64 KiB, up to 1 MiB, larger.
const CLASS_COUNT: usize = 3;

/// What is known of all nodes.
#[derive(Default)]
pub(super) struct Latencies {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<NodeId, NodeLatency>,
    /// Hedges that were earned and not used.
    budget: f64,
    counts: ReadCounts,
}

#[derive(Default)]
struct NodeLatency {
    classes: [Estimate; CLASS_COUNT],
    avoided_count: u32,
}

/// Running estimates, in microseconds.
#[derive(Clone, Copy, Default)]
struct Estimate {
    mean_us: f64,
    /// About one answer of fifty takes longer.
    high_us: f64,
    count: u32,
}

/// Read requests of a process since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Requests, those to second replicas not counted.
    pub request_count: u64,
    /// Requests that went to a second replica because the first took long.
    pub hedge_count: u64,
    /// Slow requests whose second replicas were faster.
    pub hedge_won_count: u64,
}

impl Estimate {
    fn observe(&mut self, taken_us: f64) {
        self.count = self.count.saturating_add(1);
        if self.count == 1 {
            (self.mean_us, self.high_us) = (taken_us, 2.0 * taken_us);
            return;
        }
        // One hiccup is no verdict; a few in a row are.
        let bounded = taken_us.min((8.0 * self.mean_us).max(SLOW_MIN_US));
        let weight = if bounded < self.mean_us { 0.25 } else { 0.125 };
        self.mean_us += (bounded - self.mean_us) * weight;
        // Steps up and down in such a proportion that they balance at the 98th percentile.
        let step = self.high_us / 8.0;
        self.high_us += if taken_us > self.high_us { 0.98 * step } else { -0.02 * step };
    }

    fn is_known(&self) -> bool {
        self.count >= KNOWN_COUNT
    }
}

fn class_of(len: usize) -> usize {
    match len {
        0..=0x1_0000 => 0,
        0x1_0001..=0x10_0000 => 1,
        _ => 2,
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The middle one of some values, the lower one of two.
fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

impl Latencies {
    /// A request begins; how long its answer may take before a second replica is asked.
    pub(super) fn begin(&self, len: usize) -> Duration {
        let mut state = self.state.lock();
        state.counts.request_count += 1;
        state.budget = (state.budget + HEDGE_SHARE).min(HEDGE_BURST);
        let known = state.nodes.values().map(|node| node.classes[class_of(len)]);
        let highs = known.filter(Estimate::is_known).map(|estimate| estimate.high_us);
        let delay_us = middle(highs).unwrap_or(DELAY_UNKNOWN_US);
        Duration::from_micros(delay_us.clamp(DELAY_MIN_US, DELAY_MAX_US) as u64)
    }

    /// A node answered, or was given up, after so long.
    pub(super) fn observe(&self, node: NodeId, len: usize, taken: Duration) {
        let mut state = self.state.lock();
        let latency = state.nodes.entry(node).or_default();
        latency.classes[class_of(len)].observe(micros(taken));
    }

    /// Whether so many requests may be sent to second replicas; they are counted then.
    pub(super) fn take_budget(&self, request_count: usize) -> bool {
        let mut state = self.state.lock();
        let affordable = state.budget >= request_count as f64;
        if affordable {
            state.budget -= request_count as f64;
            state.counts.hedge_count += request_count as u64;
        }
        affordable
    }

    /// A second replica was faster.
    pub(super) fn note_won(&self) {
        self.state.lock().counts.hedge_won_count += 1;
    }

    /// The nodes that a request should rather not go to now.
    pub(super) fn slow_nodes(&self) -> Vec<NodeId> {
        let mut state = self.state.lock();
        if state.nodes.len() < 2 {
            return Vec::new();
        }
        let means = |class: usize| {
            let known = state.nodes.values().map(move |node| node.classes[class]);
            middle(known.filter(Estimate::is_known).map(|estimate| estimate.mean_us))
        };
        let limits: [f64; CLASS_COUNT] = std::array::from_fn(|class| {
            means(class).map_or(f64::MAX, |mean| (mean * SLOW_FACTOR).max(SLOW_MIN_US))
        });
        let mut slow = Vec::new();
        for (id, node) in &mut state.nodes {
            let over = |(estimate, limit): (&Estimate, &f64)| {
                estimate.is_known() && estimate.mean_us > *limit
            };
            if !node.classes.iter().zip(&limits).any(over) {
                continue;
            }
            node.avoided_count = (node.avoided_count + 1) % PROBE_INTERVAL_COUNT;
            if node.avoided_count != 0 {
                slow.push(*id);
            }
        }
        slow
    }

    /// The counts.
    pub(super) fn counts(&self) -> ReadCounts {
        self.state.lock().counts
    }

    /// Forgets nodes that left the cluster.
    pub(super) fn retain(&self, known: impl Fn(NodeId) -> bool) {
        self.state.lock().nodes.retain(|node, _| known(*node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_micros(300);
    const SLOW: Duration = Duration::from_millis(200);

    fn observed(rounds: usize, taken: [Duration; 3]) -> Latencies {
        let latencies = Latencies::default();
        for _ in 0..rounds {
            for (node, taken) in (1..).zip(taken) {
                latencies.observe(NodeId(node), 4096, taken);
            }
        }
        latencies
    }

    /// Goal: one slow node is avoided, and asked now and then. Oracle: how often it is on the list.
    #[test]
    fn a_slow_node_is_avoided_and_probed() {
        let latencies = observed(20, [FAST, SLOW, FAST]);
        let avoided = (0..640).filter(|_| latencies.slow_nodes() == [NodeId(2)]).count();
        assert_eq!(avoided, 630, "one request of 64 goes there");
        assert!(latencies.begin(4096) <= Duration::from_millis(6), "the others set the delay");
    }

    /// Goal: nobody is slow when all are, and the delay grows with them. Oracle: list and delay.
    #[test]
    fn all_slow_is_normal() {
        let latencies = observed(20, [SLOW, SLOW, SLOW]);
        assert!(latencies.slow_nodes().is_empty());
        assert!(latencies.begin(4096) >= SLOW);
    }

    /// Goal: one hiccup is forgiven. Oracle: the list.
    #[test]
    fn a_hiccup_is_forgiven() {
        let latencies = observed(20, [FAST, FAST, FAST]);
        latencies.observe(NodeId(2), 4096, SLOW);
        assert!(latencies.slow_nodes().is_empty());
    }

    /// Goal: a node that recovered is asked like the others. Oracle: the list.
    #[test]
    fn recovery_is_seen() {
        let latencies = observed(20, [FAST, SLOW, FAST]);
        (0..40).for_each(|_| latencies.observe(NodeId(2), 4096, FAST));
        assert!(latencies.slow_nodes().is_empty());
    }

    /// Goal: the budget holds whatever is asked for. Oracle: the share of hedges.
    #[test]
    fn hedges_stay_within_their_share() {
        let latencies = Latencies::default();
        for _ in 0..10_000 {
            latencies.begin(4096);
            latencies.take_budget(1);
        }
        let counts = latencies.counts();
        assert!((290..=304).contains(&counts.hedge_count), "{counts:?}");
    }
}
