//! A disk in memory that does what bad disks do, by a seed: it tears and drops what was not synced
//! when it crashes, rots, fills up, fails and is slow.
//!
//! Model: a write is at once visible to reads and joins the unsynced writes of its file; a sync
//! makes those durable. At a crash each page of each unsynced write is kept, dropped or torn at a
//! 512-byte sector. After the crash point every operation fails until `crash` is called.
//! Invariants: the same seed and the same operations give the same bytes.

use super::directory::written_bytes;
use super::{ALIGNMENT_BYTES, BoxFuture, Disk, DiskFile};
use crate::buffer::Buffer;
use crate::payload::Payload;
use crate::sys::clock;
use crate::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SECTOR_BYTES: usize = 512;

/// Counts operations that change a disk, and stops the world at one of them. Shared by everything
/// that belongs to one simulated machine.
#[derive(Default)]
pub struct CrashPoint {
    count: AtomicU64,
    stop_at: AtomicU64,
    on_stop: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl CrashPoint {
    /// Fails every operation from the `operation`-th on, counted from 1; 0 means never.
    pub fn stop_at(&self, operation: u64) {
        self.count.store(0, Ordering::Relaxed);
        self.stop_at.store(operation, Ordering::Relaxed);
    }

    /// Calls `act` when the crash point is reached, and at each operation after it.
    pub fn on_stop(&self, act: impl Fn() + Send + Sync + 'static) {
        *self.on_stop.lock() = Some(Box::new(act));
    }

    /// Operations since `stop_at` was called.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts one operation.
    ///
    /// # Errors
    /// `IoFailed` from the crash point on.
    pub fn tick(&self) -> Result<()> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        match self.stop_at.load(Ordering::Relaxed) {
            stop if stop != 0 && count >= stop => {
                if let Some(act) = &*self.on_stop.lock() {
                    act();
                }
                Err(self.stopped())
            }
            _ => Ok(()),
        }
    }

    fn stopped(&self) -> Error {
        Error::new(ErrorKind::IoFailed, "the simulated machine has crashed")
    }
}

/// The disk. Clones share it; keep one to crash it and to open the store again.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Inner>);

struct Inner {
    root: PathBuf,
    crash_point: Arc<CrashPoint>,
    state: Mutex<State>,
}

struct State {
    random: SmallRng,
    files: BTreeMap<PathBuf, FileState>,
    capacity_bytes: u64,
    delay: Duration,
    failing: bool,
    bytes_written: u64,
}

type Page = Arc<[u8; ALIGNMENT_BYTES]>;

/// Pages that were ever written; the others are zeros.
type Pages = BTreeMap<usize, Page>;

#[derive(Default)]
struct FileState {
    len: usize,
    /// What reads see.
    current: Pages,
    /// What survives a crash.
    durable: Pages,
    /// Writes since the last sync, page by page.
    unsynced: Vec<(usize, Page)>,
}

impl FileState {
    fn read(&self, into: &mut [u8], offset: usize) -> usize {
        let count = into.len().min(self.len.saturating_sub(offset));
        let mut done = 0;
        while done < count {
            let (number, start) =
                ((offset + done) / ALIGNMENT_BYTES, (offset + done) % ALIGNMENT_BYTES);
            let part = (ALIGNMENT_BYTES - start).min(count - done);
            let target = &mut into[done..done + part];
            match self.current.get(&number) {
                Some(page) => target.copy_from_slice(&page[start..start + part]),
                None => target.fill(0),
            }
            done += part;
        }
        count
    }

