//! Memory that both ends of a connection on one host see: where bulk replies are put instead of
//! being pushed through the socket.
//!
//! Why: on one host the kernel copies every byte of a reply twice, into socket buffers and out of
//! them; a copy into memory that the caller maps costs a third of that. Why the caller owns it: it
//! says into which slot a reply may go, so nobody allocates for anybody else, and what is in flight
//! is bounded. How it is handed over: the caller names the descriptor in its own process, and a
//! server that may not open it (another user, another container) says so; then all goes through the
//! socket.
//! Invariants: a slot belongs to one call until the server's reply or the end of the connection,
//! even if the caller went away, so that nobody writes where another call reads; the memory cannot
//! shrink under a reader (sealed); bytes are copied out before they are verified. Lock: `free`.

use crate::sys::random;
use crate::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The kind of the request by which a caller shows its memory; services never see it.
pub(super) const ATTACH_KIND: u16 = 0x0003;
/// Bytes of a slot, and slots of a connection.
pub(super) const SLOT_BYTES: usize = 2 << 20;
const SLOT_COUNT: usize = 8;
/// Smaller replies stay in the socket: there they cost one system call less.
const REPLY_MIN_BYTES: usize = 32 << 10;
/// In front of the slots: the nonce.
const HEAD_BYTES: usize = 4096;
/// What a listener attaches at most, over all its connections.
const ATTACHED_MAX_BYTES: usize = 1 << 30;

/// What a server needs to find a caller's memory.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Attach {
    process: u32,
    descriptor: i32,
    slot_count: u32,
    slot_bytes: u32,
    /// Is also in the memory: proof that this is the right one.
    nonce: u128,
}

/// A mapping of the memory.
pub(super) struct Region {
    address: *mut u8,
    slot_count: usize,
}

