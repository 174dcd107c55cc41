//! Who asks: the kernel tells user, group and process; the other groups are in /proc.
//!
//! Why a cache: reading /proc for each request costs as much as the request. Why so short: a
//! process may change its groups, and a process id may come again.
//! Invariants: root is never looked up (it may do everything); the cache holds at most `MAX_COUNT`.
//! Locks: one, never held across I/O.

use firepond_core::sys::clock::{self, Instant};
use firepond_core::sys::directory::process_status;
use firepond_core::wire::meta::Credentials;
use fuser::Request;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// How long groups are believed.
const VALID: Duration = Duration::from_secs(1);
/// Most processes that are remembered.
const MAX_COUNT: usize = 1024;

/// Remembers the groups of processes for a moment.
#[derive(Default)]
pub(super) struct CredentialCache {
    known: Mutex<HashMap<u32, (Instant, Credentials)>>,
}

impl CredentialCache {
    /// The credentials of a request.
    pub(super) fn of(&self, request: &Request) -> Credentials {
        self.lookup(request.pid(), request.uid(), request.gid(), process_status)
    }

    fn lookup(&self, pid: u32, uid: u32, gid: u32, read: fn(u32) -> Option<String>) -> Credentials {
        if uid == 0 {
            return Credentials { uid, gid, groups: Vec::new() };
        }
        let now = clock::now();
        if let Some((since, known)) = self.known.lock().get(&pid)
            && (known.uid, known.gid) == (uid, gid)
            && now.duration_since(*since) < VALID
        {
            return known.clone();
        }
        // A process of another namespace has id 0 here, and one that just ended has no status left:
        // then its first group has to do.
        let status = if pid == 0 { None } else { read(pid) };
        let groups = status.as_deref().map(groups_of_status).unwrap_or_default();
        let found = Credentials { uid, gid, groups };
        let mut known = self.known.lock();
        if known.len() >= MAX_COUNT {
            known.retain(|_, (since, _)| now.duration_since(*since) < VALID);
        }
        if known.len() < MAX_COUNT {
            known.insert(pid, (now, found.clone()));
        }
        found
    }
}

/// The `Groups:` line of /proc/PID/status.
fn groups_of_status(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    line.map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: all groups are found, and nonsense harms nothing. Oracle: the numbers put in.
    #[test]
    fn groups_are_parsed() {
        assert_eq!(groups_of_status("Name:\tx\nGroups:\t4 24 1000 \nNSpid:\t1\n"), [4, 24, 1000]);
        assert_eq!(groups_of_status("Groups:\t\n"), Vec::<u32>::new());
        assert_eq!(groups_of_status("rubbish"), Vec::<u32>::new());
    }

    /// Goal: root costs nothing, another user under the same process id is looked up again.
    /// Method: readers that answer differently. Oracle: the groups.
    #[tokio::test]
    async fn cache_follows_the_user() {
        let cache = CredentialCache::default();
        assert!(cache.lookup(7, 0, 0, |_| unreachable!("root is not looked up")).groups.is_empty());
        let first = cache.lookup(7, 5, 5, |_| Some("Groups: 1 2".into()));
        assert_eq!(first.groups, [1, 2]);
        assert_eq!(cache.lookup(7, 5, 5, |_| None), first);
        assert_eq!(cache.lookup(7, 6, 6, |_| Some("Groups: 3".into())).groups, [3]);
    }

    /// Goal: the cache is bounded. Method: more processes than it may hold. Oracle: its size.
    #[tokio::test]
    async fn cache_is_bounded() {
        let cache = CredentialCache::default();
        for pid in 1..(2 * MAX_COUNT as u32) {
            cache.lookup(pid, 5, 5, |_| None);
        }
        assert!(cache.known.lock().len() <= MAX_COUNT);
    }
}
