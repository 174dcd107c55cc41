//! What the service did: operations by kind with latency, conflicts, inodes.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Kinds of operations, in the order of `index_of`.
pub(crate) const OPERATIONS: [&str; 17] = [
    "lookup",
    "get_attributes",
    "set_attributes",
    "create",
    "open",
    "close",
    "sync",
    "make_directory",
    "remove_directory",
    "unlink",
    "rename",
    "link",
    "make_symlink",
    "read_link",
    "read_directory",
    "stat_file_system",
    "keep_session",
];

/// Buckets of latency: bucket n counts what took less than 2^n microseconds.
const BUCKETS: usize = 26;

/// Counters of one kind of operation.
#[derive(Default)]
struct Operation {
    failed: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// All counters. Updates are atomic and never wait.
#[derive(Default)]
pub(crate) struct Counters {
    operations: [Operation; OPERATIONS.len()],
    conflicts: AtomicU64,
    inodes: AtomicI64,
}

/// Counts of one kind of operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationStatus {
    /// Which kind.
    pub name: &'static str,
    /// How many were answered.
    pub count: u64,
    /// How many of them with an error.
    pub failed: u64,
    /// Microseconds in all.
    pub total_us: u64,
    /// Half took less than this.
    pub p50_us: u64,
    /// 99 of 100 took less than this.
    pub p99_us: u64,
}

impl Counters {
    /// Notes an answered operation.
    pub(crate) fn operation(&self, index: usize, elapsed: Duration, failed: bool) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        let operation = &self.operations[index];
        operation.buckets[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        operation.micros.fetch_add(micros, Ordering::Relaxed);
        operation.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    /// Notes a transaction that has to run again.
    pub(crate) fn conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }

    /// Transactions that had to run again.
    pub(crate) fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Notes inodes created or removed.
    pub(crate) fn inodes(&self, delta: i64) {
        self.inodes.fetch_add(delta, Ordering::Relaxed);
    }

    /// Inodes in use.
    pub(crate) fn inode_count(&self) -> u64 {
        u64::try_from(self.inodes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Counts of all kinds of operations that happened.
    pub(crate) fn status(&self) -> Vec<OperationStatus> {
        OPERATIONS.iter().zip(&self.operations).filter_map(|(name, one)| one.status(name)).collect()
    }
}

impl Operation {
    fn status(&self, name: &'static str) -> Option<OperationStatus> {
        let counts = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let count: u64 = counts.iter().sum();
        let quantile = |hundredths: u64| {
            let mut left = (count * hundredths).div_ceil(100);
            let position = counts.iter().position(|in_bucket| {
                left = left.saturating_sub(*in_bucket);
                left == 0
            });
            1 << position.unwrap_or(BUCKETS - 1)
        };
        (count > 0).then(|| OperationStatus {
            name,
            count,
            failed: self.failed.load(Ordering::Relaxed),
            total_us: self.micros.load(Ordering::Relaxed),
            p50_us: quantile(50),
            p99_us: quantile(99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: quantiles fall into the right bucket. Oracle: by hand.
    #[test]
    fn quantiles() {
        let counters = Counters::default();
        for _ in 0..98 {
            counters.operation(0, Duration::from_micros(3), false);
        }
        counters.operation(0, Duration::from_micros(1000), true);
        counters.operation(0, Duration::from_micros(1000), false);
        let status = counters.status();
        assert_eq!(status.len(), 1);
        assert_eq!((status[0].name, status[0].count, status[0].failed), ("lookup", 100, 1));
        assert_eq!((status[0].p50_us, status[0].p99_us), (4, 1024));
    }
}
