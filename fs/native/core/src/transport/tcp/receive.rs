//! What a client's connection receives: the hello, and replies in any order.

use super::calls::PendingCall;
use super::client::Shared;
use super::hello::Hello;
use super::reader::{FrameReader, out_of_place};
use crate::transport::frame::{
    FLAG_CONTINUATION, FLAG_END, FLAG_ERROR, FLAG_HELLO, FLAG_REPLY, FrameHeader,
};
use crate::wire::decode;
use crate::{Error, Result};
use bytes::Bytes;
use std::io::IoSliceMut;
use std::sync::Arc;

/// Slices that one read fills.
const READ_SLICES: usize = 64;

/// Receives until the peer closes.
pub(super) async fn receive(
    shared: &Shared,
    reader: &mut FrameReader,
    is_greeted: bool,
) -> Result<()> {
    if !is_greeted {
        let Some((header, body)) = reader.next().await? else { return Ok(()) };
        if !header.has(FLAG_HELLO) {
            return Err(out_of_place("the first frame is no hello", &header));
        }
        shared.credits.grant(decode::<Hello>(&body)?);
    }
    while let Some((header, body)) = reader.next().await? {
        if !header.has(FLAG_REPLY) {
            return Err(out_of_place("a frame that only a client sends", &header));
        }
        reply_frame(shared, reader, &header, body).await?;
    }
    Ok(())
}

async fn reply_frame(
    shared: &Shared,
    reader: &mut FrameReader,
    header: &FrameHeader,
    body: Bytes,
) -> Result<()> {
    let id = header.request_id.get();
    let len = header.payload_len.get() as usize;
    let Some(call) = shared.calls.get(id) else { return reader.discard(len).await };
    if header.has(FLAG_ERROR) {
        shared.calls.remove(id);
        call.complete(Err(Error::from_wire(decode(&body)?).with("peer", &shared.peer)));
        return Ok(());
    }
    if !header.has(FLAG_CONTINUATION) {
        let total = header.payload_total.get() as usize;
        if let Err(error) = call.begin(body, total, &shared.buffers) {
            shared.calls.remove(id);
            call.complete(Err(error));
        }
    }
    match header.slot.get() {
        0 => segment(&call, reader, header, len).await?,
        code => call.take_slot(code, header.payload_total.get() as usize)?,
    }
    if header.has(FLAG_END) {
        shared.calls.remove(id);
        call.finish();
    }
    Ok(())
}

/// Reads one segment into the call's sink, or throws it away once the caller is gone.
async fn segment(
    call: &Arc<PendingCall>,
    reader: &mut FrameReader,
    header: &FrameHeader,
    mut len: usize,
) -> Result<()> {
    while len > 0 {
        let filled = call.with_sink(|sink| {
            if sink.missing() < len {
                return Err(out_of_place("more payload than announced", header));
            }
            let mut slices = sink.unfilled_slices(len, READ_SLICES);
            let mut vector: Vec<_> =
                slices.iter_mut().map(|slice| IoSliceMut::new(slice)).collect();
            let count = reader.try_fill(&mut vector)?;
            drop(vector);
            drop(slices);
            sink.advance(count.unwrap_or(0));
            Ok(count)
        });
        match filled {
            None => return reader.discard(len).await,
            Some(Ok(Some(count))) => len -= count,
            Some(Ok(None)) => reader.readable().await?,
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(())
}
