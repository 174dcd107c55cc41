//! Who is there and what they have open, in memory.
//!
//! Why in memory: reads are opened thousands of times a second and must not take a commit. Files
//! open for writing are durable besides (`SessionRecord`). After a restart clients tell again what
//! they have open, and nothing is collected for two leases.
//! Invariants: a session that was made by anything but a full list of open files is not `complete`,
//! and its owner is told so (`SessionUnknown`) until it has sent the list.
//! Locks: one mutex, never held across an await.

use firepond_core::ids::{ClientId, InodeId};
use firepond_core::sys::clock::{self, Instant};
use firepond_core::wire::meta::OpenFile;
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// All sessions.
pub(crate) struct Sessions {
    lease: Duration,
    started: Instant,
    settled: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    clients: HashMap<ClientId, Client>,
    open_count: HashMap<InodeId, usize>,
}

struct Client {
    seen: Instant,
    complete: bool,
    open_files: HashMap<(InodeId, u64), Instant>,
}

impl Client {
    fn new() -> Client {
        Client { seen: clock::now(), complete: false, open_files: HashMap::new() }
    }
}

impl Table {
    fn open(&mut self, client: ClientId, inode: InodeId, handle: u64) {
        let session = self.clients.entry(client).or_insert_with(Client::new);
        if session.open_files.insert((inode, handle), clock::now()).is_none() {
            *self.open_count.entry(inode).or_default() += 1;
        }
    }

    fn close(&mut self, client: ClientId, inode: InodeId, handle: u64) {
        let session = self.clients.get_mut(&client);
        if session.is_some_and(|one| one.open_files.remove(&(inode, handle)).is_some()) {
            self.forget(inode);
        }
    }

    fn forget(&mut self, inode: InodeId) {
        if let Some(count) = self.open_count.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.open_count.remove(&inode);
            }
        }
    }
}

impl Sessions {
    /// No sessions; they live for `lease` without a sign of life.
    pub(crate) fn new(lease: Duration) -> Sessions {
        let (settled, table) = (AtomicBool::new(false), Mutex::default());
        Sessions { lease, started: clock::now(), settled, table }
    }

    /// How long a session lives.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// Nobody can have anything open from an earlier life: the store was empty.
    pub(crate) fn settled_from_start(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Whether every living client has had the time to say what it has open.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed) || clock::now() >= self.started + 2 * self.lease
    }

    /// Notes a sign of life: whoever asks for anything is alive.
    pub(crate) fn touch(&self, client: ClientId) {
        let mut table = self.table.lock();
        table.clients.entry(client).or_insert_with(Client::new).seen = clock::now();
    }

    /// Notes an open file.
    pub(crate) fn open(&self, client: ClientId, inode: InodeId, handle: u64) {
        self.table.lock().open(client, inode, handle);
    }

    /// Forgets an open file.
    pub(crate) fn close(&self, client: ClientId, inode: InodeId, handle: u64) {
        self.table.lock().close(client, inode, handle);
    }

    /// Whether any living client has the file open.
    pub(crate) fn is_open(&self, inode: InodeId) -> bool {
        self.table.lock().open_count.contains_key(&inode)
    }

    /// Whether the client is known.
    pub(crate) fn is_alive(&self, client: ClientId) -> bool {
        self.table.lock().clients.contains_key(&client)
    }

    /// Keeps a session.
    ///
    /// # Errors
    /// `SessionUnknown` until the client has sent the list of its open files.
    pub(crate) fn keep(&self, client: ClientId) -> Result<()> {
        let mut table = self.table.lock();
        let session = table.clients.entry(client).or_insert_with(Client::new);
        session.seen = clock::now();
        if session.complete {
            return Ok(());
        }
        Err(Error::new(ErrorKind::SessionUnknown, "send the list of open files")
            .with("client", client))
    }

    /// Takes the list of a client's open files as the truth, except for files that it opened within
    /// the last lease: their open may have overtaken the list.
    pub(crate) fn register(&self, client: ClientId, open_files: &[OpenFile]) {
        let mut table = self.table.lock();
        for open in open_files {
            table.open(client, open.inode, open.handle);
        }
        let listed: std::collections::HashSet<_> =
            open_files.iter().map(|open| (open.inode, open.handle)).collect();
        let horizon = clock::now() - self.lease.min(clock::now() - self.started);
        let session = table.clients.entry(client).or_insert_with(Client::new);
        session.seen = clock::now();
        session.complete = true;
        let stale: Vec<_> = session
            .open_files
            .iter()
            .filter(|(file, opened)| !listed.contains(*file) && **opened < horizon)
            .map(|(file, _)| *file)
            .collect();
        for (inode, handle) in stale {
            table.close(client, inode, handle);
        }
    }

    /// Ends the sessions whose lease ran out; says whose.
    pub(crate) fn expire(&self) -> Vec<ClientId> {
        let mut table = self.table.lock();
        let now = clock::now();
        let dead: Vec<ClientId> = table
            .clients
            .iter()
            .filter(|(_, session)| session.seen + self.lease < now)
            .map(|(client, _)| *client)
            .collect();
        for client in &dead {
            let session = table.clients.remove(client);
            for (inode, _) in session.into_iter().flat_map(|one| one.open_files.into_keys()) {
                table.forget(inode);
            }
        }
        dead
    }

    /// Clients and open files.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = self.table.lock();
        (table.clients.len(), table.open_count.values().sum())
    }
}
