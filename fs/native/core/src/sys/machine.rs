//! A simulated machine: the tasks of one process and its clocks. Only simulations have any.
//!
//! Every task that product code spawns joins the machine of the task that spawned it. So a machine
//! can be killed at any step (all its tasks are dropped at once, and no line of them runs any
//! more), can be frozen (its tasks are not polled until it thaws, while its timers run out and its
//! messages arrive), and has clocks of its own: the monotonic one runs fast or slow against true
//! time, which is tokio's, and the wall clock jumps besides.
//! Invariants: a dead machine never lives again (a restart is a new machine); a task of a dead or
//! frozen machine is not polled; tasks are dropped in the order in which they were spawned. A
//! machine that dies while one of its own tasks runs ends when that task yields: its disks and its
//! network ask `is_dead`, so nothing of what the task still does gets out.
//! Lock order: a task's slot is never locked while the machine's state is.

use super::clock::Instant;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// Nanoseconds since 1970 when a simulated world begins.
const EPOCH_NS: i128 = 1_750_000_000_000_000_000;

thread_local! {
    static CURRENT: RefCell<Option<Machine>> = const { RefCell::new(None) };
}

/// A machine. Clones are the same machine.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    name: String,
    state: Mutex<State>,
    died: Notify,
}

struct State {
    is_dead: bool,
    is_frozen: bool,
    /// Who wanted to run while frozen.
    waiting: Vec<Waker>,
    tasks: BTreeMap<u64, Arc<dyn Droppable>>,
    task_count: u64,
    clock: Clock,
}

/// The monotonic clock as a line through (`true_anchor`, `own_anchor`), and the wall clock's offset
/// to it.
#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    true_anchor: Instant,
    own_anchor: Instant,
    parts_per_million: i64,
    wall_offset_ns: i128,
    /// The wall clock's offset when this life began.
    steady_offset_ns: i128,
}

/// A task's future, which its machine can take away.
trait Droppable: Send + Sync {
    fn drop_future(&self);
}

type Slot<T> = Mutex<Option<Pin<Box<dyn Future<Output = T> + Send>>>>;

impl<T> Droppable for Slot<T> {
    fn drop_future(&self) {
        let future = self.lock().take();
        drop(future);
    }
}

impl Clock {
    fn own(&self, true_now: Instant) -> Instant {
        let elapsed = true_now.saturating_duration_since(self.true_anchor);
        let rate = (1_000_000 + self.parts_per_million.max(-900_000)) as u128;
        self.own_anchor + nanoseconds(elapsed.as_nanos() * rate / 1_000_000)
    }

    fn wall(&self, offset_ns: i128) -> u64 {
        let own = self.own(tokio::time::Instant::now());
        let elapsed = own.saturating_duration_since(self.began).as_nanos() as i128;
        u64::try_from(offset_ns + elapsed).unwrap_or(0)
    }

    fn true_time(&self, own: Instant) -> Instant {
        let ahead = own.saturating_duration_since(self.own_anchor);
        let rate = (1_000_000 + self.parts_per_million.max(-900_000)) as u128;
        // Rounded up: a sleep that ends early would have to sleep again.
        self.true_anchor + nanoseconds((ahead.as_nanos() * 1_000_000).div_ceil(rate))
    }
}

