//! The io_uring engine: callers submit, one thread reaps.
//!
//! Why callers submit themselves: a hop to a ring thread and back costs more than the system call.
//! The reaper wakes the waiting task, continues short transfers and submits what waited for room.
//! Invariants: an operation owns buffer, file and answer channel from submission to completion,
//! whatever becomes of the future; at most `DEPTH` operations are in the kernel, the others wait in
//! order; only the reaper looks at the completion queue; the submission queue is touched under
//! `state` only. Locks: `state` alone, never held across a system call that may block.

use super::directory::{Directory, OpenFile, written_bytes};
use super::{BoxFuture, Disk, DiskFile};
use crate::buffer::Buffer;
use crate::payload::Payload;
use crate::sys::task::spawn_thread;
use crate::{Error, ErrorKind, Result};
use io_uring::{IoUring, Probe, opcode, types};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Most operations in the kernel at a time.
const DEPTH: usize = 256;

/// The user data of the wake-up that ends the reaper.
const WAKE: u64 = 0;

/// io_uring over one directory.
pub struct IoUringDisk {
    directory: Directory,
    ring: Arc<RingHandle>,
}

struct UringFile {
    file: Arc<OpenFile>,
    ring: Arc<RingHandle>,
}

/// Keeps the reaper running; the last one that goes ends it.
struct RingHandle(Arc<Ring>);

struct Ring {
    ring: IoUring,
    state: Mutex<RingState>,
}

#[derive(Default)]
struct RingState {
    in_kernel: usize,
    waiting: VecDeque<Operation>,
    closed: bool,
}

struct Operation {
    file: Arc<OpenFile>,
    offset: u64,
    done: usize,
    fd: i32,
    work: Work,
}

enum Work {
    Read { buffer: Buffer, answer: oneshot::Sender<(Result<usize>, Buffer)> },
    Write { payload: Payload, range: Range<usize>, answer: oneshot::Sender<Result<()>> },
    Sync { answer: oneshot::Sender<Result<()>> },
}

/// What the reaper does with an operation that came back.
enum Step {
    Again(Operation),
    Ended,
}

impl IoUringDisk {
    /// Opens a directory, which is made when it is absent.
    ///
    /// # Errors
    /// `Unsupported` when the kernel refuses io_uring, `IoFailed` when there is no directory.
    pub fn open(root: &Path) -> Result<IoUringDisk> {
        Ok(IoUringDisk { directory: Directory::open(root)?, ring: Arc::new(RingHandle::start()?) })
    }
}

impl RingHandle {
    fn start() -> Result<RingHandle> {
        let refused = |error: std::io::Error| {
            Error::new(ErrorKind::Unsupported, "the kernel refuses io_uring").with("cause", error)
        };
        let ring = IoUring::builder().build(DEPTH as u32 * 2).map_err(refused)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(refused)?;
        let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE];
        if !needed.iter().all(|code| probe.is_supported(*code)) {
            return Err(Error::new(ErrorKind::Unsupported, "io_uring lacks reads or writes"));
        }
        let ring = Arc::new(Ring { ring, state: Mutex::default() });
        let reaper = Arc::clone(&ring);
        spawn_thread("firepond-uring", move || reaper.reap()).map_err(refused)?;
        Ok(RingHandle(ring))
    }
}

impl Drop for RingHandle {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        let wake = opcode::Nop::new().build().user_data(WAKE);
        // SAFETY: the queue is touched under `state` only; a Nop refers to no memory. The queue has
        // twice as many places as operations, so there is room.
        let pushed = unsafe { self.0.ring.submission_shared().push(&wake) };
        drop(state);
        if pushed.is_ok() {
            self.0.submit();
        }
    }
}

impl Ring {
    fn start(&self, operations: impl IntoIterator<Item = Operation>) {
        let mut state = self.state.lock();
        let before = state.in_kernel;
        for operation in operations {
            match state.in_kernel < DEPTH {
                true => self.push(&mut state, operation),
                false => state.waiting.push_back(operation),
            }
        }
        let is_pushed = state.in_kernel > before;
        drop(state);
        if is_pushed {
            self.submit();
        }
    }

