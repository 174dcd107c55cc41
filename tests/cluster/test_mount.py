"""Programs that do not know firepond, on a mount of a real cluster."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

MIB = 1 << 20
OTHER_USER = 65534


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Runs a program and gives its output; its failure is the test's."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.fail(f"{program} is missing: apt-get install fio rsync git sqlite3 fuse3")
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_tree(root: Path, seed: int = 7) -> None:
    """A tree of files of all sizes, links and modes."""
    source = random.Random(seed)
    for number in range(30):
        directory = root / f"d{number % 5}" / f"e{number % 3}"
        directory.mkdir(parents=True, exist_ok=True)
        size = source.choice([0, 1, 4095, 4096, 70_000, MIB, 2 * MIB + 17])
        path = directory / f"file {number}"
        path.write_bytes(source.randbytes(size))
        path.chmod(source.choice([0o644, 0o600, 0o755]))
    (root / "link").symlink_to("d0/e0")
    os.link(root / "d0" / "e0" / "file 0", root / "second name")


def listing(root: Path) -> list[tuple[str, int, str]]:
    """Names, modes and contents below a directory."""
    found = []
    for path in sorted(root.rglob("*")):
        content = digest(path) if path.is_file() and not path.is_symlink() else ""
        target = str(path.readlink()) if path.is_symlink() else ""
        found.append((str(path.relative_to(root)), path.lstat().st_mode, content + target))
    return found


def as_other_user(function: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs Python code as nobody."""
    return subprocess.run(
        ["python3", "-c", f"import os, sys; {function}", *map(str, arguments)],
        user=OTHER_USER,
        group=OTHER_USER,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_cp_and_tar_keep_everything(mount: Path, tmp_path: Path) -> None:
    """Goal: trees survive. Method: cp -a, tar there and back. Oracle: the listing."""
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source)
    run("cp", "-a", source, mount / "copy")
    assert listing(mount / "copy") == listing(source)
    run("tar", "-cf", mount / "tree.tar", "-C", mount / "copy", ".")
    (mount / "unpacked").mkdir()
    run("tar", "-xf", mount / "tree.tar", "-C", mount / "unpacked")
    assert listing(mount / "unpacked") == listing(source)
    shutil.rmtree(mount / "copy")
    assert not (mount / "copy").exists()


def test_rsync_updates_what_changed(mount: Path, tmp_path: Path) -> None:
    """Goal: rsync works in both ways. Method: sync, change one file, sync. Oracle: the listing."""
    need("rsync")
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source)
    run("rsync", "-aH", f"{source}/", f"{mount}/copy")
    (source / "d1" / "e1" / "file 1").write_bytes(b"changed")
    run("rsync", "-aH", "--delete", "--checksum", f"{source}/", f"{mount}/copy")
    assert listing(mount / "copy") == listing(source)


def test_git_repository(mount: Path) -> None:
    """Goal: git trusts the mount. Method: commits, clone, gc. Oracle: fsck and the files."""
    need("git")
    repository = mount / "repository"
    run("git", "init", "-q", "-b", "main", repository)
    run("git", "config", "user.name", "tester", cwd=repository)
    run("git", "config", "user.email", "tester@example.com", cwd=repository)
    for number in range(5):
        (repository / f"file{number}").write_text(f"{number}\n" * 1000)
        run("git", "add", ".", cwd=repository)
        run("git", "commit", "-q", "-m", f"commit {number}", cwd=repository)
    run("git", "gc", "-q", cwd=repository)
    run("git", "fsck", "--full", "--strict", cwd=repository)
    run("git", "clone", "-q", repository, mount / "clone")
    run("git", "fsck", "--full", "--strict", cwd=mount / "clone")
    assert run("git", "status", "--porcelain", cwd=mount / "clone") == ""
    assert (mount / "clone" / "file4").read_text() == "4\n" * 1000


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_transactions(mount: Path, journal: str) -> None:
    """Goal: a database works. Method: commits, a rollback, a second connection. Oracle: rows."""
    path = mount / f"{journal}.db"
    database = sqlite3.connect(path)
    assert database.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
    database.execute("create table t (k integer primary key, v blob)")
    for batch in range(5):
        with database:
            rows = [(batch * 100 + key, os.urandom(3000)) for key in range(100)]
            database.executemany("insert into t values (?, ?)", rows)
    database.execute("delete from t")
    database.rollback()
    other = sqlite3.connect(path)
    assert other.execute("select count(*) from t").fetchone() == (500,)
    assert other.execute("pragma integrity_check").fetchone() == ("ok",)
    other.close()
    database.close()
    assert run("sqlite3", path, "pragma integrity_check").strip() == "ok"


