//! KeepSession: a client is alive; with a list it tells what it has open.
//!
//! A client that the service does not know, or of which it never had the list, gets
//! `SessionUnknown` and sends the list. Files open for writing whose record was pruned while the
//! client was silent get it back, unless the file is gone: the client learns that when it settles
//! the length.
//! Conflict set: with a list, the sessions and inodes in it. Idempotency: by nature.

use crate::keys;
use crate::records::{InodeBody, SessionRecord};
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::view::View;
use firepond_core::Result;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::wire::meta::{MetaReply, OpenFile};

/// Files of one transaction.
const BATCH_COUNT: usize = 256;

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    open_files: Option<Vec<OpenFile>>,
) -> Result<MetaReply> {
    match open_files {
        None => meta.sessions().keep(caller.client)?,
        Some(open_files) => {
            meta.sessions().register(caller.client, &open_files);
            let writers: Vec<OpenFile> = open_files.into_iter().filter(|open| open.write).collect();
            for writers in writers.chunks(BATCH_COUNT) {
                transact::run(meta, caller, &Restore { writers }).await?;
            }
        }
    }
    let lease_ms = u64::try_from(meta.sessions().lease().as_millis()).unwrap_or(u64::MAX);
    Ok(MetaReply::Session { lease_ms })
}

/// Puts back the records of files open for writing.
struct Restore<'a> {
    writers: &'a [OpenFile],
}

impl Mutation for Restore<'_> {
    const RECORDED: Recorded = Recorded::Never;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        for open in self.writers {
            let key = keys::session(open.inode, caller.client, open.handle);
            if view.get::<SessionRecord>(&key).await?.is_some() {
                continue;
            }
            let record = view.inode(open.inode).await?;
            let body = record.map(|record| record.body);
            if matches!(body, Some(InodeBody::File { collecting: false, .. })) {
                view.add_writer(open.inode, caller.client, open.handle)?;
            }
        }
        Ok(MetaReply::Done)
    }
}
