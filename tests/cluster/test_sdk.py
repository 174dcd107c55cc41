"""The SDK on a real cluster with three replicas."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import firepond
from firepond import errors
from firepond.client.checkpoint import load_safetensors, save_safetensors
from firepond.client.cluster import Cluster
from tests.fixtures.cluster import TestCluster, wait_until


@pytest.fixture
def client(cluster: TestCluster) -> Iterator[Cluster]:
    """A client of its own."""
    with firepond.connect(cluster.address) as found:
        yield found


@pytest.fixture
def other(cluster: TestCluster) -> Iterator[Cluster]:
    """A second client, with a session of its own."""
    with firepond.connect(cluster.address) as found:
        yield found


@pytest.fixture
def folder(client: Cluster) -> str:
    """A directory of the test's own."""
    path = f"/sdk-{time.monotonic_ns()}"
    client.mkdir(path)
    return path


def test_files_against_a_local_file(
    client: Cluster, other: Cluster, folder: str, tmp_path: Path
) -> None:
    """Goal: buffered files do what Python's do. Method: 400 random steps on both, seeded.

    Oracle: every result, and what a second client reads after close.
    """
    generator = random.Random(11)
    local = tmp_path / "file"
    local.touch()
    client.write_bytes(f"{folder}/file", b"")
    with client.open(f"{folder}/file", "r+b") as ours, local.open("r+b") as theirs:
        for _ in range(400):
            name = generator.choice(["write", "write", "read", "seek", "truncate", "flush"])
            argument: Any = {
                "write": generator.randbytes(generator.choice([10, 5000, 300_000])),
                "read": generator.randrange(100_000),
                "seek": generator.randrange(3_000_000),
                "truncate": generator.randrange(3_000_000),
                "flush": None,
            }[name]
            arguments = [] if argument is None else [argument]
            found = getattr(ours, name)(*arguments)
            expected = getattr(theirs, name)(*arguments)
            assert found == expected, name
    assert other.read_bytes(f"{folder}/file") == local.read_bytes()
    assert other.getsize(f"{folder}/file") == local.stat().st_size


def test_names_and_attributes(client: Cluster, other: Cluster, folder: str) -> None:
    """Goal: every operation on names works and is seen by others. Oracle: `os`'s rules by hand."""
    client.makedirs(f"{folder}/a/b/c")
    client.makedirs(f"{folder}/a/b", exist_ok=True)
    with pytest.raises(FileExistsError):
        client.makedirs(f"{folder}/a/b")
    client.write_text(f"{folder}/a/one", "1")
    client.link(f"{folder}/a/one", f"{folder}/a/two")
    client.symlink("one", f"{folder}/a/three")
    assert other.listdir(f"{folder}/a") == ["b", "one", "three", "two"]
    assert other.readlink(f"{folder}/a/three") == "one"
    assert other.read_text(f"{folder}/a/three") == "1"
    assert other.stat(f"{folder}/a/two").st_nlink == 2
    assert other.lstat(f"{folder}/a/three").is_symlink()
    client.chmod(f"{folder}/a/one", 0o640)
    client.utime(f"{folder}/a/one", ns=(1_000_000_001, 2_000_000_002))
    found = other.stat(f"{folder}/a/two")
    assert (found.st_mode & 0o777, found.st_mtime_ns, found.st_atime_ns) == (
        0o640,
        2_000_000_002,
        1_000_000_001,
    )
    with pytest.raises(FileExistsError):
        client.rename(f"{folder}/a/one", f"{folder}/a/two")
    client.replace(f"{folder}/a/one", f"{folder}/a/four")
    client.truncate(f"{folder}/a/four", 5)
    assert other.read_bytes(f"{folder}/a/two") == b"1\0\0\0\0"
    tree = list(other.walk(folder))
    assert tree[0] == (folder, ["a"], [])
    assert tree[1] == (f"{folder}/a", ["b"], ["four", "three", "two"])
    client.rmtree(f"{folder}/a")
    assert not other.exists(f"{folder}/a") and other.isdir(folder)
    space = client.statvfs()
    assert 0 < space.free_bytes <= space.total_bytes