FIO_COMMON = ("--size=16m", "--verify=crc32c", "--verify_fatal=1", "--end_fsync=1", "--minimal")
FIO_COMMON += ("--verify_state_save=0",)  # Or it leaves files in the current directory.


@pytest.mark.parametrize(
    "options",
    [
        ("--rw=write", "--bs=1m"),
        ("--rw=randwrite", "--bs=4k"),
        ("--rw=randrw", "--bs=8k", "--direct=1", "--ioengine=libaio", "--iodepth=16"),
        ("--rw=randwrite", "--bs=4k", "--ioengine=mmap"),
        ("--rw=randwrite", "--bs=16k", "--numjobs=4", "--fsync=32"),
    ],
    ids=["sequential", "random", "direct", "mapped", "jobs"],
)
def test_fio_reads_back_what_it_wrote(mount: Path, options: Sequence[str]) -> None:
    """Goal: no byte is lost or moved. Method: fio's own patterns. Oracle: fio's verification."""
    need("fio")
    run("fio", "--name=verify", f"--directory={mount}", *options, *FIO_COMMON)


def test_direct_io_by_dd(mount: Path) -> None:
    """Goal: O_DIRECT works. Method: dd both ways. Oracle: the digest."""
    source = mount / "source"
    source.write_bytes(random.Random(1).randbytes(5 * MIB))
    run("dd", f"if={source}", f"of={mount}/copy", "bs=1M", "iflag=direct", "oflag=direct")
    assert digest(mount / "copy") == digest(source)


def test_mapped_reads_and_writes(mount: Path) -> None:
    """Goal: mappings work. Method: change through a shared map. Oracle: read(2) and a new map."""
    path = mount / "mapped"
    path.write_bytes(bytes(3 * MIB))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        shared[5:8] = b"abc"
        shared[2 * MIB : 2 * MIB + 3] = b"xyz"
        shared.flush()
        assert os.pread(file.fileno(), 3, 2 * MIB) == b"xyz"
    with path.open("rb") as again, mmap.mmap(again.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert view[5:8] == b"abc"
        assert view[2 * MIB : 2 * MIB + 3] == b"xyz"
        assert len(view) == 3 * MIB


def test_appends_of_processes(mount: Path) -> None:
    """Goal: O_APPEND never overlaps on one mount. Method: 4 shells. Oracle: every line, whole."""
    path = mount / "log"
    script = 'i=0; while [ $i -lt 100 ]; do echo "$1 $i" >> "$2"; i=$((i+1)); done'
    shells = [
        subprocess.Popen(["sh", "-c", script, "sh", str(number), str(path)]) for number in range(4)
    ]
    assert [shell.wait(60) for shell in shells] == [0] * 4
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"{shell} {line}" for shell in range(4) for line in range(100))


def test_rename_over_open(mount: Path) -> None:
    """Goal: replacing is atomic and readers keep what they opened. Oracle: both contents."""
    old, new = mount / "old", mount / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    with old.open("rb") as reader:
        new.rename(old)
        assert reader.read() == b"old"
    assert old.read_bytes() == b"new"
    assert not new.exists()


def test_rename_flags(mount: Path) -> None:
    """Goal: NOREPLACE replaces nothing, EXCHANGE swaps. Oracle: errno and files."""
    (mount / "a").write_bytes(b"a")
    (mount / "b").write_bytes(b"b")
    code = (
        "import ctypes, os, sys; c = ctypes.CDLL(None, use_errno=True);"
        "r = c.renameat2(-100, os.fsencode(sys.argv[1]), -100, os.fsencode(sys.argv[2]),"
        " int(sys.argv[3])); print(ctypes.get_errno() if r else 0)"
    )
    assert run("python3", "-c", code, mount / "a", mount / "b", "1").strip() == "17"
    assert run("python3", "-c", code, mount / "a", mount / "b", "2").strip() == "0"
    assert (mount / "b").read_bytes() == b"a"
    assert run("python3", "-c", code, mount / "a", mount / "b", "2").strip() == "0"
    assert run("python3", "-c", code, mount / "a", mount / "b", "4").strip() == "22"
    assert run("python3", "-c", code, mount / "a", mount / "c", "1").strip() == "0"
    assert (mount / "b").read_bytes() == b"b"
    assert (mount / "c").read_bytes() == b"a"