// SAFETY: the memory is only copied from and to through raw pointers, slot by slot, by whoever the
// protocol lets use the slot; the mapping stays until the drop.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    fn map(file: &OwnedFd, slot_count: usize) -> std::io::Result<Region> {
        let len = Region::len(slot_count);
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at an address that the kernel picks.
        let address = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, file.as_fd(), 0)?
        };
        Ok(Region { address: address.cast(), slot_count })
    }

    fn len(slot_count: usize) -> usize {
        HEAD_BYTES + slot_count * SLOT_BYTES
    }

    fn nonce(&self) -> u128 {
        let mut bytes = [0; 16];
        // SAFETY: the mapping begins with a page that holds the nonce.
        unsafe { std::ptr::copy_nonoverlapping(self.address, bytes.as_mut_ptr(), 16) };
        u128::from_le_bytes(bytes)
    }

    fn slot(&self, slot: usize, len: usize) -> *mut u8 {
        assert!(slot < self.slot_count && len <= SLOT_BYTES, "within a slot");
        // SAFETY: inside the mapping, as was just checked.
        unsafe { self.address.add(HEAD_BYTES + slot * SLOT_BYTES) }
    }

    /// Puts parts one after the other into a slot.
    pub(super) fn put<'a>(&self, slot: usize, parts: impl Iterator<Item = &'a [u8]>) {
        let mut start = 0;
        for part in parts {
            let address = self.slot(slot, start + part.len());
            // SAFETY: the slot has room, and the source is memory of our own.
            unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), address.add(start), part.len());
            }
            start += part.len();
        }
    }

    /// Copies a part of a slot out.
    pub(super) fn take(&self, slot: usize, start: usize, into: &mut [u8]) {
        let address = self.slot(slot, start + into.len());
        // SAFETY: inside the slot; the destination is memory of our own. Whoever breaks the
        // protocol may write meanwhile: then the bytes are wrong, and their checksum says so.
        unsafe {
            std::ptr::copy_nonoverlapping(address.add(start), into.as_mut_ptr(), into.len());
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: our own mapping of this length, unmapped once.
        let unmapped =
            unsafe { rustix::mm::munmap(self.address.cast(), Region::len(self.slot_count)) };
        assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

/// The caller's end: memory with slots to lend.
pub(super) struct Slots {
    region: Region,
    free: Mutex<Vec<usize>>,
    file: Mutex<Option<OwnedFd>>,
    attach: Attach,
}

/// A slot that is lent to one call.
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: usize,
}

impl Slots {
    /// Fresh memory.
    ///
    /// # Errors
    /// `IoFailed` when the system has none.
    pub(super) fn new() -> Result<Arc<Slots>> {
        Slots::create().map_err(|error| Error::io(&error, "make shared memory"))
    }

    fn create() -> std::io::Result<Arc<Slots>> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("firepond", flags)?;
        rustix::fs::ftruncate(&file, Region::len(SLOT_COUNT) as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let region = Region::map(&file, SLOT_COUNT)?;
        let nonce = u128::from(random::u64()) << 64 | u128::from(random::u64());
        let bytes = nonce.to_le_bytes();
        // SAFETY: the mapping begins with a page for this, and nobody else has it yet.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), region.address, bytes.len()) };
        let attach = Attach {
            process: std::process::id(),
            descriptor: file.as_raw_fd(),
            slot_count: SLOT_COUNT as u32,
            slot_bytes: SLOT_BYTES as u32,
            nonce,
        };
        let free = Mutex::new((0..SLOT_COUNT).rev().collect());
        Ok(Arc::new(Slots { region, free, file: Mutex::new(Some(file)), attach }))
    }

    /// What the server is told.
    pub(super) fn attach(&self) -> Attach {
        self.attach
    }

    /// The server has its own descriptor now, or does not want one.
    pub(super) fn close_file(&self) {
        self.file.lock().take();
    }

    /// A slot for a reply of at most so many bytes, if it is worth one and one is free.
    pub(super) fn lend(self: &Arc<Self>, reply_bytes_max: usize) -> Option<Slot> {
        if !(REPLY_MIN_BYTES..=SLOT_BYTES).contains(&reply_bytes_max) {
            return None;
        }
        let number = self.free.lock().pop()?;
        Some(Slot { slots: Arc::clone(self), number })
    }

    /// Slots that are not lent.
    #[cfg(test)]
    pub(super) fn free_count(&self) -> usize {
        self.free.lock().len()
    }
}

impl Slot {
    /// How a header names it.
    pub(super) fn code(&self) -> u16 {
        self.number as u16 + 1
    }

    /// Copies a part of the reply out.
    pub(super) fn take(&self, start: usize, into: &mut [u8]) {
        self.slots.region.take(self.number, start, into);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.free.lock().push(self.number);
    }
}

/// The server's end: memory that a caller showed.
pub(super) struct Attached {
    region: Region,
    bytes: Arc<AtomicUsize>,
}

impl Attached {
    /// Maps a caller's memory; `bytes` counts what the listener attached.
    ///
    /// # Errors
    /// `Unsupported` when that memory cannot be had here, or is not what it is said to be.
    pub(super) fn open(attach: &Attach, bytes: &Arc<AtomicUsize>) -> Result<Attached> {
        let refused = |what: &str| Error::new(ErrorKind::Unsupported, what.to_owned());
        let count = attach.slot_count as usize;
        if attach.slot_bytes as usize != SLOT_BYTES || !(1..=SLOT_COUNT).contains(&count) {
            return Err(refused("shared memory of another shape"));
        }
        let len = Region::len(count);
        let path = format!("/proc/{}/fd/{}", attach.process, attach.descriptor);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| refused("the shared memory cannot be opened").with("reason", error))?;
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        let size = rustix::fs::fstat(&file).map_or(0, |found| found.st_size);
        if !seals.contains(SealFlags::SHRINK) || size != len as i64 {
            return Err(refused("the shared memory is not sealed, or of another size"));
        }
        if bytes.fetch_add(len, Ordering::Relaxed) + len > ATTACHED_MAX_BYTES {
            bytes.fetch_sub(len, Ordering::Relaxed);
            return Err(refused("too much memory is shared already"));
        }
        let mapped = Region::map(&file, count).map_err(|error| {
            bytes.fetch_sub(len, Ordering::Relaxed);
            refused("the shared memory cannot be mapped").with("reason", error)
        })?;
        let attached = Attached { region: mapped, bytes: Arc::clone(bytes) };
        if attached.region.nonce() != attach.nonce {
            return Err(refused("the shared memory is another one"));
        }
        Ok(attached)
    }

    /// The slot that a header names, if a reply of so many bytes may go there.
    pub(super) fn slot(&self, code: u16, len: usize) -> Option<usize> {
        let slot = usize::from(code).checked_sub(1)?;
        let fits = slot < self.region.slot_count && (1..=SLOT_BYTES).contains(&len);
        fits.then_some(slot)
    }

    /// Puts a reply into a slot.
    pub(super) fn put<'a>(&self, slot: usize, parts: impl Iterator<Item = &'a [u8]>) {
        self.region.put(slot, parts);
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.bytes.fetch_sub(Region::len(self.region.slot_count), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Arc<AtomicUsize> {
        Arc::default()
    }

    /// Goal: what one end puts, the other takes; a slot is lent once; memory is accounted for.
    /// Method: both ends in this process. Oracle: bytes, slots, the count.
    #[test]
    fn both_ends_see_the_same_memory() {
        let (slots, bytes) = (Slots::new().expect("memory"), bytes());
        let attached = Attached::open(&slots.attach(), &bytes).expect("our own memory");
        assert_eq!(bytes.load(Ordering::Relaxed), Region::len(SLOT_COUNT));
        let lent: Vec<Slot> = (0..SLOT_COUNT).filter_map(|_| slots.lend(SLOT_BYTES)).collect();
        assert_eq!((lent.len(), slots.free_count()), (SLOT_COUNT, 0));
        assert!(slots.lend(SLOT_BYTES).is_none(), "all are lent");
        for slot in &lent {
            let text = format!("slot {}", slot.code());
            let place = attached.slot(slot.code(), 4 + text.len()).expect("a slot");
            attached.put(place, [b"this".as_slice(), text.as_bytes()].into_iter());
        }
        for slot in &lent {
            let mut found = [0; 6];
            slot.take(4, &mut found);
            assert_eq!(found, format!("slot {}", slot.code()).as_bytes());
        }
        drop((lent, attached));
        assert_eq!((slots.free_count(), bytes.load(Ordering::Relaxed)), (SLOT_COUNT, 0));
        assert!(slots.lend(100).is_none(), "small replies stay in the socket");
        assert!(slots.lend(SLOT_BYTES + 1).is_none(), "a slot never overflows");
    }

    /// Goal: a server maps nothing that it should not. Method: a wrong nonce, shape, process,
    /// descriptor, and a file without seals. Oracle: refusals, and nothing counted.
    #[test]
    fn other_memory_is_refused() {
        let slots = Slots::new().expect("memory");
        let right = slots.attach();
        let file = rustix::fs::memfd_create("plain", MemfdFlags::CLOEXEC).expect("memory");
        rustix::fs::ftruncate(&file, Region::len(SLOT_COUNT) as u64).expect("room");
        let wrong = [
            Attach { nonce: right.nonce ^ 1, ..right },
            Attach { slot_count: SLOT_COUNT as u32 + 1, ..right },
            Attach { slot_count: 0, ..right },
            Attach { slot_count: 1, ..right },
            Attach { slot_bytes: 4096, ..right },
            Attach { process: u32::MAX, ..right },
            Attach { descriptor: 0, ..right },
            Attach { descriptor: file.as_raw_fd(), ..right },
        ];
        for attach in wrong {
            let bytes = bytes();
            let error = Attached::open(&attach, &bytes).err().expect("refused");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{attach:?}");
            assert_eq!(bytes.load(Ordering::Relaxed), 0, "{attach:?}");
        }
        slots.close_file();
        assert!(Attached::open(&right, &bytes()).is_err(), "nobody shows it any more");
    }

    /// Goal: slots that a header names are checked. Oracle: which are taken.
    #[test]
    fn slots_are_checked() {
        let slots = Slots::new().expect("memory");
        let attached = Attached::open(&slots.attach(), &bytes()).expect("our own memory");
        assert_eq!(attached.slot(0, 100), None, "none was named");
        assert_eq!(attached.slot(1, 100), Some(0));
        assert_eq!(attached.slot(SLOT_COUNT as u16 + 1, 100), None);
        assert_eq!(attached.slot(1, SLOT_BYTES + 1), None);
        assert_eq!(attached.slot(1, 0), None, "nothing needs no slot");
    }
}