def test_many_names_in_pages(client: Cluster, folder: str) -> None:
    """Goal: a directory larger than a page is listed once and in order. Oracle: the names made."""

    async def make() -> None:
        limit = asyncio.Semaphore(32)

        async def one(number: int) -> None:
            async with limit:
                await client.aio.mkdir(f"{folder}/{number:05}")

        await asyncio.gather(*(one(number) for number in range(1200)))

    asyncio.run(make())
    assert client.listdir(folder) == [f"{number:05}" for number in range(1200)]


def test_buffers_of_all_kinds(client: Cluster, folder: str) -> None:
    """Goal: any contiguous buffer is read into and written from; others are refused.

    Oracle: NumPy's view of the same bytes.
    """
    table = np.arange(500_000, dtype=np.float64).reshape(500, 1000)
    client.write_bytes(f"{folder}/table", table)
    targets: list[Any] = [
        np.empty((500, 1000)),
        bytearray(table.nbytes),
        memoryview(bytearray(table.nbytes)),
    ]
    for target in targets:
        assert client.read_into(f"{folder}/table", target) == table.nbytes
        assert bytes(target) == table.tobytes()
    with client.open_raw(f"{folder}/table") as file:
        for bad in (b"read-only", np.empty((4, 4))[:, ::2], np.empty((4, 4)).T[:2]):
            with pytest.raises((errors.InvalidArgument, BufferError)):
                file.pread_into(bad, 0)
        with pytest.raises(TypeError):
            file.pread_into("text", 0)
        rows = [np.empty(1000) for _ in range(500)]
        counts = client.read_batch([(file, 8000 * at, row) for at, row in enumerate(rows)])
        assert counts == [8000] * 500
        np.testing.assert_array_equal(np.stack(rows), table)
        past = client.read_batch([(file, table.nbytes - 8, rows[0]), (file, 1 << 40, rows[1])])
        assert past == [8, 0]


def test_asyncio(client: Cluster, folder: str) -> None:
    """Goal: many operations at once on one loop, errors included. Oracle: the bytes."""

    async def main() -> None:
        aio = client.aio
        async with await aio.open(f"{folder}/a", "wb") as file:
            pieces = (file.pwrite(bytes([at]) * 10_000, 10_000 * at) for at in range(200))
            assert await asyncio.gather(*pieces) == [10_000] * 200
        whole = await aio.read_bytes(f"{folder}/a")
        assert whole == b"".join(bytes([at]) * 10_000 for at in range(200))
        async with await aio.open(f"{folder}/a") as file:
            parts = await asyncio.gather(*(file.pread(100, 10_000 * at) for at in range(200)))
        assert parts == [bytes([at]) * 100 for at in range(200)]
        with pytest.raises(FileNotFoundError):
            await aio.open(f"{folder}/absent")
        assert await aio.listdir(folder) == ["a"]
        await aio.makedirs(f"{folder}/b/c")
        await aio.makedirs(f"{folder}/b/c", exist_ok=True)
        with pytest.raises(FileExistsError):
            await aio.makedirs(f"{folder}/b/c")
        await aio.link(f"{folder}/a", f"{folder}/b/a")
        await aio.symlink("c", f"{folder}/b/link")
        await aio.chmod(f"{folder}/a", 0o640)
        assert await aio.readlink(f"{folder}/b/link") == "c"
        assert (await aio.stat(f"{folder}/b/a")).st_mode & 0o777 == 0o640
        assert await aio.isdir(f"{folder}/b/link") and not await aio.isdir(f"{folder}/a")
        assert (await aio.lstat(f"{folder}/b/link")).is_symlink()
        await aio.utime(f"{folder}/a", ns=(5, 1_000_000_007))
        assert (await aio.stat(f"{folder}/a")).st_mtime_ns == 1_000_000_007
        await aio.chown(f"{folder}/a", gid=os.getgid())
        assert await aio.isfile(f"{folder}/a") and not await aio.isfile(f"{folder}/b")
        assert await aio.getsize(f"{folder}/a") == client.getsize(f"{folder}/a")
        walked = [found async for found in aio.walk(folder)]
        assert walked == list(client.walk(folder))
        await aio.rmtree(f"{folder}/b")
        assert await aio.listdir(folder) == ["a"]

    asyncio.run(main())