def test_unlink_while_open(mount: Path) -> None:
    """Goal: an open file outlives its name. Oracle: reads and writes after unlink."""
    path = mount / "gone"
    with path.open("w+b") as file:
        file.write(b"before")
        file.flush()
        path.unlink()
        file.write(b" after")
        file.flush()
        os.fsync(file.fileno())
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.pread(file.fileno(), 100, 0) == b"before after"
    assert not path.exists()


def test_truncate_and_extend(mount: Path) -> None:
    """Goal: lengths are exact and new bytes are zeros. Oracle: a bytearray."""
    path = mount / "file"
    model = bytearray(random.Random(2).randbytes(3 * MIB))
    path.write_bytes(model)
    for size in (2 * MIB + 5, 10, 4 * MIB, 0, 70_000):
        os.truncate(path, size)
        del model[size:]
        model.extend(bytes(size - len(model)))
        assert path.stat().st_size == size
        assert path.read_bytes() == model
    with path.open("r+b") as file:
        file.truncate(5)
        file.seek(8)
        file.write(b"x")
    assert path.read_bytes() == bytes(8) + b"x"
    with path.open("wb") as file:
        assert os.fstat(file.fileno()).st_size == 0
        os.posix_fallocate(file.fileno(), 0, MIB)
    assert path.read_bytes() == bytes(MIB)


def test_holes(mount: Path) -> None:
    """Goal: bytes that were never written are zeros. Oracle: zeros, and lseek's answers."""
    path = mount / "sparse"
    with path.open("w+b") as file:
        file.seek(5 * MIB + 3)
        file.write(b"end")
        file.flush()
        os.pwrite(file.fileno(), b"mid", 2 * MIB)
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 5 * MIB + 6
    model = bytearray(5 * MIB + 6)
    model[2 * MIB : 2 * MIB + 3] = b"mid"
    model[-3:] = b"end"
    assert path.read_bytes() == model