    fn cut(&mut self, len: usize) {
        let first = len.div_ceil(ALIGNMENT_BYTES);
        self.current.split_off(&first);
        self.durable.split_off(&first);
        self.unsynced.retain(|(number, _)| *number < first);
        self.len = len;
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new(seed: u64, capacity_bytes: u64, crash_point: Arc<CrashPoint>) -> SimulatedDisk {
        let state = State {
            random: SmallRng::seed_from_u64(seed),
            files: BTreeMap::new(),
            capacity_bytes,
            delay: Duration::ZERO,
            failing: false,
            bytes_written: 0,
        };
        let root = PathBuf::from("/simulated");
        SimulatedDisk(Arc::new(Inner { root, crash_point, state: Mutex::new(state) }))
    }

    /// The machine stops and starts again: what was not synced is kept, lost or torn, page by page.
    pub fn crash(&self) {
        self.0.crash_point.stop_at(0);
        let mut state = self.0.state.lock();
        let State { random, files, .. } = &mut *state;
        for file in files.values_mut() {
            for (number, page) in std::mem::take(&mut file.unsynced) {
                let survives = match random.random_range(0..3) {
                    0 => 0,
                    1 => ALIGNMENT_BYTES,
                    _ => random.random_range(0..=ALIGNMENT_BYTES / SECTOR_BYTES) * SECTOR_BYTES,
                };
                let before = file.durable.entry(number).or_insert_with(zeros);
                Arc::make_mut(before)[..survives].copy_from_slice(&page[..survives]);
            }
            file.current.clone_from(&file.durable);
        }
    }

    /// Flips one bit of a file.
    pub fn rot(&self, path: &Path, offset: usize) {
        if let Some(file) = self.0.state.lock().files.get_mut(path) {
            let (number, at) = (offset / ALIGNMENT_BYTES, offset % ALIGNMENT_BYTES);
            for pages in [&mut file.current, &mut file.durable] {
                Arc::make_mut(pages.entry(number).or_insert_with(zeros))[at] ^= 1;
            }
        }
    }

    /// The pages of a file that were ever written, by number.
    pub fn pages(&self, path: &Path) -> Vec<usize> {
        let state = self.0.state.lock();
        state.files.get(path).map(|file| file.current.keys().copied().collect()).unwrap_or_default()
    }

    /// The bytes of a file as reads see them.
    pub fn contents(&self, path: &Path) -> Vec<u8> {
        let state = self.0.state.lock();
        let Some(file) = state.files.get(path) else { return Vec::new() };
        let mut bytes = vec![0; file.len];
        file.read(&mut bytes, 0);
        bytes
    }

    /// Changes how much the disk holds.
    pub fn set_capacity_bytes(&self, capacity_bytes: u64) {
        self.0.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Makes every read, write and sync take this long.
    pub fn set_delay(&self, delay: Duration) {
        self.0.state.lock().delay = delay;
    }

    /// From now on (or no longer) every write and sync fails with `IoFailed`.
    pub fn set_failing(&self, failing: bool) {
        self.0.state.lock().failing = failing;
    }

    /// Whether it takes nothing now.
    pub fn is_failing(&self) -> bool {
        self.0.state.lock().failing
    }

    /// Bytes written since the disk was made.
    pub fn bytes_written(&self) -> u64 {
        self.0.state.lock().bytes_written
    }
}

fn zeros() -> Page {
    Arc::new([0; ALIGNMENT_BYTES])
}

impl State {
    fn used_bytes(&self) -> u64 {
        self.files.values().map(|file| file.len as u64).sum()
    }

    fn check(&self) -> Result<()> {
        match self.failing {
            true => Err(Error::new(ErrorKind::IoFailed, "the simulated disk fails")),
            false => Ok(()),
        }
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, create: bool) -> Result<Arc<dyn DiskFile>> {
        let mut state = self.0.state.lock();
        if create {
            state.files.entry(path.to_owned()).or_default();
        } else if !state.files.contains_key(path) {
            return Err(
                Error::new(ErrorKind::IoFailed, "no such file").with("path", path.display())
            );
        }
        Ok(Arc::new(SimulatedFile { disk: self.clone(), path: path.to_owned() }))
    }
    fn root(&self) -> &Path {
        &self.0.root
    }
    fn engine(&self) -> &'static str {
        "simulated"
    }
    fn space(&self) -> Result<(u64, u64)> {
        let state = self.0.state.lock();
        Ok((state.capacity_bytes, state.capacity_bytes.saturating_sub(state.used_bytes())))
    }
    fn list(&self) -> Result<Vec<PathBuf>> {
        Ok(self.0.state.lock().files.keys().cloned().collect())
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.0.state.lock().files.remove(path);
        Ok(())
    }
}

impl SimulatedFile {
    fn with<R>(&self, act: impl FnOnce(&mut State, &mut FileState) -> Result<R>) -> Result<R> {
        let mut state = self.disk.0.state.lock();
        let Some(mut file) = state.files.remove(&self.path) else {
            return Err(Error::new(ErrorKind::IoFailed, "the file was removed"));
        };
        let result = act(&mut state, &mut file);
        state.files.insert(self.path.clone(), file);
        result
    }

