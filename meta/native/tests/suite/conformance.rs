//! What every operation does, over both engines.

use crate::common::{self, ROOT, World, create, hint, name, rename};
use crate::on_both_engines;
use firepond_core::ErrorKind;
use firepond_core::ids::ChunkIndex;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::*;
use std::collections::BTreeSet;

on_both_engines!(
    names_lead_to_inodes,
    directories_count_their_subdirectories,
    entries_change_the_times_of_their_directory,
    hard_links_count,
    symbolic_links_hold_paths,
    rename_replaces_what_posix_lets_it,
    rename_exchanges_names,
    pages_cover_a_directory_once,
    chmod_chown_and_utimens,
    set_group_id_is_inherited,
    set_id_bits_go_with_a_write,
    close_settles_the_length,
    utimens_wins_over_earlier_writes,
    truncate_cuts_and_extends,
    layouts_spread_files,
    space_is_divided_by_replicas,
    status_counts,
);

/// Goal: lookup finds what create made, with ".", "..". Oracle: attributes.
async fn names_lead_to_inodes<S: KvStore>(world: World<S>) {
    let root = world.root();
    let directory = root.mkdir(ROOT, "d").await.unwrap();
    let file = root.create(directory.inode, "f", 0o640).await.unwrap();
    assert_eq!((file.kind, file.mode, file.link_count), (InodeKind::File, 0o640, 1));
    assert_eq!(root.lookup(directory.inode, "f").await.unwrap(), file);
    assert_eq!(root.lookup(directory.inode, ".").await.unwrap().inode, directory.inode);
    assert_eq!(root.lookup(directory.inode, "..").await.unwrap().inode, ROOT);
    assert_eq!(root.lookup(ROOT, "..").await.unwrap().inode, ROOT);
    let again = root.call(create(directory.inode, "f", 0o600, false)).await.unwrap();
    assert_eq!(again, MetaReply::Opened { attributes: file, created: false });
    let error = root.call(create(directory.inode, "f", 0o600, true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    root.unlink(directory.inode, "f").await.unwrap();
    let error = root.lookup(directory.inode, "f").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// Goal: link count = 2 + subdirectories through mkdir, rmdir, rename. Oracle: counting.
async fn directories_count_their_subdirectories<S: KvStore>(world: World<S>) {
    let root = world.root();
    let (a, b) = (root.mkdir(ROOT, "a").await.unwrap(), root.mkdir(ROOT, "b").await.unwrap());
    for at in 0..40 {
        root.mkdir(a.inode, &format!("s{at}")).await.unwrap();
        root.touch(a.inode, &format!("f{at}")).await.unwrap();
    }
    let links = async |inode| root.stat(inode).await.unwrap().link_count;
    assert_eq!((links(ROOT).await, links(a.inode).await, links(b.inode).await), (4, 42, 2));
    root.rename((a.inode, "s0"), (b.inode, "t")).await.unwrap();
    root.rename((a.inode, "s1"), (a.inode, "renamed")).await.unwrap();
    root.rmdir(a.inode, "s2").await.unwrap();
    assert_eq!((links(a.inode).await, links(b.inode).await), (40, 3));
    root.rename((a.inode, "s3"), (b.inode, "t")).await.unwrap();
    assert_eq!((links(a.inode).await, links(b.inode).await), (39, 3));
    let moved = root.lookup(b.inode, "t").await.unwrap();
    assert_eq!(root.lookup(moved.inode, "..").await.unwrap().inode, b.inode);
}

/// Goal: mtime and ctime of a directory follow its entries, and utimens. Oracle: order of times.
async fn entries_change_the_times_of_their_directory<S: KvStore>(world: World<S>) {
    let root = world.root();
    let directory = root.mkdir(ROOT, "d").await.unwrap();
    let mut before = root.stat(directory.inode).await.unwrap();
    for step in 0..5 {
        match step {
            0 => drop(root.touch(directory.inode, "f").await.unwrap()),
            1 => drop(root.symlink(directory.inode, "l", "x").await.unwrap()),
            2 => root.rename((directory.inode, "f"), (directory.inode, "g")).await.unwrap(),
            3 => drop(root.mkdir(directory.inode, "s").await.unwrap()),
            _ => root.unlink(directory.inode, "g").await.unwrap(),
        }
        let after = root.stat(directory.inode).await.unwrap();
        assert!(after.modified_ns > before.modified_ns, "step {step}");
        assert!(after.changed_ns > before.changed_ns, "step {step}");
        before = after;
    }
    let past = TimeUpdate::At(77);
    let changes = AttributeChanges { modified: Some(past), ..Default::default() };
    assert_eq!(root.set(directory.inode, changes).await.unwrap().modified_ns, 77);
    assert_eq!(root.stat(directory.inode).await.unwrap().modified_ns, 77);
    root.touch(directory.inode, "h").await.unwrap();
    let last = root.stat(directory.inode).await.unwrap();
    assert!(last.modified_ns > before.modified_ns && last.changed_ns >= last.modified_ns);
    let chmod = root.chmod(directory.inode, 0o700).await.unwrap();
    assert!(chmod.changed_ns > last.changed_ns && chmod.modified_ns == last.modified_ns);
}

/// Goal: names of a file are equal, the last one takes it away. Oracle: link counts.
async fn hard_links_count<S: KvStore>(world: World<S>) {
    let root = world.root();
    let file = root.touch(ROOT, "f").await.unwrap();
    assert_eq!(root.link(file.inode, ROOT, "g").await.unwrap().link_count, 2);
    root.rename((ROOT, "f"), (ROOT, "g")).await.unwrap();
    assert_eq!(root.names(ROOT).await, ["f", "g"], "two names of one inode stay");
    root.unlink(ROOT, "f").await.unwrap();
    assert_eq!(root.lookup(ROOT, "g").await.unwrap().link_count, 1);
    root.unlink(ROOT, "g").await.unwrap();
    assert_eq!(root.stat(file.inode).await.unwrap().link_count, 0);
    let error = root.link(file.inode, ROOT, "h").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// Goal: a symbolic link holds its target and goes with its name. Oracle: bytes, `StaleHandle`.
async fn symbolic_links_hold_paths<S: KvStore>(world: World<S>) {
    let root = world.root();
    let long = "x/".repeat(2047);
    for target in ["a", long.as_str()] {
        let link = root.symlink(ROOT, "l", target).await.unwrap();
        assert_eq!((link.kind, link.mode), (InodeKind::Symlink, 0o777));
        assert_eq!(link.size_bytes, target.len() as u64);
        let read = root.call(Operation::ReadLink { inode: link.inode }).await.unwrap();
        assert_eq!(read, MetaReply::LinkTarget(name(target)));
        root.unlink(ROOT, "l").await.unwrap();
        let error = root.stat(link.inode).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleHandle);
    }
}

/// Goal: POSIX's table of what may replace what. Oracle: the table, by hand.
async fn rename_replaces_what_posix_lets_it<S: KvStore>(world: World<S>) {
    use ErrorKind::{AlreadyExists, BadRename, DirectoryNotEmpty, IsADirectory, NotADirectory};
    let root = world.root();
    let file = root.touch(ROOT, "file").await.unwrap();
    let other = root.touch(ROOT, "other").await.unwrap();
    let empty = root.mkdir(ROOT, "empty").await.unwrap();
    let full = root.mkdir(ROOT, "full").await.unwrap();
    root.mkdir(full.inode, "in").await.unwrap();
    let refused = async |from, to| root.rename((ROOT, from), (ROOT, to)).await.unwrap_err().kind();
    assert_eq!(refused("file", "empty").await, IsADirectory);
    assert_eq!(refused("empty", "file").await, NotADirectory);
    assert_eq!(refused("empty", "full").await, DirectoryNotEmpty);
    let inside = root.rename((ROOT, "full"), (full.inode, "x")).await.unwrap_err();
    assert_eq!(inside.kind(), BadRename);
    let keep = rename((ROOT, "file"), (ROOT, "other"), RenameMode::NoReplace);
    assert_eq!(root.call(keep).await.unwrap_err().kind(), AlreadyExists);
    root.rename((ROOT, "file"), (ROOT, "other")).await.unwrap();
    assert_eq!(root.lookup(ROOT, "other").await.unwrap().inode, file.inode);
    assert_eq!(root.stat(other.inode).await.unwrap().link_count, 0);
    root.rename((ROOT, "full"), (ROOT, "empty")).await.unwrap();
    assert_eq!(root.lookup(ROOT, "empty").await.unwrap().inode, full.inode);
    assert_eq!(root.stat(empty.inode).await.unwrap_err().kind(), ErrorKind::StaleHandle);
    let fresh = rename((ROOT, "other"), (ROOT, "fresh"), RenameMode::NoReplace);
    root.call(fresh).await.unwrap();
    assert_eq!(root.names(ROOT).await, ["empty", "fresh"]);
}

/// Goal: an exchange swaps two names of any kinds, or nothing. Method: files and directories in and
/// across directories, each refusal. Oracle: inodes, parents and link counts, by hand.
async fn rename_exchanges_names<S: KvStore>(world: World<S>) {
    let root = world.root();
    let one = root.mkdir(ROOT, "one").await.unwrap().inode;
    let two = root.mkdir(ROOT, "two").await.unwrap().inode;
    let inner = root.mkdir(one, "inner").await.unwrap().inode;
    let file = root.touch(two, "file").await.unwrap().inode;
    let exchange = async |from, to| root.call(rename(from, to, RenameMode::Exchange)).await;
    exchange((one, "inner"), (two, "file")).await.unwrap();
    assert_eq!(root.lookup(one, "inner").await.unwrap().inode, file);
    assert_eq!(root.lookup(two, "file").await.unwrap().inode, inner);
    assert_eq!(root.lookup(inner, "..").await.unwrap().inode, two);
    assert_eq!(root.stat(one).await.unwrap().link_count, 2);
    assert_eq!(root.stat(two).await.unwrap().link_count, 3);
    exchange((ROOT, "one"), (ROOT, "two")).await.unwrap();
    assert_eq!(root.lookup(ROOT, "one").await.unwrap().inode, two);
    assert_eq!(root.stat(ROOT).await.unwrap().link_count, 4);
    exchange((two, "file"), (ROOT, "two")).await.unwrap();
    assert_eq!(root.lookup(two, "file").await.unwrap().inode, one);
    assert_eq!(root.stat(two).await.unwrap().link_count, 3);
    let refused = async |from, to| exchange(from, to).await.unwrap_err().kind();
    assert_eq!(refused((ROOT, "one"), (ROOT, "absent")).await, ErrorKind::NotFound);
    assert_eq!(refused((ROOT, "absent"), (ROOT, "one")).await, ErrorKind::NotFound);
    assert_eq!(refused((ROOT, "one"), (two, "file")).await, ErrorKind::BadRename);
    assert_eq!(refused((two, "file"), (ROOT, "one")).await, ErrorKind::BadRename);
    exchange((ROOT, "one"), (ROOT, "one")).await.unwrap();
    assert_eq!(root.names(ROOT).await, ["one", "two"]);
}

/// Goal: pages neither repeat nor skip, in name order, with attributes. Oracle: the set of names.
async fn pages_cover_a_directory_once<S: KvStore>(world: World<S>) {
    let root = world.root();
    let mut wanted = BTreeSet::new();
    for at in 0..57 {
        let text = format!("name-{at}");
        root.touch(ROOT, &text).await.unwrap();
        wanted.insert(text);
    }
    let (mut seen, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let (entries, more) = root.page(ROOT, after.as_deref(), 10).await.unwrap();
        for entry in entries {
            let attributes = entry.attributes.expect("asked for");
            assert_eq!((attributes.inode, attributes.kind), (entry.inode, entry.kind));
            seen.push(String::from_utf8(entry.name.into_vec()).unwrap());
        }
        after = seen.last().cloned();
        if !more {
            break;
        }
    }
    assert_eq!(seen, wanted.into_iter().collect::<Vec<_>>());
    assert_eq!(root.page(ROOT, Some("name-9"), 10).await.unwrap(), (Vec::new(), false));
}

/// Goal: owners change what is theirs. Oracle: attributes read back.
async fn chmod_chown_and_utimens<S: KvStore>(world: World<S>) {
    let (root, mut user) = (world.root(), world.user(7));
    let file = root.touch(ROOT, "f").await.unwrap();
    let owner = AttributeChanges { uid: Some(7), gid: Some(8), ..Default::default() };
    let owned = root.set(file.inode, owner).await.unwrap();
    assert_eq!((owned.uid, owned.gid), (7, 8));
    assert_eq!(user.chmod(file.inode, 0o2755).await.unwrap().mode, 0o755, "not of the group");
    user.who.groups = vec![8, 9];
    assert_eq!(user.chmod(file.inode, 0o6755).await.unwrap().mode, 0o6755);
    let group = AttributeChanges { gid: Some(9), ..Default::default() };
    let given = user.set(file.inode, group).await.unwrap();
    assert_eq!((given.gid, given.mode), (9, 0o755), "set-id bits go with chown");
    let times = AttributeChanges {
        accessed: Some(TimeUpdate::At(5)),
        modified: Some(TimeUpdate::At(1_000_000_007)),
        ..Default::default()
    };
    user.set(file.inode, times).await.unwrap();
    let read = user.stat(file.inode).await.unwrap();
    assert_eq!((read.accessed_ns, read.modified_ns), (5, 1_000_000_007));
    assert!(read.changed_ns > given.changed_ns);
}

/// Goal: a set-group-id directory hands its group down. Oracle: gid and mode.
async fn set_group_id_is_inherited<S: KvStore>(world: World<S>) {
    let root = world.root();
    let shared = root.mkdir(ROOT, "shared").await.unwrap();
    let group = AttributeChanges { gid: Some(50), mode: Some(0o2777), ..Default::default() };
    root.set(shared.inode, group).await.unwrap();
    let user = world.user(7);
    let file = user.create(shared.inode, "f", 0o2755).await.unwrap();
    assert_eq!((file.uid, file.gid, file.mode), (7, 50, 0o755), "not of the group");
    let below = user.mkdir(shared.inode, "d").await.unwrap();
    assert_eq!((below.gid, below.mode), (50, 0o2755));
}

/// Goal: what others wrote is never set-id. Oracle: mode.
async fn set_id_bits_go_with_a_write<S: KvStore>(world: World<S>) {
    let root = world.root();
    root.chmod(ROOT, 0o777).await.unwrap();
    let user = world.user(7);
    let file = user.create(ROOT, "f", 0o755).await.unwrap();
    user.chmod(file.inode, 0o6755).await.unwrap();
    assert_eq!(user.close(file.inode, hint(3, 0, 1)).await.unwrap().mode, 0o755);
    user.chmod(file.inode, 0o6755).await.unwrap();
    assert_eq!(user.truncate(file.inode, 1).await.unwrap().mode, 0o755);
}

/// Goal: close and fsync settle the size by the largest hint. Oracle: sizes; no chain is asked.
async fn close_settles_the_length<S: KvStore>(world: World<S>) {
    let root = world.root();
    let file = root.create(ROOT, "f", 0o644).await.unwrap();
    world.chunks.allow(0);
    let sync = |size| Operation::Sync { inode: file.inode, hint: hint(size, 0, u64::MAX) };
    root.call(sync(100)).await.unwrap();
    root.call(sync(70)).await.unwrap();
    assert_eq!(root.stat(file.inode).await.unwrap().size_bytes, 100);
    let closed = root.close(file.inode, hint(250, 0, u64::MAX)).await.unwrap();
    assert_eq!((closed.size_bytes, closed.modified_ns), (250, u64::MAX));
    assert_eq!(root.close(file.inode, None).await.unwrap().size_bytes, 250, "twice is fine");
}

/// Goal: cp -p works: times set before close stay. Oracle: modified_ns.
async fn utimens_wins_over_earlier_writes<S: KvStore>(world: World<S>) {
    let root = world.root();
    let file = root.create(ROOT, "f", 0o644).await.unwrap();
    let written_ns = file.modified_ns + 1;
    let past = AttributeChanges { modified: Some(TimeUpdate::At(9)), ..Default::default() };
    let stamped = root.set(file.inode, past).await.unwrap();
    root.close(file.inode, hint(10, 0, written_ns)).await.unwrap();
    let closed = root.stat(file.inode).await.unwrap();
    assert_eq!((closed.modified_ns, closed.size_bytes), (9, 10));
    let later_ns = stamped.changed_ns + 1_000_000_000;
    root.close(file.inode, hint(10, 0, later_ns)).await.unwrap();
    assert_eq!(root.stat(file.inode).await.unwrap().modified_ns, later_ns);
}

/// Goal: cut chunks never come back, holes need none. Oracle: the chunks on the chains.
async fn truncate_cuts_and_extends<S: KvStore>(world: World<S>) {
    const CHUNK: u64 = 1 << 16;
    let root = world.root();
    let file = root.create(ROOT, "f", 0o644).await.unwrap();
    let layout = file.layout.unwrap();
    world.chunks.write(file.inode, &layout, 0, 20 * CHUNK);
    root.close(file.inode, hint(20 * CHUNK, 0, 1)).await.unwrap();
    let cut = root.truncate(file.inode, 2 * CHUNK + 5).await.unwrap();
    assert_eq!((cut.size_bytes, cut.truncate_version), (2 * CHUNK + 5, 1));
    let left = vec![(0, 1 << 16), (1, 1 << 16), (2, 5)];
    assert_eq!(world.chunks.of(file.inode), left);
    let grown = root.truncate(file.inode, 9 * CHUNK).await.unwrap();
    assert_eq!((grown.size_bytes, grown.truncate_version), (9 * CHUNK, 1));
    assert_eq!(world.chunks.of(file.inode), left);
    // A length from before the cut does not come back; the chains are asked.
    let open = root.open(file.inode, 1, true).await.unwrap();
    assert_eq!(open.size_bytes, 9 * CHUNK);
    let stale = root.close(file.inode, hint(20 * CHUNK, 0, 1)).await.unwrap();
    assert_eq!(stale.size_bytes, 9 * CHUNK);
    // O_TRUNC; unsettled chunks of a writer go as well.
    root.open(file.inode, 1, true).await.unwrap();
    world.chunks.write(file.inode, &layout, 30 * CHUNK, CHUNK);
    let inode = file.inode;
    let truncate = Operation::Open { inode, handle: 2, read: false, write: true, truncate: true };
    root.call(truncate).await.unwrap();
    assert_eq!(world.chunks.of(file.inode), vec![]);
    assert_eq!(root.stat(file.inode).await.unwrap().size_bytes, 0);
}

/// Goal: small files use all chains evenly. Oracle: the first slot of consecutive files.
async fn layouts_spread_files<S: KvStore>(world: World<S>) {
    let root = world.root();
    let mut slots = [0; common::CHAINS as usize];
    for at in 0..25 {
        let layout = root.touch(ROOT, &format!("f{at}")).await.unwrap().layout.unwrap();
        assert_eq!(layout.stripe_count, common::CHAINS);
        slots[layout.chain_slot(ChunkIndex(0), common::CHAINS) as usize] += 1;
    }
    assert_eq!(slots, [5; common::CHAINS as usize]);
}

/// Goal: a shared disk counts once, replicas divide. Method: 2 disks of 1000, chains of 2.
async fn space_is_divided_by_replicas<S: KvStore>(world: World<S>) {
    let reply = world.root().call(Operation::StatFileSystem).await.unwrap();
    let wanted = MetaReply::FileSystem { total_bytes: 1000, free_bytes: 600, inode_count: 1 };
    assert_eq!(reply, wanted);
}

/// Goal: status tells what happened. Oracle: counting.
async fn status_counts<S: KvStore>(world: World<S>) {
    let root = world.root();
    let file = root.create(ROOT, "f", 0o644).await.unwrap();
    root.lookup(ROOT, "g").await.unwrap_err();
    let status = world.meta.status();
    assert_eq!((status.inode_count, status.client_count, status.open_file_count), (2, 1, 1));
    let create = status.operations.iter().find(|one| one.name == "create").unwrap();
    assert_eq!((create.count, create.failed), (1, 0));
    let lookup = status.operations.iter().find(|one| one.name == "lookup").unwrap();
    assert_eq!((lookup.count, lookup.failed), (1, 1));
    root.close(file.inode, None).await.unwrap();
    root.unlink(ROOT, "f").await.unwrap();
    world.settle().await;
    world.turn().await;
    let status = world.meta.status();
    assert_eq!((status.inode_count, status.open_file_count, status.collect_backlog), (1, 0, 0));
}
