//! How far the scrubber is in a target, so that a restart goes on where the last life stopped.
//!
//! Why only with the next group: a place that is lost means that some chunks are read again.

use super::codec::{Input, corrupt};
use super::core::Core;
use super::index::Change;
use firepond_core::ids::{ChunkId, TargetId};
use firepond_core::{Error, ErrorKind, Result};

/// First byte of the index's keys.
const KIND_PLACE: u8 = b'p';
/// The version of a place.
const PLACE_VERSION: u8 = 1;

/// How far the scrubber is in a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubPlace {
    /// The chunk that was checked last in this pass; none: the pass has not begun.
    pub after: Option<ChunkId>,
    /// When the last pass ended, in seconds since 1970; 0: none did.
    pub last_pass_unix_s: u64,
}

/// The change of the index that removes a target's place.
pub(super) fn removal(target: TargetId) -> Change {
    (place_key(target), None)
}

/// The place in a target.
pub(super) fn get(core: &Core, target: TargetId) -> Result<ScrubPlace> {
    core.check_disk()?;
    let key = place_key(target);
    let waiting = core.lazy.lock().get(&key).cloned().flatten();
    let found = match waiting {
        Some(place) => Some(place),
        None => core.index.get(&key)?,
    };
    found.map_or(Ok(ScrubPlace::default()), |bytes| decode(&bytes))
}

/// Remembers the place in a target; durable soon after.
pub(super) fn set(core: &Core, target: TargetId, place: &ScrubPlace) -> Result<()> {
    core.check_disk()?;
    core.target(target)?;
    core.lazy.lock().insert(place_key(target), Some(encode(place)));
    Ok(())
}

fn place_key(target: TargetId) -> Vec<u8> {
    let mut bytes = vec![KIND_PLACE];
    bytes.extend_from_slice(&target.0.to_be_bytes());
    bytes
}

fn encode(place: &ScrubPlace) -> Vec<u8> {
    let mut out = vec![PLACE_VERSION];
    out.extend_from_slice(&place.last_pass_unix_s.to_le_bytes());
    out.push(u8::from(place.after.is_some()));
    out.extend_from_slice(&place.after.unwrap_or(ChunkId([0; 16])).0);
    out
}

fn decode(bytes: &[u8]) -> Result<ScrubPlace> {
    let mut input = Input(bytes);
    let [version] = input.take()?;
    if version != PLACE_VERSION {
        return Err(Error::new(ErrorKind::Unsupported, "a place of a newer release")
            .with("place_version", version));
    }
    let last_pass_unix_s = u64::from_le_bytes(input.take()?);
    let [has_chunk] = input.take()?;
    let chunk = ChunkId(input.take()?);
    if !input.0.is_empty() {
        return Err(corrupt("the place of the scrubber is too long"));
    }
    Ok(ScrubPlace { after: (has_chunk != 0).then_some(chunk), last_pass_unix_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &[u8] = include_bytes!("../../../../tests/golden/v2/store_scrub_place.bin");

    /// Goal: places keep their bytes. Oracle: the golden file, and every damage is an error.
    #[test]
    fn golden_place() {
        let place = ScrubPlace { after: Some(ChunkId([7; 16])), last_pass_unix_s: 0x0102_0304 };
        assert_eq!(encode(&place), PLACE);
        assert_eq!(decode(PLACE).expect("decodes"), place);
        let fresh = ScrubPlace::default();
        assert_eq!(decode(&encode(&fresh)).expect("decodes"), fresh);
        assert!((0..PLACE.len()).all(|len| decode(&PLACE[..len]).is_err()));
    }
}
