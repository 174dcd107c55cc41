//! Where a reader of a directory is: positions that stay right while entries come and go.
//!
//! The kernel names a place by a number; the metadata service names it by "after this name". The
//! cursor keeps the page that is being read and, for each page before it, the name it starts after.
//! A position counts the entries that this open directory has given since it was rewound; 0 and 1
//! are "." and "..".
//! Invariants: an entry that exists during the whole scan is given exactly once; memory is one page
//! and one name a page, however large the directory is.
//! Limit: after a seek back into an earlier page, entries of that page that came or went meanwhile
//! shift the rest of the page.

use firepond_core::sys::clock::{self, Instant};
use firepond_core::wire::meta::DirectoryEntry;
use std::time::Duration;

/// Position of the first real entry.
pub(super) const FIRST_POSITION: u64 = 2;

/// What has to happen before an entry can be given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The entries from this index of `entries()` on are next.
    Serve(usize),
    /// Ask for a page after this name, then `install` it.
    Fetch(PageStart),
    /// There are no more.
    End,
}

/// Where a page starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageStart {
    /// Position of its first entry.
    pub(super) position: u64,
    /// The name before its first entry; none at the start of the directory.
    pub(super) after: Option<Vec<u8>>,
}

/// One reader's place.
#[derive(Default)]
pub(super) struct Cursor {
    /// Starts of the pages seen since the rewind, in order; the first is the start of the
    /// directory.
    starts: Vec<PageStart>,
    page: Option<Page>,
}

struct Page {
    start: PageStart,
    entries: Vec<DirectoryEntry>,
    more: bool,
    with_attributes: bool,
    asked: Instant,
}

impl Cursor {
    /// What to do to give the entry at a position, with attributes or not.
    pub(super) fn step(&self, position: u64, with_attributes: bool) -> Step {
        assert!(position >= FIRST_POSITION, "dot entries are the caller's");
        let Some(page) = &self.page else { return Step::Fetch(self.start_before(position)) };
        let end = page.start.position + page.entries.len() as u64;
        if position < page.start.position {
            return Step::Fetch(self.start_before(position));
        }
        if position >= end {
            return if page.more { Step::Fetch(page.next_start()) } else { Step::End };
        }
        let index = (position - page.start.position) as usize;
        if with_attributes && !page.with_attributes {
            let after = match index.checked_sub(1) {
                Some(before) => Some(page.entries[before].name.to_vec()),
                None => page.start.after.clone(),
            };
            return Step::Fetch(PageStart { position, after });
        }
        Step::Serve(index)
    }

    /// Takes a page that was asked for at `asked`, as `step` said.
    pub(super) fn install(
        &mut self,
        start: PageStart,
        entries: Vec<DirectoryEntry>,
        more: bool,
        with_attributes: bool,
        asked: Instant,
    ) {
        if self.starts.last().is_none_or(|last| last.position < start.position) {
            self.starts.push(start.clone());
        }
        // A page that claims to have successors but is empty would be asked for for ever.
        let more = more && !entries.is_empty();
        self.page = Some(Page { start, entries, more, with_attributes, asked });
    }

    /// Forgets everything: the next scan sees the directory as it is then.
    pub(super) fn rewind(&mut self) {
        *self = Cursor::default();
    }

    /// The entries of the page at hand.
    pub(super) fn entries(&self) -> &[DirectoryEntry] {
        self.page.as_ref().map_or(&[], |page| &page.entries)
    }

    /// How long ago the page at hand was asked for.
    pub(super) fn age(&self) -> Duration {
        self.page.as_ref().map_or(Duration::ZERO, |page| clock::now().duration_since(page.asked))
    }

    fn start_before(&self, position: u64) -> PageStart {
        let found = self.starts.iter().rev().find(|start| start.position <= position);
        found.cloned().unwrap_or(PageStart { position: FIRST_POSITION, after: None })
    }
}

impl Page {
    fn next_start(&self) -> PageStart {
        let last = self.entries.last().map(|entry| entry.name.to_vec());
        PageStart {
            position: self.start.position + self.entries.len() as u64,
            after: last.or_else(|| self.start.after.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::InodeId;
    use firepond_core::wire::meta::InodeKind;
    use std::collections::BTreeSet;

    /// A directory as the metadata service shows it: names in order, in pages of three.
    fn fetch(names: &BTreeSet<String>, start: &PageStart) -> (Vec<DirectoryEntry>, bool) {
        let after = start.after.as_ref().map(|name| String::from_utf8(name.clone()).expect("text"));
        let mut rest = names.iter().filter(|name| after.as_ref().is_none_or(|after| *name > after));
        let page: Vec<_> = rest.by_ref().take(3).map(|name| entry(name)).collect();
        (page, rest.next().is_some())
    }

    fn entry(name: &str) -> DirectoryEntry {
        DirectoryEntry {
            name: name.as_bytes().to_vec().into(),
            inode: InodeId(1),
            kind: InodeKind::File,
            attributes: None,
        }
    }

    fn next(cursor: &mut Cursor, names: &BTreeSet<String>, position: u64) -> Option<String> {
        loop {
            match cursor.step(position, false) {
                Step::Serve(index) => {
                    let name = cursor.entries()[index].name.to_vec();
                    return Some(String::from_utf8(name).expect("text"));
                }
                Step::End => return None,
                Step::Fetch(start) => {
                    let (page, more) = fetch(names, &start);
                    cursor.install(start, page, more, false, clock::now());
                }
            }
        }
    }

    /// Goal: what stays is given exactly once while other names come and go.
    /// Method: scan 20 names; at each step remove one that was given and add one before the place.
    /// Oracle: the names that stayed, in order.
    #[test]
    fn scan_is_stable_under_changes() {
        let mut names: BTreeSet<String> = (0..20).map(|number| format!("f{number:02}")).collect();
        let stayed: Vec<String> = names.iter().cloned().collect();
        let (mut cursor, mut given, mut position) = (Cursor::default(), Vec::new(), 2);
        while let Some(name) = next(&mut cursor, &names, position) {
            names.remove(&name);
            names.insert(format!("a{position}"));
            given.push(name);
            position += 1;
        }
        assert_eq!(given, stayed);
    }

    /// Goal: the kernel may come back to a place that it did not take. Method: each position twice,
    /// and a seek into an earlier page. Oracle: the same names.
    #[test]
    fn positions_can_be_read_again() {
        let names: BTreeSet<String> = (0..10).map(|number| format!("f{number}")).collect();
        let mut cursor = Cursor::default();
        for position in 2..12 {
            let name = next(&mut cursor, &names, position);
            assert_eq!(name, Some(format!("f{}", position - 2)));
            assert_eq!(next(&mut cursor, &names, position), name);
        }
        assert_eq!(next(&mut cursor, &names, 12), None);
        assert_eq!(next(&mut cursor, &names, 3).as_deref(), Some("f1"));
        assert_eq!(next(&mut cursor, &names, 11).as_deref(), Some("f9"));
    }

    /// Goal: attributes are fetched when they are wanted and absent. Oracle: the step.
    #[test]
    fn attributes_are_fetched_from_the_place_on() {
        let mut cursor = Cursor::default();
        let start = PageStart { position: 2, after: None };
        cursor.install(start, vec![entry("a"), entry("b")], false, false, clock::now());
        assert_eq!(cursor.step(3, false), Step::Serve(1));
        let wanted = PageStart { position: 3, after: Some(b"a".to_vec()) };
        assert_eq!(cursor.step(3, true), Step::Fetch(wanted));
        cursor.rewind();
        assert!(cursor.entries().is_empty());
    }
}
