//! A real mount on this machine's kernel, over a cluster that lives in this process.
//!
//! Needs /dev/fuse and root, as the project's CI has.

#![expect(clippy::disallowed_methods, reason = "looks at real files from outside")]

#[path = "fuse_mount/world.rs"]
mod world;

use firepond_core::ErrorKind;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use world::World;

fn write(path: &Path, content: &[u8]) {
    File::create(path).and_then(|mut file| file.write_all(content)).expect("writes");
}

fn read(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut content)).expect("reads");
    content
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Goal: bytes survive in every size and place. Method: write, overwrite, extend, read in pieces.
/// Oracle: a vector.
#[test]
fn bytes_survive() {
    let world = World::start();
    let path = world.path().join("file");
    for len in [0, 1, 4096, 100_000, 1 << 20, (3 << 20) + 17] {
        let mut model = pattern(len);
        write(&path, &model);
        assert_eq!(fs::metadata(&path).expect("stat").len(), len as u64);
        assert!(read(&path) == model, "{len} bytes");
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("opens");
        let at = len / 2;
        file.write_all_at(b"overwritten", at as u64).expect("writes");
        model.resize(model.len().max(at + 11), 0);
        model[at..at + 11].copy_from_slice(b"overwritten");
        let mut piece = vec![0; 11];
        file.read_exact_at(&mut piece, at as u64).expect("reads");
        assert_eq!(piece, b"overwritten");
        file.sync_all().expect("syncs");
        file.set_len(model.len() as u64 + 5000).expect("extends");
        model.resize(model.len() + 5000, 0);
        assert!(read(&path) == model, "{len} bytes, overwritten and extended");
    }
}

/// Goal: O_DIRECT, O_APPEND, O_TRUNC and O_SYNC do what they say. Oracle: the bytes.
#[test]
fn open_flags_work() {
    let world = World::start();
    let path = world.path().join("file");
    let content = pattern(2 << 20);
    let mut open = OpenOptions::new();
    let mut direct = open.create(true).write(true).custom_flags(libc::O_DIRECT).open(&path);
    direct.as_mut().expect("opens").write_all(&content).expect("writes");
    drop(direct);
    assert!(read(&path) == content);
    let mut first = OpenOptions::new().append(true).open(&path).expect("opens");
    let mut second = OpenOptions::new().append(true).open(&path).expect("opens");
    first.write_all(b"one").expect("appends");
    second.write_all(b"two").expect("appends");
    first.write_all(b"three").expect("appends");
    assert_eq!(read(&path)[content.len()..], *b"onetwothree");
    let truncated = OpenOptions::new().write(true).truncate(true).open(&path).expect("opens");
    assert_eq!(truncated.metadata().expect("stat").len(), 0);
    let mut open = OpenOptions::new();
    let mut synced = open.write(true).custom_flags(libc::O_SYNC).open(&path).expect("opens");
    synced.write_all(b"durable").expect("writes");
    assert_eq!(read(&path), b"durable");
}

/// Goal: names behave. Method: links, renames, an open file without a name. Oracle: POSIX.
#[test]
fn names_behave() {
    let world = World::start();
    let at = |name: &str| world.path().join(name);
    write(&at("a"), b"a");
    fs::hard_link(at("a"), at("b")).expect("links");
    assert_eq!(fs::metadata(at("b")).expect("stat").nlink(), 2);
    symlink("b", at("c")).expect("links");
    assert_eq!(fs::read_link(at("c")).expect("reads"), Path::new("b"));
    assert_eq!(read(&at("c")), b"a");
    write(&at("d"), b"d");
    let mut open = OpenOptions::new().read(true).write(true).open(at("d")).expect("opens");
    fs::rename(at("a"), at("d")).expect("replaces");
    assert_eq!(read(&at("d")), b"a");
    open.write_all(b"still here").expect("writes");
    open.seek(SeekFrom::Start(0)).expect("seeks");
    let mut content = String::new();
    open.read_to_string(&mut content).expect("reads");
    assert_eq!(content, "still here");
    assert_eq!(open.metadata().expect("stat").nlink(), 0);
    fs::create_dir(at("e")).expect("makes");
    write(&at("e/inside"), b"");
    let error = fs::remove_dir(at("e")).expect_err("not empty");
    assert_eq!(error.kind(), IoKind::DirectoryNotEmpty);
    assert_eq!(fs::create_dir(at("e")).expect_err("exists").kind(), IoKind::AlreadyExists);
    assert_eq!(File::open(at("none")).expect_err("absent").kind(), IoKind::NotFound);
    let long = at(&"n".repeat(256));
    assert_eq!(File::create(long).expect_err("too long").kind(), IoKind::InvalidFilename);
    fs::set_permissions(at("d"), fs::Permissions::from_mode(0o4711)).expect("chmod");
    assert_eq!(fs::metadata(at("d")).expect("stat").mode() & 0o7777, 0o4711);
}

/// Goal: large directories are listed whole, while they change. Oracle: the set of names.
#[test]
fn directories_are_listed_whole() {
    let world = World::start();
    let directory = world.path().join("many");
    fs::create_dir(&directory).expect("makes");
    for number in 0..3000 {
        File::create(directory.join(format!("f{number:04}"))).expect("creates");
    }
    let mut given = BTreeSet::new();
    for (position, entry) in fs::read_dir(&directory).expect("opens").enumerate() {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        if position % 10 == 0 {
            File::create(directory.join(format!("a{position}"))).expect("creates");
            fs::remove_file(directory.join(&name)).expect("removes");
        }
        assert!(!name.starts_with('f') || given.insert(name), "given twice");
    }
    assert_eq!(given.len(), 3000);
    fs::remove_dir_all(&directory).expect("removes all");
}

/// Goal: a busy mount stays, an idle one ends. Oracle: the error, then `wait`.
#[test]
fn busy_mounts_stay() {
    let world = World::start();
    let path = world.path().join("file");
    let mut file = File::create(&path).expect("creates");
    let error = world.mount().unmount(false).expect_err("busy");
    assert_eq!(error.kind(), ErrorKind::MountBusy);
    file.write_all(b"works").expect("writes");
    assert_eq!(world.mount().status().open_file_count, 1);
    drop(file);
    assert_eq!(read(&path), b"works");
}
