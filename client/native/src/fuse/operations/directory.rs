//! Open directories.

use super::super::cursor::{Cursor, FIRST_POSITION, Step};
use super::super::handles::DirectoryHandle;
use super::Operations;
use firepond_core::Result;
use firepond_core::ids::InodeId;
use firepond_core::sys::clock;
use firepond_core::wire::meta::{Attributes, Credentials, InodeKind};

/// Entries asked of the metadata service at once.
const PAGE_COUNT: u32 = 512;
/// What readdir gives as the inode of "..": unknown, as libfuse does. The kernel knows the parent.
const UNKNOWN_INODE: InodeId = InodeId(0xffff_ffff);

/// One entry as it is given to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListedEntry<'a> {
    /// Where to go on after it.
    pub(crate) next_position: u64,
    pub(crate) inode: InodeId,
    pub(crate) kind: InodeKind,
    pub(crate) name: &'a [u8],
    /// If they were asked for; never for "." and "..".
    pub(crate) attributes: Option<&'a Attributes>,
    /// Whether the attributes are young enough for the kernel to keep.
    pub(crate) fresh: bool,
}

impl Operations {
    pub(crate) fn open_directory(&self, who: Credentials, inode: InodeId) -> u64 {
        let cursor = tokio::sync::Mutex::new(Cursor::default());
        self.directories.insert(DirectoryHandle { inode, who, cursor })
    }

    pub(crate) fn release_directory(&self, handle: u64) -> Result<()> {
        self.directories.remove(handle).map(|_| ())
    }

    /// Gives entries from `position` on to `emit` until that says that it took none, or a page
    /// ends.
    pub(crate) async fn read_directory(
        &self,
        handle: u64,
        position: u64,
        with_attributes: bool,
        mut emit: impl FnMut(ListedEntry<'_>) -> bool,
    ) -> Result<()> {
        let open = self.directories.get(handle)?;
        let mut cursor = open.cursor.lock().await;
        if position == 0 {
            cursor.rewind();
        }
        if !dot_entries(open.inode, position).all(&mut emit) {
            return Ok(());
        }
        let position = position.max(FIRST_POSITION);
        loop {
            match cursor.step(position, with_attributes) {
                Step::End => return Ok(()),
                Step::Serve(index) => {
                    let fresh = cursor.age() < self.options.attribute_timeout();
                    let rest = cursor.entries()[index..].iter().zip(position..);
                    rest.map(|(entry, at)| ListedEntry {
                        next_position: at + 1,
                        inode: entry.inode,
                        kind: entry.kind,
                        name: &entry.name,
                        attributes: entry.attributes.as_ref(),
                        fresh,
                    })
                    .all(&mut emit);
                    return Ok(());
                }
                Step::Fetch(start) => {
                    let (asked, after) = (clock::now(), start.after.clone());
                    let reading = self.file_system.read_directory(
                        &open.who,
                        open.inode,
                        after,
                        PAGE_COUNT,
                        with_attributes,
                    );
                    let (entries, more) = reading.await?;
                    cursor.install(start, entries, more, with_attributes, asked);
                }
            }
        }
    }
}

fn dot_entries(inode: InodeId, position: u64) -> impl Iterator<Item = ListedEntry<'static>> {
    let dots = [(inode, "."), (UNKNOWN_INODE, "..")];
    let rest = dots.into_iter().zip(1..).filter(move |(_, next)| *next > position);
    rest.map(|((inode, name), next_position)| ListedEntry {
        next_position,
        inode,
        kind: InodeKind::Directory,
        name: name.as_bytes(),
        attributes: None,
        fresh: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: "." and ".." come first, once each. Oracle: names by position.
    #[test]
    fn dots_come_first() {
        let names = |position| -> Vec<&[u8]> {
            dot_entries(InodeId(7), position).map(|entry| entry.name).collect()
        };
        assert_eq!(names(0), [&b"."[..], b".."]);
        assert_eq!(names(1), [&b".."[..]]);
        assert!(names(2).is_empty());
    }
}
