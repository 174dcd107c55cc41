//! The frame: a fixed header, a body, and one segment of the payload.
//!
//! Why segments: frames of different requests interleave on a connection, and a payload can be sent
//! on while it is still arriving. Layout and rules: docs/wire.md; golden bytes: tests/golden/v1.
//! Invariants: a header is believed only after magic, version, flags and limits were checked, and
//! its body only after the checksum; nothing is allocated for a length above its limit.

use super::TraceContext;
use crate::checksum::crc32c_pair;
use crate::wire::{BODY_MAX_BYTES, PAYLOAD_MAX_BYTES};
use crate::{Error, ErrorKind, Result};
use zerocopy::byteorder::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of every frame.
pub(crate) const MAGIC: [u8; 4] = *b"fpnd";
/// The framing that this release speaks.
pub(crate) const VERSION: u16 = 1;
/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 64;
/// The longest part of a payload in one frame.
pub(crate) const SEGMENT_MAX_BYTES: usize = 256 << 10;

/// The frame begins or continues a request.
pub(crate) const FLAG_REQUEST: u16 = 1;
/// The frame begins or continues a reply.
pub(crate) const FLAG_REPLY: u16 = 1 << 1;
/// A reply that is an error; the body is a `WireError`.
pub(crate) const FLAG_ERROR: u16 = 1 << 2;
/// Not the first frame of its request or reply; it has no body.
pub(crate) const FLAG_CONTINUATION: u16 = 1 << 3;
/// The last frame of its request or reply.
pub(crate) const FLAG_END: u16 = 1 << 4;
/// The caller gives its request up.
pub(crate) const FLAG_CANCEL: u16 = 1 << 5;
/// The server's first frame: the credits that it grants.
pub(crate) const FLAG_HELLO: u16 = 1 << 6;

const ROLE_FLAGS: u16 = FLAG_REQUEST | FLAG_REPLY | FLAG_CANCEL | FLAG_HELLO;
const KNOWN_FLAGS: u16 = ROLE_FLAGS | FLAG_ERROR | FLAG_CONTINUATION | FLAG_END;

/// The header of every frame, little-endian.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(crate) struct FrameHeader {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) flags: U16,
    /// `MessageKind`; 0 for hello and cancel.
    pub(crate) kind: U16,
    /// Of a request: one more than the slot of shared memory that its reply may use, or 0; of a
    /// reply: the same, if its payload is there.
    pub(crate) slot: U16,
    pub(crate) body_len: U32,
    /// Bytes of payload in this frame.
    pub(crate) payload_len: U32,
    /// Bytes of payload of the whole request or reply.
    pub(crate) payload_total: U32,
    /// What is left of the caller's time, in milliseconds.
    pub(crate) deadline_ms: U32,
    /// Chosen by the caller, unique on its connection.
    pub(crate) request_id: U64,
    pub(crate) trace_id: U128,
    pub(crate) span_id: U64,
    /// CRC32C of the 60 bytes before and of the body.
    pub(crate) checksum: U32,
}
const _: () = assert!(size_of::<FrameHeader>() == HEADER_BYTES);

impl FrameHeader {
    /// A header without body and payload.
    pub(crate) fn new(flags: u16, kind: u16, request_id: u64) -> FrameHeader {
        FrameHeader {
            magic: MAGIC,
            version: VERSION.into(),
            flags: flags.into(),
            kind: kind.into(),
            slot: 0.into(),
            body_len: 0.into(),
            payload_len: 0.into(),
            payload_total: 0.into(),
            deadline_ms: 0.into(),
            request_id: request_id.into(),
            trace_id: 0.into(),
            span_id: 0.into(),
            checksum: 0.into(),
        }
    }

    /// The trace context.
    pub(crate) fn trace(&self) -> TraceContext {
        TraceContext { trace_id: self.trace_id.get(), span_id: self.span_id.get() }
    }

    /// Sets the trace context.
    pub(crate) fn set_trace(&mut self, trace: TraceContext) {
        self.trace_id = trace.trace_id.into();
        self.span_id = trace.span_id.into();
    }

    /// True when the flag is set.
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags.get() & flag != 0
    }

    /// The bytes to send in front of `body`.
    pub(crate) fn seal(mut self, body: &[u8]) -> [u8; HEADER_BYTES] {
        assert!(body.len() <= BODY_MAX_BYTES, "a body never exceeds its limit");
        self.body_len = (body.len() as u32).into();
        self.checksum = self.checksum_with(body).into();
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(self.as_bytes());
        bytes
    }

    fn checksum_with(&self, body: &[u8]) -> u32 {
        crc32c_pair(&self.as_bytes()[..HEADER_BYTES - 4], body)
    }

    /// A header from outside, with everything checked that needs no body.
    ///
    /// # Errors
    /// `VersionUnsupported`, or `FrameInvalid` for anything else.
    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<FrameHeader> {
        let header = FrameHeader::read_from_bytes(bytes).map_err(|_| invalid("short header"))?;
        if header.magic != MAGIC {
            return Err(invalid("bad magic").with("magic", format!("{:02x?}", header.magic)));
        }
        if header.version.get() != VERSION {
            return Err(Error::new(ErrorKind::VersionUnsupported, "unknown frame version")
                .with("version", header.version));
        }
        header.check_flags()?;
        header.check_lengths()?;
        Ok(header)
    }

    fn check_flags(&self) -> Result<()> {
        let flags = self.flags.get();
        let one_role = (flags & ROLE_FLAGS).count_ones() == 1;
        let error_fits =
            !self.has(FLAG_ERROR) || flags & (FLAG_REPLY | FLAG_END) == FLAG_REPLY | FLAG_END;
        if flags & !KNOWN_FLAGS != 0 || !one_role || !error_fits {
            return Err(invalid("bad flags").with("flags", format!("{flags:#06x}")));
        }
        Ok(())
    }

    fn check_lengths(&self) -> Result<()> {
        let (body, part) = (self.body_len.get() as usize, self.payload_len.get() as usize);
        let total = self.payload_total.get() as usize;
        let bare = self.has(FLAG_CANCEL) || self.has(FLAG_HELLO) || self.has(FLAG_ERROR);
        let fits = body <= BODY_MAX_BYTES
            && part <= SEGMENT_MAX_BYTES
            && part <= total
            && total <= PAYLOAD_MAX_BYTES
            && !(self.has(FLAG_CONTINUATION) && body != 0)
            && !(bare && total != 0);
        if !fits {
            return Err(invalid("bad length")
                .with("body_bytes", body)
                .with("segment_bytes", part)
                .with("payload_bytes", total));
        }
        Ok(())
    }

    /// Checks header and body against the checksum.
    ///
    /// # Errors
    /// `FrameInvalid`.
    pub(crate) fn verify(&self, body: &[u8]) -> Result<()> {
        if self.checksum_with(body) != self.checksum.get() {
            return Err(invalid("bad checksum").with("request_id", self.request_id));
        }
        Ok(())
    }
}

