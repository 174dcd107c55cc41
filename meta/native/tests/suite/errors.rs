//! The error of each wrong use, as errno.

use crate::common::{ROOT, User, World, create, name, rename};
use crate::on_both_engines;
use firepond_core::ids::InodeId;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::*;

on_both_engines!(
    wrong_names_answer_like_posix,
    wrong_inodes_answer_like_posix,
    missing_rights_answer_like_posix
);

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EEXIST: i32 = 17;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;
const ENAMETOOLONG: i32 = 36;
const ENOTEMPTY: i32 = 39;
const ELOOP: i32 = 40;
const ESTALE: i32 = 116;

fn mkdir(parent: InodeId, text: &str) -> Operation {
    Operation::MakeDirectory { parent, name: name(text), mode: 0o755 }
}

fn rmdir(parent: InodeId, text: &str) -> Operation {
    Operation::RemoveDirectory { parent, name: name(text) }
}

fn unlink(parent: InodeId, text: &str) -> Operation {
    Operation::Unlink { parent, name: name(text) }
}

fn lookup(parent: InodeId, text: &str) -> Operation {
    Operation::Lookup { parent, name: name(text) }
}

fn symlink(parent: InodeId, text: &str, to: &str) -> Operation {
    Operation::MakeSymlink { parent, name: name(text), target: name(to) }
}

fn link(inode: InodeId, new_parent: InodeId, text: &str) -> Operation {
    Operation::Link { inode, new_parent, new_name: name(text) }
}

fn truncate(inode: InodeId, size: u64) -> Operation {
    let changes = AttributeChanges { size_bytes: Some(size), ..Default::default() };
    Operation::SetAttributes { inode, changes }
}

fn open(inode: InodeId, write: bool) -> Operation {
    Operation::Open { inode, handle: 9, read: !write, write, truncate: false }
}

fn read_directory(inode: InodeId) -> Operation {
    Operation::ReadDirectory { inode, after: None, limit: 0, attributes: false }
}

fn move_to(from: (InodeId, &str), to: (InodeId, &str)) -> Operation {
    rename(from, to, RenameMode::Replace)
}

/// What the tables speak of.
struct Cast {
    file: InodeId,
    dir: InodeId,
    sym: InodeId,
    gone: InodeId,
}

async fn cast<S: KvStore>(root: &User<S>) -> Cast {
    let file = root.touch(ROOT, "file").await.unwrap().inode;
    let dir = root.mkdir(ROOT, "dir").await.unwrap().inode;
    root.touch(dir, "in").await.unwrap();
    let sym = root.symlink(ROOT, "sym", "file").await.unwrap().inode;
    let gone = root.mkdir(ROOT, "gone").await.unwrap().inode;
    root.rmdir(ROOT, "gone").await.unwrap();
    Cast { file, dir, sym, gone }
}

async fn check<S: KvStore>(user: &User<S>, table: impl IntoIterator<Item = (Operation, i32)>) {
    for (operation, errno) in table {
        let shown = format!("{operation:?}");
        let error = user.call(operation).await.expect_err(&shown);
        assert_eq!(error.errno(), errno, "{shown}: {error}");
    }
}

/// Goal: every wrong name has POSIX's errno. Oracle: the table, from Linux's man pages.
async fn wrong_names_answer_like_posix<S: KvStore>(world: World<S>) {
    let root = world.root();
    let Cast { file, dir, sym, gone } = cast(&root).await;
    let (long, target) = ("n".repeat(256), "t".repeat(4096));
    let table = [
        (lookup(ROOT, "none"), ENOENT),
        (lookup(ROOT, ""), ENOENT),
        (lookup(ROOT, "a/b"), EINVAL),
        (lookup(ROOT, "a\0b"), EINVAL),
        (lookup(ROOT, &long), ENAMETOOLONG),
        (create(ROOT, "file", 0o644, true), EEXIST),
        (create(ROOT, ".", 0o644, false), EEXIST),
        (create(ROOT, "dir", 0o644, false), EISDIR),
        (create(ROOT, "sym", 0o644, false), ELOOP),
        (create(ROOT, &long, 0o644, true), ENAMETOOLONG),
        (mkdir(ROOT, "dir"), EEXIST),
        (mkdir(ROOT, ".."), EEXIST),
        (rmdir(ROOT, "dir"), ENOTEMPTY),
        (rmdir(ROOT, "file"), ENOTDIR),
        (rmdir(ROOT, "sym"), ENOTDIR),
        (rmdir(ROOT, "none"), ENOENT),
        (rmdir(dir, "."), EINVAL),
        (rmdir(dir, ".."), ENOTEMPTY),
        (unlink(ROOT, "dir"), EISDIR),
        (unlink(ROOT, "."), EISDIR),
        (unlink(ROOT, "none"), ENOENT),
        (symlink(ROOT, "file", "x"), EEXIST),
        (symlink(ROOT, "new", ""), ENOENT),
        (symlink(ROOT, "new", &target), ENAMETOOLONG),
        (symlink(ROOT, "new", "a\0"), EINVAL),
        (link(file, ROOT, "dir"), EEXIST),
        (move_to((ROOT, "none"), (ROOT, "new")), ENOENT),
        (move_to((ROOT, "dir"), (dir, "new")), EINVAL),
        (move_to((ROOT, "."), (ROOT, "new")), EINVAL),
        (move_to((ROOT, "dir"), (ROOT, "..")), EINVAL),
        (move_to((ROOT, "dir"), (ROOT, "file")), ENOTDIR),
        (move_to((ROOT, "file"), (ROOT, "dir")), EISDIR),
        (move_to((ROOT, "file"), (gone, "new")), ENOENT),
        (move_to((ROOT, "file"), (sym, "new")), ENOTDIR),
        (move_to((ROOT, "file"), (ROOT, &long)), ENAMETOOLONG),
    ];
    check(&root, table).await;
    assert_eq!(root.names(ROOT).await, ["dir", "file", "sym"], "nothing was changed");
}

