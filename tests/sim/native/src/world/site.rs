//! What all processes of a world share: network, weather, trace, and who runs where.

use super::trace::Trace;
use super::weather::Weather;
use crate::plan::Process;
use firepond_core::Error;
use firepond_core::sys::machine::Machine;
use firepond_core::transport::memory::MemoryNetwork;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// The ground that a world stands on.
pub(super) struct Site {
    pub(super) trace: Trace,
    pub(super) weather: Weather,
    pub(super) network: MemoryNetwork,
    state: Mutex<State>,
    problems: Mutex<Vec<String>>,
    exits: mpsc::UnboundedSender<Process>,
}

#[derive(Default)]
struct State {
    /// The latest life of each machine.
    machines: BTreeMap<Process, Machine>,
    /// Which process has a node id, and which life of it is the latest.
    nodes: BTreeMap<u32, (Process, u64)>,
    incarnation: u64,
}

impl Site {
    /// An empty ground, and where processes come out that ended by themselves.
    pub(super) fn new(seed: u64) -> (Site, mpsc::UnboundedReceiver<Process>) {
        let (exits, ended) = mpsc::unbounded_channel();
        let site = Site {
            trace: Trace::new(),
            weather: Weather::new(seed),
            network: MemoryNetwork::new(),
            state: Mutex::default(),
            problems: Mutex::default(),
            exits,
        };
        (site, ended)
    }

    /// A process ends by itself, as one does whose manager will not have it.
    pub(super) fn exits(&self, process: Process, why: &Error) {
        self.trace.line(format_args!("{process} exits: {why}"));
        self.exits.send(process).ok();
    }

    /// How many lives began.
    pub(super) fn last_incarnation(&self) -> u64 {
        self.state.lock().incarnation
    }

    /// Something that must not happen.
    pub(super) fn problem(&self, what: impl std::fmt::Display) {
        self.trace.line(format_args!("PROBLEM {what}"));
        self.problems.lock().push(what.to_string());
    }

    /// All that must not have happened.
    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.lock().clone()
    }

    /// Whether a node's machine is dead.
    pub(super) fn is_node_dead(&self, node: u32) -> bool {
        let state = self.state.lock();
        let process = state.nodes.get(&node).map(|(process, _)| *process);
        let machine = process.and_then(|process| state.machines.get(&process));
        machine.is_none_or(Machine::is_dead)
    }

    /// A new life of a machine, whose clocks go on.
    pub(super) fn boot(&self, process: Process) -> Machine {
        let mut state = self.state.lock();
        let machine = match state.machines.get(&process) {
            Some(before) => before.reborn(),
            None => Machine::new(&process.to_string()),
        };
        state.machines.insert(process, machine.clone());
        machine
    }

    /// The latest life of a machine.
    pub(super) fn machine(&self, process: Process) -> Option<Machine> {
        self.state.lock().machines.get(&process).cloned()
    }

    /// All machines.
    pub(super) fn machines(&self) -> Vec<(Process, Machine)> {
        let state = self.state.lock();
        state.machines.iter().map(|(process, machine)| (*process, machine.clone())).collect()
    }

    /// A number that no life of any process had.
    pub(super) fn next_incarnation(&self) -> u64 {
        let mut state = self.state.lock();
        state.incarnation += 1;
        state.incarnation
    }

    /// This life of a process has this node id.
    pub(super) fn name_node(&self, node: u32, process: Process, incarnation: u64) {
        self.state.lock().nodes.insert(node, (process, incarnation));
    }

    /// The node id of a process.
    pub(super) fn node_of(&self, process: Process) -> Option<u32> {
        let state = self.state.lock();
        state.nodes.iter().find(|(_, (one, _))| *one == process).map(|(node, _)| *node)
    }

    /// What a manager's probe of a life of a node shows.
    pub(super) fn probe(&self, manager: Process, node: u32, incarnation: u64) -> &'static str {
        let state = self.state.lock();
        let Some((process, latest)) = state.nodes.get(&node).copied() else { return "unanswered" };
        let cut = self.weather.is_cut(manager, process) || self.weather.is_cut(process, manager);
        let Some(machine) = state.machines.get(&process).filter(|_| !cut) else {
            return "unanswered";
        };
        match (machine.is_dead(), machine.is_frozen(), latest == incarnation) {
            (true, _, _) | (false, false, false) => "gone",
            (false, true, _) => "unanswered",
            (false, false, true) => "answered",
        }
    }
}