    fn write_now(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.disk.0.crash_point.tick()?;
        self.with(|state, file| {
            state.check()?;
            let start = offset as usize;
            let end = start + bytes.len();
            if file.len < end {
                let others = state.used_bytes();
                if others + end as u64 > state.capacity_bytes {
                    return Err(Error::new(ErrorKind::DiskFull, "the simulated disk is full"));
                }
                file.len = end;
            }
            for (index, bytes) in bytes.chunks_exact(ALIGNMENT_BYTES).enumerate() {
                let mut page = zeros();
                Arc::make_mut(&mut page).copy_from_slice(bytes);
                let number = start / ALIGNMENT_BYTES + index;
                file.current.insert(number, Arc::clone(&page));
                file.unsynced.push((number, page));
            }
            state.bytes_written += bytes.len() as u64;
            Ok(())
        })
    }

    fn sync_now(&self) -> Result<()> {
        self.disk.0.crash_point.tick()?;
        self.with(|state, file| {
            state.check()?;
            file.durable.extend(std::mem::take(&mut file.unsynced));
            Ok(())
        })
    }

    async fn pause(&self) {
        let delay = self.disk.0.state.lock().delay;
        if !delay.is_zero() {
            clock::sleep(delay).await;
        }
    }
}

impl DiskFile for SimulatedFile {
    fn read(&self, mut buffer: Buffer, offset: u64) -> BoxFuture<'_, (Result<usize>, Buffer)> {
        // The bytes are those of the moment when the read ends: whoever overwrites what is being
        // read shows.
        Box::pin(async move {
            self.pause().await;
            let read = self.with(|_, file| Ok(file.read(&mut buffer, offset as usize)));
            (read, buffer)
        })
    }

    fn read_cached(&self, _into: &mut [u8], _offset: u64) -> Option<usize> {
        None
    }

    fn read_in_place(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.with(|_, file| Ok(file.read(into, offset as usize)))
    }

    fn write_in_place(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_cached(bytes, offset)
    }

    fn write_cached(&self, bytes: &[u8], offset: u64) -> Result<()> {
        super::directory::check_aligned(bytes.len(), offset)?;
        self.write_now(bytes, offset)
    }

    fn write(
        &self,
        buffer: Payload,
        range: Range<usize>,
        offset: u64,
    ) -> BoxFuture<'_, Result<()>> {
        let written =
            written_bytes(&buffer, range, offset).and_then(|bytes| self.write_now(bytes, offset));
        Box::pin(async move {
            self.pause().await;
            written
        })
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        let synced = self.sync_now();
        Box::pin(async move {
            self.pause().await;
            synced
        })
    }

    fn sync_in_place(&self) -> BoxFuture<'_, Result<()>> {
        self.sync()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.with(|state, file| {
            let grows = len as usize > file.len;
            if grows && state.used_bytes() + len > state.capacity_bytes {
                return Err(Error::new(ErrorKind::DiskFull, "the simulated disk is full"));
            }
            file.cut(len as usize);
            Ok(())
        })
    }

    fn len(&self) -> Result<u64> {
        self.with(|_, file| Ok(file.len as u64))
    }

    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.with(|_, file| {
            let end = file.len.min((offset + len) as usize) / ALIGNMENT_BYTES;
            for number in (offset as usize).div_ceil(ALIGNMENT_BYTES)..end {
                file.current.remove(&number);
                file.durable.remove(&number);
            }
            Ok(())
        })
    }
}