def test_links(mount: Path) -> None:
    """Goal: hard and symbolic links. Oracle: link counts, contents, loops."""
    path = mount / "file"
    path.write_bytes(b"1")
    os.link(path, mount / "second")
    assert path.stat().st_nlink == 2
    assert path.stat().st_ino == (mount / "second").stat().st_ino
    (mount / "second").write_bytes(b"22")
    assert path.read_bytes() == b"22"
    path.unlink()
    assert (mount / "second").stat().st_nlink == 1
    (mount / "soft").symlink_to("second")
    assert str((mount / "soft").readlink()) == "second"
    assert (mount / "soft").read_bytes() == b"22"
    (mount / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        (mount / "loop").read_bytes()


def test_limits(mount: Path) -> None:
    """Goal: documented limits. Oracle: success at the limit, the errno beyond."""
    longest = mount / ("n" * 255)
    longest.write_bytes(b"x")
    assert longest.read_bytes() == b"x"
    with pytest.raises(OSError, match="name too long"):
        (mount / ("n" * 256)).write_bytes(b"x")
    with pytest.raises(PermissionError):
        os.mkfifo(mount / "pipe")
    with pytest.raises(OSError, match="not supported"):
        os.setxattr(longest, "user.x", b"1")
    odd = mount / os.fsdecode(b"\xff name\nwith \\ everything")
    odd.write_bytes(b"odd")
    assert odd in mount.iterdir()
    deep = mount
    for level in range(60):
        deep = deep / f"level {level}"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")
    assert (deep / "file").read_bytes() == b"deep"
    assert os.statvfs(mount).f_bavail > 0


def test_directory_of_many(mount: Path) -> None:
    """Goal: listings are complete and stable. Method: change it while scanning. Oracle: names."""
    directory = mount / "many"
    directory.mkdir()
    for number in range(10_000):
        os.close(os.open(directory / f"f{number:05}", os.O_CREAT | os.O_WRONLY))
    assert len(list(directory.iterdir())) == 10_000
    given: list[str] = []
    with os.scandir(directory) as scan:
        for position, entry in enumerate(scan):
            given.append(entry.name)
            if position % 100 == 0:
                (directory / entry.name).unlink()
                (directory / f"a{position:05}").touch()
    stayed = [name for name in given if name.startswith("f")]
    assert len(stayed) == len(set(stayed)) == 10_000
    shutil.rmtree(directory)
    assert not directory.exists()


def test_permissions_of_another_user(mount: Path) -> None:
    """Goal: mode bits hold for others. Method: nobody tries. Oracle: what is refused."""
    if not any("allow_other" in line and str(mount.parent) in line for line in mounts()):
        refused = as_other_user("os.listdir(sys.argv[1])", mount)
        assert "PermissionError" in refused.stderr
        return
    secret, shared = mount / "secret", mount / "shared"
    secret.write_bytes(b"s")
    secret.chmod(0o600)
    shared.mkdir()
    shared.chmod(0o1777)
    assert "PermissionError" in as_other_user("open(sys.argv[1])", secret).stderr
    made = as_other_user("open(sys.argv[1], 'w').write('x')", shared / "theirs")
    assert made.returncode == 0, made.stderr
    assert (shared / "theirs").stat().st_uid == OTHER_USER
    (shared / "mine").write_bytes(b"m")
    assert "PermissionError" in as_other_user("os.unlink(sys.argv[1])", shared / "mine").stderr
    os.chown(secret, OTHER_USER, OTHER_USER)
    assert as_other_user("open(sys.argv[1])", secret).returncode == 0


def mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


def test_two_handles(mount: Path) -> None:
    """Goal: handles share one view. Oracle: each write is read through the other at once."""
    path = mount / "file"
    with path.open("w+b", buffering=0) as first, path.open("r+b", buffering=0) as second:
        first.write(b"one")
        assert os.pread(second.fileno(), 10, 0) == b"one"
        os.pwrite(second.fileno(), b"two", 3)
        assert os.pread(first.fileno(), 10, 0) == b"onetwo"
        assert os.fstat(first.fileno()).st_size == 6


def test_fork(mount: Path) -> None:
    """Goal: a child shares the parent's open file. Oracle: both wrote, one after the other."""
    path = mount / "file"
    with path.open("wb", buffering=0) as file:
        file.write(b"parent ")
        child = os.fork()
        if child == 0:
            file.write(b"child ")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        file.write(b"parent")
    assert path.read_bytes() == b"parent child parent"


def test_times(mount: Path) -> None:
    """Goal: times are kept to the nanosecond, reading changes none. Oracle: stat."""
    path = mount / "file"
    path.write_bytes(b"1")
    os.utime(path, ns=(1_234_567_891, 1_700_000_000_123_456_789))
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (
        1_234_567_891,
        1_700_000_000_123_456_789,
    )
    path.read_bytes()
    assert path.stat().st_atime_ns == 1_234_567_891
    path.write_bytes(b"2")
    assert path.stat().st_mtime_ns > 1_700_000_000_123_456_789
    before = path.stat().st_ctime_ns
    path.chmod(stat.S_IRUSR)
    assert path.stat().st_ctime_ns >= before


def test_exclusive_create(mount: Path) -> None:
    """Goal: O_EXCL has one winner. Method: 8 threads, 20 names. Oracle: the count of winners."""
    wins: list[int] = []

    def attempt() -> None:
        for number in range(20):
            try:
                os.close(os.open(mount / f"x{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                wins.append(number)
            except FileExistsError:
                pass

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == list(range(20))


def test_locks_on_one_mount(mount: Path) -> None:
    """Goal: locks hold between processes of one mount. Oracle: the second locker is refused."""
    path = mount / "lock"
    path.touch()
    attempt = "import fcntl, sys; fcntl.%s(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    for kind in ("flock", "lockf"):
        with path.open("r+") as file:
            getattr(fcntl, kind)(file, fcntl.LOCK_EX)
            refused = subprocess.run(
                ["python3", "-c", attempt % kind, str(path)], capture_output=True, check=False
            )
            assert b"BlockingIOError" in refused.stderr
        run("python3", "-c", attempt % kind, path)


def test_synchronous_writes(mount: Path) -> None:
    """Goal: O_SYNC works for plain and appending files. Oracle: the contents."""
    path = mount / "file"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_SYNC)
    os.write(descriptor, b"one")
    os.close(descriptor)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_DSYNC)
    os.write(descriptor, b"two")
    os.close(descriptor)
    assert path.read_bytes() == b"onetwo"


def test_read_only_mode_of_own_file(mount: Path) -> None:
    """Goal: whoever makes a file read-only still writes it while it is open. Oracle: bytes."""
    path = mount / "file"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o444)
    os.write(descriptor, b"12345")
    os.ftruncate(descriptor, 3)
    os.close(descriptor)
    assert path.read_bytes() == b"123"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
