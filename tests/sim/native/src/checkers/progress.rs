//! Progress: when the faults have stopped, everything serves again and every operation ends.

use super::audit::Audit;
use std::time::Duration;

/// By when all targets serve after the last fault: leases end, everybody registers, every chain
/// synchronises one target after the other.
const SETTLE_MAX: Duration = Duration::from_secs(90);

/// What stands still.
pub fn check(audit: &Audit) -> Result<(), String> {
    match audit.settled_after {
        None => return Err("not all targets serve again".to_owned()),
        Some(after) if after > SETTLE_MAX => {
            return Err(format!("all targets serve only after {after:?}"));
        }
        Some(_) => {}
    }
    match audit.clients_stuck_count {
        0 => Ok(()),
        count => Err(format!("{count} operations of clients never ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whatever stands still is found. Oracle: the rows.
    #[test]
    fn finds_what_stands_still() {
        let audit = |settled_after, clients_stuck_count| {
            let settled_after = Option::map(settled_after, Duration::from_secs);
            Audit { settled_after, clients_stuck_count, ..Audit::default() }
        };
        assert!(check(&audit(Some(5), 0)).is_ok());
        assert!(check(&audit(Some(500), 0)).is_err());
        assert!(check(&audit(None, 0)).is_err());
        assert!(check(&audit(Some(5), 1)).is_err());
    }
}
