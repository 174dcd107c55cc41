//! The receiving half of a connection: headers and bodies through a small buffer, payloads straight
//! into their place.
//!
//! Why the vectored read: one system call fills what is left of a payload segment and takes the
//! next header along, so that a payload byte is copied twice only by accident.
//! Invariants: nothing is allocated before its length was checked; `start ≤ end ≤ buffer.len()`.

use crate::sys::net::TcpStream;
use crate::transport::frame::{FrameHeader, HEADER_BYTES, invalid};
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::io::{ErrorKind as IoKind, IoSliceMut};
use std::sync::Arc;

const BUFFER_BYTES: usize = 16 << 10;
/// Bytes after a payload segment that one read takes along: the next header, not much more.
const AHEAD_BYTES: usize = 2 << 10;

/// Reads frames from one socket.
pub(super) struct FrameReader {
    stream: Arc<TcpStream>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl FrameReader {
    pub(super) fn new(stream: Arc<TcpStream>) -> FrameReader {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        FrameReader { stream, buffer, start: 0, end: 0 }
    }

    /// Goes on where somebody else stopped, with what they received and did not use.
    pub(super) fn with_received(stream: Arc<TcpStream>, received: &[u8]) -> FrameReader {
        let mut buffer = vec![0; BUFFER_BYTES.max(received.len())].into_boxed_slice();
        buffer[..received.len()].copy_from_slice(received);
        FrameReader { stream, buffer, start: 0, end: received.len() }
    }

    /// True when nothing that was received waits to be looked at.
    pub(super) fn is_drained(&self) -> bool {
        self.start == self.end
    }

    /// The next frame's verified header and body; `None` when the peer closed between frames.
    pub(super) async fn next(&mut self) -> Result<Option<(FrameHeader, Bytes)>> {
        while self.end - self.start < HEADER_BYTES {
            if self.fill().await? == 0 {
                return if self.is_drained() { Ok(None) } else { Err(broken()) };
            }
        }
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&self.buffer[self.start..self.start + HEADER_BYTES]);
        let header = FrameHeader::parse(&bytes)?;
        self.start += HEADER_BYTES;
        let body = self.body(header.body_len.get() as usize).await?;
        header.verify(&body)?;
        Ok(Some((header, body)))
    }

    async fn body(&mut self, len: usize) -> Result<Bytes> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let mut body = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match self.try_fill(&mut [IoSliceMut::new(&mut body[filled..])])? {
                Some(count) => filled += count,
                None => self.readable().await?,
            }
        }
        Ok(Bytes::from(body))
    }

    /// Reads more into the buffer; 0 at the end of the stream.
    async fn fill(&mut self) -> Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        loop {
            match self.stream.try_read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == IoKind::WouldBlock => self.readable().await?,
                Err(error) if error.kind() == IoKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    /// Waits until the socket has bytes.
    pub(super) async fn readable(&self) -> Result<()> {
        self.stream.readable().await.map_err(|error| lost(&error))
    }

    /// Fills a part of `into` with what is there, without waiting; `None` when nothing is.
    pub(super) fn try_fill(&mut self, into: &mut [IoSliceMut<'_>]) -> Result<Option<usize>> {
        if !self.is_drained() {
            return Ok(Some(self.copy_out(into)));
        }
        let wanted: usize = into.iter().map(|slice| slice.len()).sum();
        let mut vector: Vec<IoSliceMut<'_>> = Vec::with_capacity(into.len() + 1);
        vector.extend(into.iter_mut().map(|slice| IoSliceMut::new(slice)));
        vector.push(IoSliceMut::new(&mut self.buffer[..AHEAD_BYTES]));
        match self.stream.try_read_vectored(&mut vector) {
            Ok(0) => Err(broken()),
            Ok(count) => {
                self.start = 0;
                self.end = count.saturating_sub(wanted);
                Ok(Some(count.min(wanted)))
            }
            Err(error) if error.kind() == IoKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == IoKind::Interrupted => Ok(Some(0)),
            Err(error) => Err(lost(&error)),
        }
    }

    fn copy_out(&mut self, into: &mut [IoSliceMut<'_>]) -> usize {
        let mut copied = 0;
        for slice in into {
            let count = slice.len().min(self.end - self.start);
            slice[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            copied += count;
        }
        copied
    }

    /// Throws `len` bytes of payload away.
    pub(super) async fn discard(&mut self, mut len: usize) -> Result<()> {
        let mut waste = vec![0; len.min(64 << 10)];
        while len > 0 {
            let limit = len.min(waste.len());
            match self.try_fill(&mut [IoSliceMut::new(&mut waste[..limit])])? {
                Some(count) => len -= count,
                None => self.readable().await?,
            }
        }
        Ok(())
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::PeerUnreachable, "the connection broke within a frame")
}

fn lost(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::PeerUnreachable, format!("the connection broke: {error}"))
}

/// The error of a frame that must not come now.
pub(super) fn out_of_place(what: &str, header: &FrameHeader) -> Error {
    invalid(what).with("request_id", header.request_id).with("flags", header.flags)
}