fn nanoseconds(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

impl Machine {
    /// A machine that lives, with true clocks.
    pub fn new(name: &str) -> Machine {
        let now = tokio::time::Instant::now();
        let clock = Clock {
            began: now,
            true_anchor: now,
            own_anchor: now,
            parts_per_million: 0,
            wall_offset_ns: EPOCH_NS,
            steady_offset_ns: EPOCH_NS,
        };
        let state = State {
            is_dead: false,
            is_frozen: false,
            waiting: Vec::new(),
            tasks: BTreeMap::new(),
            task_count: 0,
            clock,
        };
        let inner = Inner { name: name.to_owned(), state: Mutex::new(state), died: Notify::new() };
        Machine(Arc::new(inner))
    }

    /// A new life on the same hardware: the clocks go on as they are.
    pub fn reborn(&self) -> Machine {
        let next = Machine::new(&self.0.name);
        let clock = self.0.state.lock().clock;
        next.0.state.lock().clock = Clock { steady_offset_ns: clock.wall_offset_ns, ..clock };
        next
    }

    /// The machine of the task that runs now.
    pub fn current() -> Option<Machine> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.0.state.lock().is_dead
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.0.state.lock().is_frozen
    }

    /// Waits until it is killed.
    pub async fn died(&self) {
        loop {
            let died = self.0.died.notified();
            if self.is_dead() {
                return;
            }
            died.await;
        }
    }

    /// Ends it: no line of its tasks runs any more.
    pub fn kill(&self) {
        self.0.state.lock().is_dead = true;
        self.0.died.notify_waiters();
        let own = CURRENT.with_borrow(|current| current.as_ref().is_some_and(|one| one.is(self)));
        if !own {
            self.drop_tasks();
        }
    }

    /// Stops its tasks for now.
    pub fn freeze(&self) {
        self.0.state.lock().is_frozen = true;
    }

    /// Lets its tasks go on.
    pub fn thaw(&self) {
        let mut state = self.0.state.lock();
        state.is_frozen = false;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Lets its clocks run fast (or slow) by so many millionths from now on.
    pub fn set_drift(&self, parts_per_million: i64) {
        let now = tokio::time::Instant::now();
        let clock = &mut self.0.state.lock().clock;
        clock.own_anchor = clock.own(now);
        clock.true_anchor = now;
        clock.parts_per_million = parts_per_million;
    }

    /// Sets its wall clock forward, or back.
    pub fn jump(&self, nanoseconds: i64) {
        self.0.state.lock().clock.wall_offset_ns += i128::from(nanoseconds);
    }

    /// Its tasks that have not ended.
    pub fn task_count(&self) -> usize {
        self.0.state.lock().tasks.len()
    }

    /// Its monotonic clock.
    pub fn now(&self) -> Instant {
        self.0.state.lock().clock.own(tokio::time::Instant::now())
    }

    /// When its monotonic clock will show this.
    pub fn true_time(&self, own: Instant) -> Instant {
        self.0.state.lock().clock.true_time(own)
    }

    /// Its wall clock, in nanoseconds since 1970.
    pub fn unix_time_ns(&self) -> u64 {
        let clock = self.0.state.lock().clock;
        clock.wall(clock.wall_offset_ns)
    }

    /// Its wall clock without the jumps of this life.
    pub fn steady_unix_ns(&self) -> u64 {
        let clock = self.0.state.lock().clock;
        clock.wall(clock.steady_offset_ns)
    }

    /// Calls a function as if one of the machine's tasks did.
    pub fn enter<R>(&self, act: impl FnOnce() -> R) -> R {
        let before = CURRENT.replace(Some(self.clone()));
        let _restore = Restore(before);
        act()
    }

    /// Starts a task on this machine.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.enter(|| scoped(future)))
    }

    /// Whether both are the same life of the same machine.
    pub fn is(&self, other: &Machine) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn drop_tasks(&self) {
        loop {
            // One at a time: dropping a task may end others.
            let Some((_, task)) = self.0.state.lock().tasks.pop_first() else { return };
            self.enter(|| task.drop_future());
        }
    }

    fn register(&self, task: Arc<dyn Droppable>) -> u64 {
        let mut state = self.0.state.lock();
        state.task_count += 1;
        let id = state.task_count;
        if !state.is_dead {
            state.tasks.insert(id, task);
        }
        id
    }

    /// Whether a task may run now; if the machine is frozen, the task is woken when it thaws.
    fn may_run(&self, waker: &Waker) -> bool {
        let mut state = self.0.state.lock();
        if state.is_frozen && !state.is_dead {
            state.waiting.push(waker.clone());
        }
        !state.is_frozen && !state.is_dead
    }
}

struct Restore(Option<Machine>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// A future that belongs to the machine of whoever made it.
pub struct Scoped<T: 'static>(Membership<T>);

enum Membership<T: 'static> {
    /// Made outside of any machine.
    Free(Pin<Box<dyn Future<Output = T> + Send>>),
    Member {
        machine: Machine,
        id: u64,
        slot: Arc<Slot<T>>,
    },
}

