//! Values of the KV tier: a value that is found is whole and was published under this key.
//!
//! Why no more: a miss is always allowed, as a value may be evicted and a failure is a miss.

use crate::history::{Deed, Record};
use crate::plan::marker;

/// Which value is not what somebody published.
pub fn check(records: &[Record]) -> Result<(), String> {
    for record in records {
        let Deed::KvGet { key, bytes: Some(bytes) } = &record.deed else { continue };
        let published = records.iter().any(|other| match &other.deed {
            Deed::KvPut { key: other_key, len, stored } => {
                let possible = *stored != Some(false) && other.begun < record.ended;
                other_key == key && possible && bytes[..] == marker(other.entry, *len)[..]
            }
            _ => false,
        });
        if !published {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
            let (entry, len) = (record.entry, bytes.len());
            return Err(format!("[{entry}] key {key} has {len} bytes {shown:?} of nobody"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// Goal: values of nobody, of another key and of a refused put are found. Oracle: the rows.
    #[test]
    fn finds_foreign_values() {
        let record = |entry, deed| Record { entry, client: 0, begun: 1, ended: 2, deed };
        let put = |key, stored| record(5, Deed::KvPut { key, len: 9, stored });
        let get = |bytes: &'static [u8]| {
            record(6, Deed::KvGet { key: 1, bytes: Some(Bytes::from_static(bytes)) })
        };
        assert!(check(&[put(1, Some(true)), get(b"[00005][0")]).is_ok());
        assert!(check(&[put(1, None), get(b"[00005][0")]).is_ok());
        assert!(check(&[put(1, Some(false)), get(b"[00005][0")]).is_err());
        assert!(check(&[put(2, Some(true)), get(b"[00005][0")]).is_err());
        assert!(check(&[put(1, Some(true)), get(b"[00005]")]).is_err());
    }
}