def test_threads_share_a_client(client: Cluster, folder: str) -> None:
    """Goal: one client serves many threads. Method: 8 threads, own files. Oracle: their bytes."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                data = bytes([number, turn]) * 30_000
                client.write_bytes(f"{folder}/{number}", data)
                assert client.read_bytes(f"{folder}/{number}") == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def child_writes(client: Cluster, file: Any, folder: str) -> None:
    """Runs in a forked child."""
    client.write_bytes(f"{folder}/child", b"from the child")
    assert client.read_bytes(f"{folder}/parent") == b"from the parent"
    try:
        file.read(1)
    except errors.Closed:
        os._exit(0)
    os._exit(7)


def test_fork_and_pickle(client: Cluster, folder: str) -> None:
    """Goal: a forked child has its own client, the parent keeps its. Oracle: both files."""
    client.write_bytes(f"{folder}/parent", b"from the parent")
    file = client.open_raw(f"{folder}/parent")
    process = multiprocessing.get_context("fork").Process(
        target=child_writes, args=(client, file, folder)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert file.read() == b"from the parent"
    assert client.read_bytes(f"{folder}/child") == b"from the child"
    with pickle.loads(pickle.dumps(client)) as again:
        assert again.read_bytes(f"{folder}/child") == b"from the child"


def test_nothing_is_lost_without_close(client: Cluster, other: Cluster, folder: str) -> None:
    """Goal: a file that is dropped, and one that is open at `Cluster.close`, are sent.

    Oracle: another client.
    """
    with firepond.connect(client.address) as writer:
        kept = writer.open_raw(f"{folder}/kept", "wb")
        kept.write(b"kept")
        dropped = writer.open(f"{folder}/dropped", "wb")
        dropped.write(b"dropped")
        del dropped
    assert other.read_bytes(f"{folder}/kept") == b"kept"
    assert other.read_bytes(f"{folder}/dropped") == b"dropped"


def test_removed_while_open(client: Cluster, other: Cluster, folder: str) -> None:
    """Goal: an open file outlives its name. Oracle: its bytes after another client removed it."""
    data = random.Random(5).randbytes(3_000_000)
    client.write_bytes(f"{folder}/file", data)
    with client.open_raw(f"{folder}/file") as file:
        other.remove(f"{folder}/file")
        time.sleep(1.5)
        assert file.read() == data
        assert not client.exists(f"{folder}/file")


def test_checkpoint(client: Cluster, other: Cluster, folder: str) -> None:
    """Goal: a checkpoint survives the cluster. Oracle: equality of every tensor."""
    generator = np.random.default_rng(1)
    tensors = {
        f"layer.{at}": generator.standard_normal((at + 1, 1000), dtype=np.float32)
        for at in range(300)
    }
    save_safetensors(client, f"{folder}/model", tensors)
    loaded = load_safetensors(other, f"{folder}/model")
    assert loaded.keys() == tensors.keys()
    assert all(np.array_equal(loaded[name], tensors[name]) for name in tensors)
    assert client.listdir(folder) == ["model"]


def test_file_commands(cluster: TestCluster, client: Cluster, folder: str, tmp_path: Path) -> None:
    """Goal: cp, ls, stat and cat work both ways. Oracle: the local tree."""
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/one").write_bytes(b"1" * 100_000)
    (source / "deep/one").chmod(0o750)
    (source / "deep/link").symlink_to("gone")
    (source / "two").write_bytes(b"2")

    def run(*arguments: str) -> str:
        line = [sys.executable, "-m", "firepond.fs.cli", *arguments, "--address", cluster.address]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("cp", "-r", str(source), f"firepond:{folder}/tree")
    assert client.read_bytes(f"{folder}/tree/deep/one") == b"1" * 100_000
    names = [row["name"] for row in cluster.command("ls", f"{folder}/tree", "--json")]
    assert names == ["deep", "two"]
    assert cluster.command("stat", f"{folder}/tree/two", "--json")["size_bytes"] == 1
    assert run("cat", f"{folder}/tree/two") == "2"
    run("cp", "-r", f"firepond:{folder}/tree", str(tmp_path / "back"))
    assert (tmp_path / "back/deep/one").read_bytes() == b"1" * 100_000
    assert (tmp_path / "back/deep/one").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "back/deep/link").readlink() == Path("gone")


def test_copies_onto_themselves(cluster: TestCluster, client: Cluster, folder: str) -> None:
    """Goal: no copy destroys its source or never ends. Oracle: the error, and the source."""
    client.makedirs(f"{folder}/tree/deep")
    client.write_bytes(f"{folder}/tree/one", b"1")
    client.symlink("tree", f"{folder}/alias")
    for source, destination in [
        ("tree/one", "tree/one"),
        ("tree/one", "alias/one"),
        ("tree/one", "tree"),
        ("tree", "tree"),
        ("tree", "tree/deep"),
        ("tree", "alias/deep/new"),
    ]:
        names = [f"firepond:{folder}/{name}" for name in (source, destination)]
        line = [sys.executable, "-m", "firepond.fs.cli", "cp", "-r", *names]
        line += ["--address", cluster.address]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and "itself" in done.stderr, (source, destination, done)
    assert client.read_bytes(f"{folder}/tree/one") == b"1"
    assert client.listdir(f"{folder}/tree") == ["deep", "one"]


def test_paths_by_linux_rules(client: Cluster, folder: str) -> None:
    """Goal: slashes at the end, dots and links mean what they mean to Linux, and a refusal changes
    nothing. Oracle: the exceptions, by hand.
    """
    client.write_bytes(f"{folder}/file", b"kept")
    client.mkdir(f"{folder}/empty")
    client.symlink("made", f"{folder}/dangling")
    refusals: list[tuple[Any, list[str], type[OSError]]] = [
        (client.stat, ["file/"], NotADirectoryError),
        (client.stat, ["file/."], NotADirectoryError),
        (client.readlink, ["file/"], NotADirectoryError),
        (client.unlink, ["file/"], NotADirectoryError),
        (client.unlink, ["empty/."], IsADirectoryError),
        (client.rmdir, ["empty/."], errors.InvalidArgument),
        (client.rmdir, ["empty/.."], errors.DirectoryNotEmpty),
        (client.mkdir, ["empty/."], FileExistsError),
        (client.replace, ["file", "absent/"], NotADirectoryError),
        (client.replace, ["file", "file/absent"], NotADirectoryError),
        (client.replace, ["file", "empty/.."], errors.BadRename),
        (client.rename, ["file", "empty/.."], FileExistsError),
        (client.link, ["file", "absent/"], FileNotFoundError),
        (client.exchange, ["file", "absent"], FileNotFoundError),
    ]
    for operation, names, expected in refusals:
        with pytest.raises(expected):
            operation(*(f"{folder}/{name}" for name in names))
    for name, expected in (("absent/", IsADirectoryError), ("file/", IsADirectoryError)):
        with pytest.raises(expected):
            client.write_bytes(f"{folder}/{name}", b"")
    assert client.listdir(folder) == ["dangling", "empty", "file"]
    client.write_bytes(f"{folder}/dangling", b"through")
    assert client.read_bytes(f"{folder}/made") == b"through"
    client.exchange(f"{folder}/made", f"{folder}/empty")
    assert client.isdir(f"{folder}/made") and client.read_bytes(f"{folder}/empty") == b"through"


def test_holes_are_punched(client: Cluster, other: Cluster, folder: str) -> None:
    """Goal: a hole is zeros for everybody and the size stays. Oracle: the bytes."""
    expected = bytearray(random.Random(3).randbytes(3 << 20))
    client.write_bytes(f"{folder}/file", expected)
    with client.open_raw(f"{folder}/file", "rb+") as file:
        file.punch_hole(1000, 2 << 20)
        file.punch_hole(len(expected) - 10, 1 << 30)
        with pytest.raises(errors.InvalidArgument):
            file.punch_hole(-1, 1)
    expected[1000 : 1000 + (2 << 20)] = bytes(2 << 20)
    expected[-10:] = bytes(10)
    assert other.read_bytes(f"{folder}/file") == expected


def test_open_file_follows_a_truncation(client: Cluster, other: Cluster, folder: str) -> None:
    """Goal: a reader inside of what it knows sees another client's truncation within a second.

    Method: cut and rewrite elsewhere, read the same range on. Oracle: the bytes and the clock, with
    a margin for a loaded machine.
    """
    client.write_bytes(f"{folder}/file", b"old" * 2000)
    with client.open_raw(f"{folder}/file") as file:
        assert file.pread(3000, 0) == b"old" * 1000
        other.write_bytes(f"{folder}/file", b"new")
        began = time.monotonic()
        wait_until(lambda: file.pread(3000, 0) == b"new", 10.0, "the new bytes")
        assert time.monotonic() - began < 4.0
