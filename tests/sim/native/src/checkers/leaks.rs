//! Leaks: at the end every page is either free or named by a record, the accounting says the same,
//! no lock and no buffer is held, and no page is found rotten that nobody harmed.

use super::audit::Audit;
use crate::plan::{Fault, Plan};

/// What is lost or lent for ever.
pub fn check(plan: &Plan, audit: &Audit) -> Result<(), String> {
    let harmed = |fault: &Fault| matches!(fault, Fault::Rot { .. });
    let harmed = plan.faults.iter().any(|(_, fault)| harmed(fault));
    for store in &audit.stores {
        let node = store.node;
        if store.used_bytes != store.record_bytes {
            return Err(format!(
                "{node}: {} bytes of pages are in use, records name {}",
                store.used_bytes, store.record_bytes
            ));
        }
        if store.accounted_bytes != store.record_bytes {
            return Err(format!(
                "{node}: its targets account for {} bytes, records name {}",
                store.accounted_bytes, store.record_bytes
            ));
        }
        if store.buffer_bytes != 0 {
            return Err(format!("{node}: {} bytes of buffers are lent", store.buffer_bytes));
        }
        if store.rotten_count > 0 && !harmed {
            return Err(format!("{node}: {} pages rotted by themselves", store.rotten_count));
        }
    }
    let locked = audit.replicas.iter().find(|replica| replica.locked_count > 0);
    match locked {
        Some(one) => Err(format!("{}: {} chunk locks are held", one.target, one.locked_count)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::audit::StoreAudit;
    use super::*;
    use firepond_core::ids::NodeId;

    /// Goal: each kind of leak is found. Oracle: the rows.
    #[test]
    fn finds_leaks() {
        let sound = StoreAudit {
            node: NodeId(1),
            record_bytes: 4096,
            used_bytes: 4096,
            accounted_bytes: 4096,
            buffer_bytes: 0,
            rotten_count: 0,
        };
        let mut plan = Plan::of_seed(1);
        plan.faults.clear();
        let check = |store| check(&plan, &Audit { stores: vec![store], ..Audit::default() });
        assert!(check(sound.clone()).is_ok());
        assert!(check(StoreAudit { used_bytes: 8192, ..sound.clone() }).is_err());
        assert!(check(StoreAudit { accounted_bytes: 0, ..sound.clone() }).is_err());
        assert!(check(StoreAudit { buffer_bytes: 1, ..sound.clone() }).is_err());
        assert!(check(StoreAudit { rotten_count: 1, ..sound }).is_err());
    }
}
