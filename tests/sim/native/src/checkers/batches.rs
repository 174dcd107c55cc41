//! A batch fails read by read: what cannot be read says so itself, in the words of its own problem,
//! and says nothing about its neighbours. (That the neighbours are right is for the checkers of
//! chunks: a chunk that exists and is reported missing goes back in time.)

use crate::history::{Deed, Record, Seen};
use crate::plan::BatchItem;

/// Which read of a batch has the outcome of another.
pub fn check(records: &[Record]) -> Result<(), String> {
    for record in records {
        let Deed::BadRead { item, seen } = &record.deed else { continue };
        let fits = matches!(
            (item, seen),
            (BatchItem::Absent { .. }, Seen::Nothing | Seen::Failed(_))
                | (BatchItem::NoChain, Seen::Failed(_))
        );
        if !fits {
            return Err(format!("[{}] {item:?} gave {seen:?}", record.entry));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ErrorKind;

    /// Goal: bytes for what does not exist are found. Oracle: the rows.
    #[test]
    fn finds_foreign_outcomes() {
        let record = |item, seen| Record {
            entry: 1,
            client: 0,
            begun: 1,
            ended: 2,
            deed: Deed::BadRead { item, seen },
        };
        let absent = BatchItem::Absent { slot: 0 };
        let bytes = Seen::Chunk { version: 1, bytes: bytes::Bytes::new(), chunk_len: 0 };
        assert!(check(&[record(absent, Seen::Nothing)]).is_ok());
        assert!(check(&[record(absent, bytes)]).is_err());
        assert!(check(&[record(BatchItem::NoChain, Seen::Nothing)]).is_err());
        let failed = Seen::Failed(ErrorKind::NoSuchTarget);
        assert!(check(&[record(BatchItem::NoChain, failed)]).is_ok());
    }
}
