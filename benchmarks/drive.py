"""Work on any directory, so that a mount and the local file system do exactly the same."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.machine import aligned
from benchmarks.report import Context, seconds

PIECE_BYTES = 1 << 20
SMALL_BYTES = 4096


def measure(directory: Path, context: Context) -> dict[str, float]:
    """Rates by name: MB/s for the sequential ones, operations per second for the others."""
    rates = sequential(directory, context)
    rates |= small_reads(directory, context)
    rates |= metadata(directory, context)
    rates |= small_files(directory, context)
    return rates


def sequential(directory: Path, context: Context) -> dict[str, float]:
    """A large file: written with fsync at the end, read with a cold page cache."""
    size = context.size(1 << 30, 128 << 20)
    piece = random.randbytes(PIECE_BYTES)
    path = directory / "big"

    def write() -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        for _ in range(size // PIECE_BYTES):
            os.write(descriptor, piece)
        os.fsync(descriptor)
        os.close(descriptor)

    def read() -> None:
        descriptor = os.open(path, os.O_RDONLY)
        buffer = bytearray(PIECE_BYTES)
        while os.readv(descriptor, [buffer]) > 0:
            pass
        os.close(descriptor)
        if buffer != piece:
            raise SystemExit("a read came back wrong")

    write_rate = size / 1e6 / seconds(write)
    drop_cache(path)
    return {"write with fsync": write_rate, "read": size / 1e6 / seconds(read)}


def drop_cache(path: Path) -> None:
    """Makes the kernel forget a file's pages."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def small_reads(directory: Path, context: Context) -> dict[str, float]:
    """Random 4 KiB past the page cache, by one thread and by 32. Removes the large file."""
    path = directory / "big"
    block_count = path.stat().st_size // SMALL_BYTES
    count = context.size(10_000, 1_000)

    def reader(share: int) -> None:
        block = aligned(SMALL_BYTES)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        for _ in range(share):
            os.preadv(descriptor, [block], random.randrange(block_count) * SMALL_BYTES)
        os.close(descriptor)

    rates = {}
    for depth in (1, 32):
        work = partial(in_threads, reader, count // depth, depth)
        rates[f"4 KiB reads, depth {depth}"] = count // depth * depth / seconds(work)
    path.unlink()
    return rates


def in_threads(work: Callable[[int], None], share: int, depth: int) -> None:
    """The same work by some threads; the first failure is raised."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work(share)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(depth)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def metadata(directory: Path, context: Context) -> dict[str, float]:
    """Empty files of one directory: create, stat, rename, unlink, one at a time."""
    count = context.size(1000, 100)
    folder = directory / "metadata"
    folder.mkdir()

    def each(step: Callable[[int], object]) -> float:
        def work() -> None:
            for number in range(count):
                step(number)

        return count / seconds(work)

    def create(number: int) -> None:
        os.close(os.open(folder / f"f{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    rates = {"create": each(create)}
    rates["stat"] = each(lambda number: (folder / f"f{number}").stat())
    rates["rename"] = each(lambda number: (folder / f"f{number}").rename(folder / f"r{number}"))
    rates["unlink"] = each(lambda number: (folder / f"r{number}").unlink())
    folder.rmdir()
    return rates


def small_files(directory: Path, context: Context) -> dict[str, float]:
    """Whole files of 4 KiB, written and read, each opened and closed."""
    count = context.size(1000, 100)
    folder = directory / "small"
    folder.mkdir()
    content = random.randbytes(SMALL_BYTES)

    def write() -> None:
        for number in range(count):
            (folder / f"f{number}").write_bytes(content)

    def read() -> None:
        for number in range(count):
            if (folder / f"f{number}").read_bytes() != content:
                raise SystemExit("a file came back wrong")

    written = count / seconds(write)
    for number in range(count):
        drop_cache(folder / f"f{number}")
    rates = {"4 KiB files written": written, "4 KiB files read": count / seconds(read)}
    for number in range(count):
        (folder / f"f{number}").unlink()
    folder.rmdir()
    return rates
