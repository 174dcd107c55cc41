//! Random operations against a small model of POSIX's name space.

use crate::common::{self, ROOT, User};
use firepond_core::ids::InodeId;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::{InodeKind, RenameMode};
use firepond_core::{ErrorKind, Result};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Outcome<T = ()> = std::result::Result<T, ErrorKind>;

/// One operation; numbers choose among all inodes that were ever made.
#[derive(Clone, Debug)]
enum Step {
    Create(usize, &'static str),
    MakeDirectory(usize, &'static str),
    MakeSymlink(usize, &'static str),
    RemoveDirectory(usize, &'static str),
    Unlink(usize, &'static str),
    Rename(usize, &'static str, usize, &'static str, bool),
    Link(usize, usize, &'static str),
    Truncate(usize, u64),
    Lookup(usize, &'static str),
    Stat(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let text = || prop::sample::select(vec!["a", "b", "c"]);
    let which = || 0_usize..64;
    prop_oneof![
        (which(), text()).prop_map(|(at, text)| Step::Create(at, text)),
        (which(), text()).prop_map(|(at, text)| Step::MakeDirectory(at, text)),
        (which(), text()).prop_map(|(at, text)| Step::MakeDirectory(at, text)),
        (which(), text()).prop_map(|(at, text)| Step::MakeSymlink(at, text)),
        (which(), text()).prop_map(|(at, text)| Step::RemoveDirectory(at, text)),
        (which(), text()).prop_map(|(at, text)| Step::Unlink(at, text)),
        (which(), text(), which(), text(), any::<bool>())
            .prop_map(|(from, a, to, b, keep)| Step::Rename(from, a, to, b, keep)),
        (which(), text(), which(), text())
            .prop_map(|(from, a, to, b)| Step::Rename(from, a, to, b, false)),
        (which(), which(), text()).prop_map(|(inode, at, text)| Step::Link(inode, at, text)),
        (which(), 0..9_u64).prop_map(|(at, size)| Step::Truncate(at, size)),
        (which(), text()).prop_map(|(at, text)| Step::Lookup(at, text)),
        which().prop_map(Step::Stat),
    ]
}

#[derive(Clone, Debug)]
struct Node {
    kind: InodeKind,
    links: u32,
    size: u64,
    parent: usize,
    entries: BTreeMap<&'static str, usize>,
    gone: bool,
}

/// What the name space must look like.
struct Model {
    nodes: Vec<Node>,
}

impl Model {
    fn new() -> Model {
        let mut model = Model { nodes: Vec::new() };
        model.nodes.push(Model::node(InodeKind::Directory, 0));
        model
    }

    fn node(kind: InodeKind, parent: usize) -> Node {
        let links = if kind == InodeKind::Directory { 2 } else { 1 };
        Node { kind, links, size: 0, parent, entries: BTreeMap::new(), gone: false }
    }

    fn directory(&self, at: usize) -> Outcome {
        match &self.nodes[at] {
            node if node.gone => Err(ErrorKind::NotFound),
            node if node.kind != InodeKind::Directory => Err(ErrorKind::NotADirectory),
            _ => Ok(()),
        }
    }

    fn entry(&self, at: usize, text: &str) -> Outcome<usize> {
        self.directory(at)?;
        self.nodes[at].entries.get(text).copied().ok_or(ErrorKind::NotFound)
    }

    fn make(&mut self, at: usize, text: &'static str, kind: InodeKind) -> Outcome {
        match self.entry(at, text) {
            Ok(_) => return Err(ErrorKind::AlreadyExists),
            Err(_) => self.directory(at)?,
        }
        let made = self.nodes.len();
        self.nodes.push(Model::node(kind, at));
        if kind == InodeKind::Symlink {
            self.nodes[made].size = 1;
        }
        self.enter(at, text, made);
        Ok(())
    }

    fn enter(&mut self, at: usize, text: &'static str, node: usize) {
        self.nodes[at].entries.insert(text, node);
        if self.nodes[node].kind == InodeKind::Directory {
            self.nodes[node].parent = at;
            self.nodes[at].links += 1;
        }
    }

    /// Takes a name away, and what it leads to if that was the last one.
    fn leave(&mut self, at: usize, text: &str, drops: bool) -> usize {
        let node = self.nodes[at].entries.remove(text).unwrap();
        let directory = self.nodes[node].kind == InodeKind::Directory;
        self.nodes[at].links -= u32::from(directory);
        if drops {
            self.nodes[node].links -= u32::from(!directory);
            let last = self.nodes[node].links == 0 && self.nodes[node].kind == InodeKind::Symlink;
            self.nodes[node].gone = directory || last;
        }
        node
    }

    fn remove(&mut self, at: usize, text: &str, directory: bool) -> Outcome {
        let node = self.entry(at, text)?;
        let is_directory = self.nodes[node].kind == InodeKind::Directory;
        match (directory, is_directory) {
            (true, false) => return Err(ErrorKind::NotADirectory),
            (false, true) => return Err(ErrorKind::IsADirectory),
            _ if !self.nodes[node].entries.is_empty() => return Err(ErrorKind::DirectoryNotEmpty),
            _ => self.leave(at, text, true),
        };
        Ok(())
    }

    fn is_below(&self, mut place: usize, directory: usize) -> bool {
        while place != directory && place != 0 {
            place = self.nodes[place].parent;
        }
        place == directory
    }

    fn rename(
        &mut self,
        from: (usize, &'static str),
        to: (usize, &'static str),
        keep: bool,
    ) -> Outcome {
        self.directory(from.0)?;
        self.directory(to.0)?;
        let moved = self.entry(from.0, from.1)?;
        let is_directory =
            |model: &Model, node: usize| model.nodes[node].kind == InodeKind::Directory;
        if keep && self.entry(to.0, to.1).is_ok() {
            return Err(ErrorKind::AlreadyExists);
        }
        if is_directory(self, moved) && self.is_below(to.0, moved) {
            return Err(ErrorKind::BadRename);
        }
        if let Ok(replaced) = self.entry(to.0, to.1) {
            if replaced == moved {
                return Ok(());
            }
            match (is_directory(self, moved), is_directory(self, replaced)) {
                (true, false) => return Err(ErrorKind::NotADirectory),
                (false, true) if self.is_below(from.0, replaced) => {
                    return Err(ErrorKind::DirectoryNotEmpty);
                }
                (false, true) => return Err(ErrorKind::IsADirectory),
                _ if !self.nodes[replaced].entries.is_empty() => {
                    return Err(ErrorKind::DirectoryNotEmpty);
                }
                _ => self.leave(to.0, to.1, true),
            };
        }
        self.leave(from.0, from.1, false);
        self.enter(to.0, to.1, moved);
        Ok(())
    }

    fn link(&mut self, node: usize, at: usize, text: &'static str) -> Outcome {
        self.directory(at)?;
        if self.nodes[node].gone {
            return Err(ErrorKind::StaleHandle);
        }
        if self.entry(at, text).is_ok() {
            return Err(ErrorKind::AlreadyExists);
        }
        match (self.nodes[node].kind, self.nodes[node].links) {
            (InodeKind::Directory, _) => Err(ErrorKind::NotPermitted),
            (_, 0) => Err(ErrorKind::NotFound),
            _ => {
                self.nodes[node].links += 1;
                self.enter(at, text, node);
                Ok(())
            }
        }
    }

    fn truncate(&mut self, node: usize, size: u64) -> Outcome {
        match &mut self.nodes[node] {
            node if node.gone => Err(ErrorKind::StaleHandle),
            node if node.kind == InodeKind::Directory => Err(ErrorKind::IsADirectory),
            node if node.kind == InodeKind::Symlink => Err(ErrorKind::InvalidArgument),
            node => {
                node.size = size;
                Ok(())
            }
        }
    }

    fn stat(&self, node: usize) -> Outcome<(InodeKind, u32, u64)> {
        match &self.nodes[node] {
            node if node.gone => Err(ErrorKind::StaleHandle),
            node => Ok((node.kind, node.links, node.size)),
        }
    }
}

/// Model and service side by side; `inodes[n]` is the service's inode of the model's node n.
struct Pair<S: KvStore> {
    model: Model,
    root: User<S>,
    inodes: Vec<InodeId>,
}

fn kind_of<T>(result: Result<T>) -> Outcome<T> {
    result.map_err(|error| error.kind())
}

impl<S: KvStore> Pair<S> {
    async fn run(&mut self, step: Step) {
        let pick = |at: usize| at % self.inodes.len();
        let root = &self.root;
        match step {
            Step::Create(at, text) => {
                let (at, kind) = (pick(at), InodeKind::File);
                let made = kind_of(root.touch(self.inodes[at], text).await);
                self.made(at, text, kind, made.map(|one| one.inode));
            }
            Step::MakeDirectory(at, text) => {
                let (at, kind) = (pick(at), InodeKind::Directory);
                let made = kind_of(root.mkdir(self.inodes[at], text).await);
                self.made(at, text, kind, made.map(|one| one.inode));
            }
            Step::MakeSymlink(at, text) => {
                let (at, kind) = (pick(at), InodeKind::Symlink);
                let made = kind_of(root.symlink(self.inodes[at], text, "x").await);
                self.made(at, text, kind, made.map(|one| one.inode));
            }
            Step::RemoveDirectory(at, text) => {
                let got = kind_of(root.rmdir(self.inodes[pick(at)], text).await);
                assert_eq!(got, self.model.remove(at % self.inodes.len(), text, true));
            }
            Step::Unlink(at, text) => {
                let got = kind_of(root.unlink(self.inodes[pick(at)], text).await);
                assert_eq!(got, self.model.remove(at % self.inodes.len(), text, false));
            }
            Step::Rename(from, a, to, b, keep) => {
                let (from, to) = (pick(from), pick(to));
                let mode = if keep { RenameMode::NoReplace } else { RenameMode::Replace };
                let rename = common::rename((self.inodes[from], a), (self.inodes[to], b), mode);
                let got = kind_of(root.call(rename).await).map(drop);
                assert_eq!(got, self.model.rename((from, a), (to, b), keep));
            }
            Step::Link(node, at, text) => {
                let (node, at) = (pick(node), pick(at));
                let got = kind_of(root.link(self.inodes[node], self.inodes[at], text).await);
                assert_eq!(got.map(drop), self.model.link(node, at, text));
            }
            Step::Truncate(node, size) => {
                let node = pick(node);
                let got = kind_of(root.truncate(self.inodes[node], size).await);
                assert_eq!(got.map(drop), self.model.truncate(node, size));
            }
            Step::Lookup(at, text) => {
                let at = pick(at);
                let got = kind_of(root.lookup(self.inodes[at], text).await);
                let wanted = self.model.entry(at, text).map(|node| self.inodes[node]);
                assert_eq!(got.map(|one| one.inode), wanted);
            }
            Step::Stat(node) => self.compare(pick(node)).await,
        }
    }

    fn made(&mut self, at: usize, text: &'static str, kind: InodeKind, made: Outcome<InodeId>) {
        assert_eq!(made.map(drop), self.model.make(at, text, kind));
        self.inodes.extend(made);
    }

    async fn compare(&self, node: usize) {
        let got = kind_of(self.root.stat(self.inodes[node]).await);
        let got = got.map(|one| (one.kind, one.link_count, one.size_bytes));
        assert_eq!(got, self.model.stat(node), "node {node}");
    }

    async fn compare_all(&self) {
        for (node, inode) in self.inodes.iter().enumerate() {
            self.compare(node).await;
            if self.model.directory(node).is_ok() {
                let wanted: Vec<&str> = self.model.nodes[node].entries.keys().copied().collect();
                assert_eq!(self.root.names(*inode).await, wanted);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..Default::default()
    })]

    /// Goal: results and errors are POSIX's in any order of operations. Oracle: the model.
    #[test]
    fn service_agrees_with_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = common::memory().await;
            let root = world.root();
            let mut pair = Pair { model: Model::new(), root, inodes: vec![ROOT] };
            for step in steps {
                pair.run(step).await;
            }
            pair.compare_all().await;
        });
    }
}