    fn push(&self, state: &mut RingState, operation: Operation) {
        state.in_kernel += 1;
        let address = Box::into_raw(Box::new(operation));
        // SAFETY: just made from a Box; the reaper takes it back exactly once, at its completion.
        let entry = unsafe { (*address).entry() }.user_data(address as u64);
        // SAFETY: the operation owns its memory and file until its completion; the queue is touched
        // under `state` only.
        let pushed = unsafe { self.ring.submission_shared().push(&entry) };
        if pushed.is_err() {
            state.in_kernel -= 1;
            // SAFETY: the entry was refused, so the kernel never sees the address.
            let operation = *unsafe { Box::from_raw(address) };
            state.waiting.push_back(operation);
        }
    }

    /// Hands the queue to the kernel; whoever comes second finds nothing left to hand over.
    fn submit(&self) {
        for _ in 0..1000 {
            match self.ring.submit() {
                Ok(_) => return,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(_) => std::thread::yield_now(),
            }
        }
        tracing::warn!("io_uring takes no operations; the reaper tries again");
    }

    fn reap(&self) {
        loop {
            if let Err(error) = self.ring.submit_and_wait(1)
                && !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
            {
                tracing::error!(%error, "io_uring failed");
                return;
            }
            // SAFETY: only this thread looks at the completion queue.
            let completions = unsafe { self.ring.completion_shared() };
            let mut again = Vec::new();
            let mut ended = 0;
            for completion in completions {
                if completion.user_data() == WAKE {
                    continue;
                }
                let address = completion.user_data() as *mut Operation;
                // SAFETY: made by `push`; the kernel is done with it, and it comes back only once.
                let operation = *unsafe { Box::from_raw(address) };
                ended += 1;
                if let Step::Again(operation) = operation.advance(completion.result()) {
                    again.push(operation);
                }
            }
            if self.refill(ended, again) {
                return;
            }
        }
    }

    /// Submits what waited for room; true when the reaper has nothing left to do for ever.
    fn refill(&self, ended: usize, again: Vec<Operation>) -> bool {
        let mut state = self.state.lock();
        state.in_kernel -= ended;
        for operation in again.into_iter().rev() {
            state.waiting.push_front(operation);
        }
        while state.in_kernel < DEPTH {
            let Some(operation) = state.waiting.pop_front() else { break };
            self.push(&mut state, operation);
        }
        state.closed && state.in_kernel == 0
    }
}

impl Operation {
    fn entry(&mut self) -> io_uring::squeue::Entry {
        let offset = self.offset + self.done as u64;
        match &mut self.work {
            Work::Read { buffer, .. } => {
                self.fd = self.file.read_fd();
                let rest = &mut buffer[self.done..];
                let len = rest.len() as u32;
                opcode::Read::new(types::Fd(self.fd), rest.as_mut_ptr(), len).offset(offset).build()
            }
            Work::Write { payload, range, .. } => {
                let bytes = &payload.filled()[range.start + self.done..range.end];
                self.fd = self.file.write_fd(bytes, offset);
                opcode::Write::new(types::Fd(self.fd), bytes.as_ptr(), bytes.len() as u32)
                    .offset(offset)
                    .build()
            }
            Work::Sync { .. } => {
                self.fd = self.file.read_fd();
                opcode::Fsync::new(types::Fd(self.fd)).flags(types::FsyncFlags::DATASYNC).build()
            }
        }
    }

    fn wanted(&self) -> usize {
        match &self.work {
            Work::Read { buffer, .. } => buffer.len(),
            Work::Write { range, .. } => range.len(),
            Work::Sync { .. } => 0,
        }
    }

    fn advance(mut self, result: i32) -> Step {
        if result < 0 {
            let error = std::io::Error::from_raw_os_error(-result);
            let passing = matches!(-result, libc::EINTR | libc::EAGAIN);
            if passing || self.file.note_refusal(error.raw_os_error(), self.fd) {
                return Step::Again(self);
            }
            return self.end(Some(&error));
        }
        self.done += result as usize;
        let is_end_of_file = result == 0;
        if self.done < self.wanted() && !is_end_of_file {
            return Step::Again(self);
        }
        self.end(None)
    }