/// Makes a future a task of the current machine.
pub fn scoped<F>(future: F) -> Scoped<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let Some(machine) = Machine::current() else {
        return Scoped(Membership::Free(Box::pin(future)));
    };
    let slot: Arc<Slot<F::Output>> = Arc::new(Mutex::new(Some(Box::pin(future))));
    let id = machine.register(Arc::clone(&slot) as _);
    Scoped(Membership::Member { machine, id, slot })
}

impl<T: 'static> Future for Scoped<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let (machine, id, slot) = match &mut self.0 {
            Membership::Free(future) => return future.as_mut().poll(context),
            Membership::Member { machine, id, slot } => (machine, *id, slot),
        };
        if !machine.may_run(context.waker()) {
            return Poll::Pending;
        }
        let Some(mut future) = slot.lock().take() else { return Poll::Pending };
        let polled = machine.enter(|| future.as_mut().poll(context));
        if machine.is_dead() {
            machine.enter(|| drop(future));
            machine.drop_tasks();
            return Poll::Pending;
        }
        match polled {
            Poll::Ready(_) => {
                machine.enter(|| drop(future));
                machine.0.state.lock().tasks.remove(&id);
            }
            Poll::Pending => *slot.lock() = Some(future),
        }
        polled
    }
}

impl<T: 'static> Drop for Scoped<T> {
    fn drop(&mut self) {
        if let Membership::Member { machine, id, slot } = &self.0 {
            machine.0.state.lock().tasks.remove(id);
            machine.enter(|| slot.drop_future());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{clock, task};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Goal: killing a machine ends its tasks and their children, at once and nobody else's.
    /// Method: counters that tasks of two machines advance. Oracle: the counts.
    #[tokio::test(start_paused = true)]
    async fn a_killed_machine_does_nothing_more() {
        let (one, other) = (Machine::new("one"), Machine::new("other"));
        let counts: Vec<_> = (0..2).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        for (machine, count) in [(&one, &counts[0]), (&other, &counts[1])] {
            let count = Arc::clone(count);
            machine.spawn(async move {
                task::spawn(async move {
                    loop {
                        clock::sleep(Duration::from_millis(10)).await;
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            });
        }
        tokio::time::sleep(Duration::from_millis(105)).await;
        one.kill();
        assert_eq!((one.task_count(), other.task_count()), (0, 1));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let seen: Vec<_> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert!(seen[0] == 10 && seen[1] >= 19, "{seen:?}");
    }

    /// Goal: a frozen machine stands still while time goes on. Oracle: when its task runs again.
    #[tokio::test(start_paused = true)]
    async fn a_frozen_machine_wakes_late() {
        let machine = Machine::new("one");
        let began = tokio::time::Instant::now();
        let task = machine.spawn(async move {
            clock::sleep(Duration::from_millis(10)).await;
            clock::now()
        });
        tokio::task::yield_now().await;
        machine.freeze();
        tokio::time::sleep(Duration::from_secs(3)).await;
        machine.thaw();
        let woke = task.await.expect("ran");
        assert!(woke - began >= Duration::from_secs(3));
    }

    /// Goal: a fast clock shows more time, and sleeps by it are shorter; the wall clock jumps, the
    /// other does not. Oracle: true time.
    #[tokio::test(start_paused = true)]
    async fn clocks_drift_and_jump() {
        let machine = Machine::new("fast");
        machine.set_drift(100_000);
        let began = tokio::time::Instant::now();
        let wall = machine.unix_time_ns();
        let own = machine.spawn(async {
            let before = clock::now();
            clock::sleep(Duration::from_secs(11)).await;
            clock::now() - before
        });
        let own = own.await.expect("ran");
        let (true_time, second) = (began.elapsed(), Duration::from_secs(1));
        assert!(own >= 11 * second && own < 11 * second + Duration::from_millis(5), "{own:?}");
        assert!(true_time >= 10 * second && true_time < 10 * second + Duration::from_millis(5));
        machine.jump(-5_000_000_000);
        let elapsed = machine.unix_time_ns() as i64 - wall as i64;
        assert_eq!(elapsed / 1_000_000_000, 6);
        assert_eq!((machine.steady_unix_ns() - wall) / 1_000_000_000, 11);
    }
}