/// Goal: every wrong inode has POSIX's errno. Oracle: the table, from Linux's man pages.
async fn wrong_inodes_answer_like_posix<S: KvStore>(world: World<S>) {
    let root = world.root();
    let Cast { file, dir, sym, gone } = cast(&root).await;
    let mut odd_chunk = create(ROOT, "new", 0o644, true);
    if let Operation::Create { chunk_size_bytes, .. } = &mut odd_chunk {
        *chunk_size_bytes = 100_000;
    }
    let table = [
        (odd_chunk, EINVAL),
        (lookup(file, "x"), ENOTDIR),
        (lookup(gone, "x"), ENOENT),
        (Operation::GetAttributes { inode: gone }, ESTALE),
        (create(file, "x", 0o644, true), ENOTDIR),
        (create(gone, "x", 0o644, true), ENOENT),
        (open(dir, false), EISDIR),
        (open(dir, true), EISDIR),
        (open(sym, false), ELOOP),
        (open(gone, false), ESTALE),
        (mkdir(gone, "x"), ENOENT),
        (mkdir(file, "x"), ENOTDIR),
        (unlink(file, "x"), ENOTDIR),
        (link(dir, ROOT, "new"), EPERM),
        (link(file, gone, "new"), ENOENT),
        (link(gone, ROOT, "new"), ESTALE),
        (truncate(dir, 0), EISDIR),
        (truncate(sym, 0), EINVAL),
        (truncate(file, u64::MAX), EFBIG),
        (truncate(gone, 0), ESTALE),
        (Operation::ReadLink { inode: file }, EINVAL),
        (read_directory(file), ENOTDIR),
        (read_directory(gone), ENOENT),
    ];
    check(&root, table).await;
    assert_eq!(root.names(ROOT).await, ["dir", "file", "sym"], "nothing was changed");
}

/// Goal: every missing right has POSIX's errno. Oracle: the table, from Linux's man pages.
async fn missing_rights_answer_like_posix<S: KvStore>(world: World<S>) {
    let (root, user) = (world.root(), world.user(7));
    let closed = root.mkdir(ROOT, "closed").await.unwrap().inode;
    let file = root.touch(closed, "file").await.unwrap().inode;
    root.chmod(closed, 0o700).await.unwrap();
    let shown = root.mkdir(ROOT, "shown").await.unwrap().inode;
    let secret = root.create(shown, "secret", 0o600).await.unwrap().inode;
    let sticky = root.mkdir(ROOT, "sticky").await.unwrap().inode;
    root.chmod(sticky, 0o1777).await.unwrap();
    root.touch(sticky, "roots").await.unwrap();
    root.mkdir(sticky, "theirs").await.unwrap();
    user.touch(sticky, "mine").await.unwrap();
    let set = |inode, changes| Operation::SetAttributes { inode, changes };
    let none = AttributeChanges::default;
    let table = [
        (lookup(closed, "file"), EACCES),
        (read_directory(closed), EACCES),
        (create(closed, "x", 0o644, true), EACCES),
        (create(shown, "x", 0o644, true), EACCES),
        (create(shown, "secret", 0o644, false), EACCES),
        (mkdir(shown, "x"), EACCES),
        (symlink(shown, "x", "y"), EACCES),
        (link(file, shown, "x"), EACCES),
        (unlink(shown, "secret"), EACCES),
        (open(secret, false), EACCES),
        (open(secret, true), EACCES),
        (truncate(secret, 0), EACCES),
        (unlink(sticky, "roots"), EPERM),
        (rmdir(sticky, "theirs"), EPERM),
        (move_to((sticky, "roots"), (sticky, "x")), EPERM),
        (move_to((sticky, "mine"), (sticky, "roots")), EPERM),
        (move_to((sticky, "mine"), (shown, "mine")), EACCES),
        (set(file, AttributeChanges { mode: Some(0o777), ..none() }), EPERM),
        (set(file, AttributeChanges { uid: Some(7), ..none() }), EPERM),
        (set(file, AttributeChanges { gid: Some(7), ..none() }), EPERM),
        (set(file, AttributeChanges { modified: Some(TimeUpdate::At(1)), ..none() }), EPERM),
        (set(secret, AttributeChanges { modified: Some(TimeUpdate::Now), ..none() }), EACCES),
    ];
    check(&user, table).await;
    user.rename((sticky, "mine"), (sticky, "still mine")).await.unwrap();
    user.unlink(sticky, "still mine").await.unwrap();
}