    /// Answers; nobody may be listening any more.
    fn end(self, error: Option<&std::io::Error>) -> Step {
        let done = self.done;
        let wanted = self.wanted();
        let failed = |what: &str| match error {
            Some(error) => Err(self.file.failed(error, what)),
            None => Ok(()),
        };
        let result = match &self.work {
            Work::Read { .. } => failed("read"),
            Work::Write { .. } if error.is_none() && done < wanted => {
                let full = std::io::Error::from_raw_os_error(libc::EIO);
                Err(self.file.failed(&full, "write"))
            }
            Work::Write { .. } => failed("write"),
            Work::Sync { .. } => failed("fdatasync"),
        };
        match self.work {
            Work::Read { buffer, answer } => {
                let _ = answer.send((result.map(|()| done), buffer));
            }
            Work::Write { payload, answer, .. } => {
                drop(payload);
                let _ = answer.send(result);
            }
            Work::Sync { answer } => {
                let _ = answer.send(result);
            }
        }
        Step::Ended
    }
}

impl Disk for IoUringDisk {
    fn open(&self, path: &Path, create: bool) -> Result<Arc<dyn DiskFile>> {
        let file = Arc::new(self.directory.open_file(path, create)?);
        Ok(Arc::new(UringFile { file, ring: Arc::clone(&self.ring) }))
    }
    fn root(&self) -> &Path {
        self.directory.root()
    }
    fn engine(&self) -> &'static str {
        "io_uring"
    }
    fn space(&self) -> Result<(u64, u64)> {
        self.directory.space()
    }
    fn list(&self) -> Result<Vec<PathBuf>> {
        self.directory.list()
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.directory.remove(path)
    }
}

impl UringFile {
    fn start(&self, offset: u64, work: Work) {
        let file = Arc::clone(&self.file);
        self.ring.0.start([Operation { file, offset, done: 0, fd: -1, work }]);
    }
}

impl DiskFile for UringFile {
    fn read(&self, buffer: Buffer, offset: u64) -> BoxFuture<'_, (Result<usize>, Buffer)> {
        let (answer, receiver) = oneshot::channel();
        self.start(offset, Work::Read { buffer, answer });
        Box::pin(async move {
            match receiver.await {
                Ok(answer) => answer,
                Err(_) => unreachable!("an operation ends with an answer"),
            }
        })
    }

    fn read_cached(&self, into: &mut [u8], offset: u64) -> Option<usize> {
        self.file.read_cached(into, offset)
    }

    fn read_in_place(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(into, offset)
    }

    fn write_cached(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_cached(bytes, offset)
    }

    fn write_in_place(&self, bytes: &[u8], offset: u64) -> Result<()> {
        super::directory::check_aligned(bytes.len(), offset)?;
        self.file.write_at(bytes, offset)
    }

    fn write(
        &self,
        buffer: Payload,
        range: Range<usize>,
        offset: u64,
    ) -> BoxFuture<'_, Result<()>> {
        self.write_scattered(buffer, vec![(range, offset)])
    }

    fn write_scattered(
        &self,
        buffer: Payload,
        parts: Vec<(Range<usize>, u64)>,
    ) -> BoxFuture<'_, Result<()>> {
        let (mut operations, mut receivers) = (Vec::new(), Vec::new());
        for (range, offset) in parts {
            if let Err(error) = written_bytes(&buffer, range.clone(), offset) {
                return Box::pin(std::future::ready(Err(error)));
            }
            let (answer, receiver) = oneshot::channel();
            let work = Work::Write { payload: buffer.clone(), range, answer };
            let file = Arc::clone(&self.file);
            operations.push(Operation { file, offset, done: 0, fd: -1, work });
            receivers.push(receiver);
        }
        self.ring.0.start(operations);
        Box::pin(async move {
            let mut result = Ok(());
            for receiver in receivers {
                result = result.and(receiver.await.unwrap_or_else(|_| Err(lost())));
            }
            result
        })
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        let (answer, receiver) = oneshot::channel();
        self.start(0, Work::Sync { answer });
        Box::pin(async move { receiver.await.unwrap_or_else(|_| Err(lost())) })
    }

    fn sync_in_place(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.file.sync() })
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> Result<u64> {
        self.file.len()
    }
    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.file.punch(offset, len)
    }
}

fn lost() -> Error {
    Error::internal("a disk operation was lost")
}
