//! A request that was executed, with what was answered.
//!
//! Why MessagePack inside: the reply is a wire type, whose maps older and newer releases both read.

use super::Record;
use firepond_core::error::WireError;
use firepond_core::wire::{self, meta::MetaReply};
use firepond_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The answer to a request, kept for the case that it got lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// A `Result<MetaReply, WireError>` as it travels.
    #[serde(with = "serde_bytes")]
    pub outcome: Vec<u8>,
}

impl Record for RequestRecord {
    const NAME: &'static str = "request";
    const VERSION: u8 = 1;
}

impl RequestRecord {
    /// Remembers an answer.
    pub fn new(outcome: &Result<MetaReply>) -> RequestRecord {
        let outcome: Result<&MetaReply, WireError> = outcome.as_ref().map_err(Error::to_wire);
        RequestRecord { outcome: wire::encode(&outcome).to_vec() }
    }

    /// The answer.
    ///
    /// # Errors
    /// The error that was answered, or `FrameInvalid` when it does not decode.
    pub fn outcome(&self) -> Result<MetaReply> {
        let outcome: Result<MetaReply, WireError> = wire::decode(&self.outcome)?;
        outcome.map_err(Error::from_wire)
    }
}