/// The error of bytes that are no frame, or no frame that may come now.
pub(crate) fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::FrameInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MessageKind;
    use proptest::prelude::*;

    fn request() -> FrameHeader {
        let flags = FLAG_REQUEST | FLAG_END;
        let mut header = FrameHeader::new(flags, MessageKind::Update as u16, 0x0102_0304_0506_0708);
        header.deadline_ms = 1500.into();
        header.payload_len = 4096.into();
        header.payload_total = 4096.into();
        header.set_trace(TraceContext { trace_id: 0xaabb, span_id: 0xccdd });
        header
    }

    fn frame(header: FrameHeader, body: &[u8]) -> Vec<u8> {
        [header.seal(body).as_slice(), body].concat()
    }

    /// Goal: the bytes of version 1 never change. Oracle: golden files that are never edited.
    #[test]
    fn golden_frames() {
        let cases: [(FrameHeader, &[u8], &[u8]); 4] = [
            (
                request(),
                b"body",
                include_bytes!("../../../../../tests/golden/v1/frame_request.bin"),
            ),
            (
                FrameHeader::new(FLAG_REPLY | FLAG_ERROR | FLAG_END, MessageKind::Meta as u16, 9),
                b"\x80",
                include_bytes!("../../../../../tests/golden/v1/frame_error.bin"),
            ),
            (
                FrameHeader::new(FLAG_CANCEL | FLAG_END, 0, 77),
                b"",
                include_bytes!("../../../../../tests/golden/v1/frame_cancel.bin"),
            ),
            (
                FrameHeader::new(FLAG_HELLO | FLAG_END, 0, 0),
                b"\x81",
                include_bytes!("../../../../../tests/golden/v1/frame_hello.bin"),
            ),
        ];
        for (header, body, golden) in cases {
            assert_eq!(frame(header, body), golden);
            let bytes: &[u8; HEADER_BYTES] = golden[..HEADER_BYTES].try_into().expect("a header");
            let parsed = FrameHeader::parse(bytes).expect("parses");
            parsed.verify(&golden[HEADER_BYTES..]).expect("verifies");
        }
    }

    /// Goal: every wrong field is refused by name. Oracle: the message.
    #[test]
    fn wrong_fields_are_refused() {
        type Change = fn(&mut FrameHeader);
        let cases: [(Change, &str); 6] = [
            (|header| header.magic = *b"HTTP", "bad magic"),
            (|header| header.version = 9.into(), "unknown frame version"),
            (|header| header.flags = (FLAG_REQUEST | FLAG_REPLY).into(), "bad flags"),
            (|header| header.flags = 0x8001.into(), "bad flags"),
            (|header| header.payload_total = u32::MAX.into(), "bad length"),
            (|header| header.payload_len = 8192.into(), "bad length"),
        ];
        for (change, message) in cases {
            let mut header = request();
            change(&mut header);
            let error = FrameHeader::parse(&header.seal(b"")).expect_err(message);
            assert_eq!(error.message(), message);
        }
        let mut sealed = request().seal(b"body");
        sealed[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = FrameHeader::parse(&sealed).expect_err("body too long");
        assert_eq!(error.message(), "bad length");
    }

    proptest! {
        /// Goal: any bytes are refused or understood, never a panic. Oracle: a header that parses
        /// and verifies is one that `seal` would make.
        #[test]
        fn any_bytes_are_survived(
            noise in prop::array::uniform32(any::<u8>()),
            valid in any::<bool>(),
        ) {
            let mut bytes = request().seal(b"body");
            let start = if valid { 8 } else { 0 };
            bytes[start..start + 32].copy_from_slice(&noise);
            if let Ok(header) = FrameHeader::parse(&bytes) {
                prop_assert!(header.body_len.get() as usize <= BODY_MAX_BYTES);
                if header.verify(b"body").is_ok() {
                    prop_assert_eq!(header.seal(b"body"), bytes);
                }
            }
        }

        /// Goal: one flipped bit anywhere is noticed. Oracle: an error.
        #[test]
        fn flipped_bits_are_noticed(bit in 0..(HEADER_BYTES + 4) * 8) {
            let mut bytes = frame(request(), b"body");
            bytes[bit / 8] ^= 1 << (bit % 8);
            let head: &[u8; HEADER_BYTES] = bytes[..HEADER_BYTES].try_into().expect("a header");
            let body = &bytes[HEADER_BYTES..];
            let outcome = FrameHeader::parse(head).and_then(|header| header.verify(body));
            prop_assert!(outcome.is_err());
        }
    }
}
