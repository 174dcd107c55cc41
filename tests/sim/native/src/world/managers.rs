//! The manager processes: the shipping controller, which is Python, behind a trait; and the actor
//! that gives it time and requests.
//!
//! All managers of a world share one stepped loop, so they share one machine clock, and a frozen
//! manager machine freezes all of them. Invariants: whatever waits is handed in before time is
//! moved; a reply goes to whoever asked, if that one still waits.

use super::site::Site;
use crate::plan::Process;
use firepond_core::sys::machine::Machine;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// What the world needs of the managers; see `tests/sim/manager.py`.
pub trait Managers: Send {
    /// A manager process starts and takes a new term.
    fn start(&mut self, index: u32, now_ns: u64);
    /// A manager process dies.
    fn kill(&mut self, index: u32);
    /// A request arrives; its reply comes out of `advance` under the number returned.
    fn request(&mut self, now_ns: u64, index: u32, name: &str, body: &[u8]) -> u64;
    /// Runs what is due: replies (number, success, body), and the time of the next timer.
    fn advance(&mut self, now_ns: u64) -> (Vec<(u64, bool, Vec<u8>)>, u64);
    /// The idle connection of a manager to a node broke.
    fn broken(&mut self, index: u32, node: u32);
    /// The managers' machine was frozen: whatever is due now is late.
    fn woke(&mut self, now_ns: u64);
    /// What went wrong inside, which must not.
    fn failure(&mut self) -> Option<String> {
        None
    }
}

/// A probe: asked for (node, incarnation), says "answered", "gone" or "unanswered".
pub type Probe = Arc<dyn Fn(u32, u64) -> &'static str + Send + Sync>;

/// A reply: success, and a MessagePack body. None when the manager is gone.
pub(super) type Answer = Option<(bool, Vec<u8>)>;

enum Message {
    Start(u32),
    Kill(u32),
    Request { index: u32, name: &'static str, body: Vec<u8>, answer: oneshot::Sender<Answer> },
    Broken(u32),
}

/// The way to the managers.
#[derive(Clone)]
pub(super) struct ManagerPort {
    inbox: mpsc::UnboundedSender<Message>,
    /// The manager that started last: the one that leads, or will.
    newest: Arc<AtomicU32>,
}

/// When the managers' clock began, so that their times are never 0.
const CLOCK_BEGIN_NS: u64 = 1_000_000_000;

struct Actor {
    managers: Box<dyn Managers>,
    machine: Machine,
    began: Instant,
    newest: Arc<AtomicU32>,
    inbox: mpsc::UnboundedReceiver<Message>,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    next_ns: u64,
}

impl ManagerPort {
    /// Starts the actor; no manager runs yet.
    pub(super) fn start(site: &Site, managers: Box<dyn Managers>, newest: Arc<AtomicU32>) -> Self {
        let machine = site.boot(Process::Manager(0));
        let (sender, inbox) = mpsc::unbounded_channel();
        let actor = Actor {
            managers,
            began: machine.now(),
            machine,
            newest: Arc::clone(&newest),
            inbox,
            waiting: BTreeMap::new(),
            next_ns: u64::MAX,
        };
        tokio::spawn(actor.run());
        ManagerPort { inbox: sender, newest }
    }

    pub(super) fn newest(&self) -> u32 {
        self.newest.load(Ordering::Relaxed)
    }

    pub(super) fn boot(&self, index: u32) {
        self.inbox.send(Message::Start(index)).ok();
    }

    pub(super) fn kill(&self, index: u32) {
        self.inbox.send(Message::Kill(index)).ok();
    }

    pub(super) fn broken(&self, node: u32) {
        self.inbox.send(Message::Broken(node)).ok();
    }

    /// A request that has arrived at a manager's machine.
    pub(super) async fn request(&self, index: u32, name: &'static str, body: Vec<u8>) -> Answer {
        let (answer, reply) = oneshot::channel();
        self.inbox.send(Message::Request { index, name, body, answer }).ok();
        reply.await.ok().flatten()
    }
}

impl Actor {
    async fn run(mut self) {
        loop {
            let due = self.machine.true_time(self.began + nanoseconds(self.next_ns));
            tokio::select! {
                biased;
                message = self.inbox.recv() => match message {
                    Some(message) => {
                        self.thaw().await;
                        self.take(message);
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(due) => self.thaw().await,
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.take(message);
            }
            self.advance();
        }
    }

    /// Waits while the machine is frozen. Timers that were due meanwhile run at the time of its
    /// end.
    async fn thaw(&mut self) {
        if !self.machine.is_frozen() {
            return;
        }
        while self.machine.is_frozen() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.managers.woke(self.now_ns());
    }

    fn now_ns(&self) -> u64 {
        let elapsed = self.machine.now().saturating_duration_since(self.began);
        CLOCK_BEGIN_NS + elapsed.as_nanos() as u64
    }

    fn take(&mut self, message: Message) {
        let now_ns = self.now_ns();
        match message {
            Message::Start(index) => {
                self.managers.start(index, now_ns);
                self.newest.store(index, Ordering::Relaxed);
            }
            Message::Kill(index) => self.managers.kill(index),
            Message::Request { index, name, body, answer } => {
                let number = self.managers.request(now_ns, index, name, &body);
                self.waiting.insert(number, answer);
            }
            Message::Broken(node) => {
                for index in 0..2 {
                    self.managers.broken(index, node);
                }
            }
        }
    }

    fn advance(&mut self) {
        let (replies, next_ns) = self.managers.advance(self.now_ns());
        self.next_ns = next_ns;
        for (number, ok, body) in replies {
            if let Some(answer) = self.waiting.remove(&number) {
                answer.send(Some((ok, body))).ok();
            }
        }
    }
}

fn nanoseconds(managers_ns: u64) -> Duration {
    // A year ahead is never.
    Duration::from_nanos(managers_ns.saturating_sub(CLOCK_BEGIN_NS).min(1 << 55))
}
