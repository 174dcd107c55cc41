//! One value that many wait for the next edition of.
//!
//! Why not tokio's: that one spreads its receivers over several queues at random, so that the order
//! in which they wake is no function of a simulation's seed. Here they wake in the order in which
//! they began to wait.
//! Invariants: an edition is seen by a receiver at most once; a receiver that missed some sees the
//! newest. Lock: the value's, never held while anyone waits.

use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;

/// Every sender is gone, so the value stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    value: T,
    edition: u64,
    is_closed: bool,
}

/// The one that changes the value.
pub struct Sender<T>(Arc<Shared<T>>);

/// One that waits for changes. A clone has seen what the original has.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// A value, with its first receiver.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A value that nobody waits for yet.
    pub fn new(value: T) -> Sender<T> {
        let state = Mutex::new(State { value, edition: 0, is_closed: false });
        Sender(Arc::new(Shared { state, changed: Notify::new() }))
    }

    /// A receiver that has seen the present value.
    pub fn subscribe(&self) -> Receiver<T> {
        let seen = self.0.state.lock().edition;
        Receiver { shared: Arc::clone(&self.0), seen }
    }

    /// Changes the value in place; whether it counts as an edition is what `change` returns.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let mut state = self.0.state.lock();
        let modified = change(&mut state.value);
        state.edition += u64::from(modified);
        drop(state);
        if modified {
            self.0.changed.notify_waiters();
        }
        modified
    }

    /// Replaces the value.
    pub fn send(&self, value: T) {
        self.send_if_modified(|current| {
            *current = value;
            true
        });
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state.lock().is_closed = true;
        self.0.changed.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Receiver<T> {
    /// Looks at the value as it is now.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.shared.state.lock().value)
    }

    /// Waits for an edition that this receiver has not seen.
    ///
    /// # Errors
    /// `Closed` when none will come.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Made before the look, so that no change falls between the two.
            let changed = self.shared.changed.notified();
            {
                let state = self.shared.state.lock();
                if state.edition != self.seen {
                    self.seen = state.edition;
                    return Ok(());
                }
                if state.is_closed {
                    return Err(Closed);
                }
            }
            changed.await;
        }
    }

    /// The value as soon as it satisfies a condition, which it may do already.
    ///
    /// # Errors
    /// `Closed` when it never will.
    pub async fn wait_for(&mut self, condition: impl Fn(&T) -> bool) -> Result<T, Closed>
    where
        T: Clone,
    {
        loop {
            {
                let state = self.shared.state.lock();
                self.seen = state.edition;
                if condition(&state.value) {
                    return Ok(state.value.clone());
                }
            }
            self.changed().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: receivers wake in the order in which they wait, see each edition once, and learn of
    /// the end. Oracle: the order by hand.
    #[tokio::test]
    async fn receivers_wake_in_order() {
        let (sender, receiver) = channel(0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..20)
            .map(|number| {
                let (mut receiver, order) = (receiver.clone(), Arc::clone(&order));
                tokio::spawn(async move {
                    assert_eq!(receiver.wait_for(|value| *value == 2).await, Ok(2));
                    order.lock().push(number);
                    assert_eq!(receiver.changed().await, Err(Closed));
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.send(1);
        tokio::task::yield_now().await;
        assert!(!sender.send_if_modified(|value| *value == 9));
        sender.send(2);
        tokio::task::yield_now().await;
        drop(sender);
        for task in waiting {
            task.await.expect("ends");
        }
        assert_eq!(*order.lock(), (0..20).collect::<Vec<_>>());
    }
}
