"""Disks that rot or fill up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import firepond
from firepond import errors
from tests.fixtures.cluster import TestCluster, wait_until

PAGE_BYTES = 4096


FILE_COUNT = 24


def pattern_page(file: int, number: int) -> bytes:
    """A page that is found again on disk by its contents."""
    return f"firepond-rot-test-{file:04d}-{number:08d}!".encode().ljust(PAGE_BYTES, b"#")


def flip_on_disk(directory: Path, page: bytes) -> bool:
    """Flips a byte of the page wherever a file below the directory holds it."""
    for path in directory.rglob("*"):
        if not path.is_file() or path.stat().st_size < PAGE_BYTES:
            continue
        with path.open("r+b") as file:
            offset = 0
            while block := file.read(1 << 20):
                found = block.find(page[:64])
                if found >= 0:
                    file.seek(offset + found + 100)
                    file.write(b"\x00")
                    file.flush()
                    os.fsync(file.fileno())
                    return True
                offset += len(block)
    return False


def test_rot_is_repaired_from_another_replica(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: a flipped byte on one replica is never returned, is repaired, and is said so.

    Method: flip a byte of each of some files in the data of one replica, read the files until that
    replica met one. Oracle: contents; a WARN line that names the repair; replicas agree.
    """
    cluster = make_cluster()
    cluster.allow("mended from another replica|checksum")
    contents = {
        f"/rot-{file}": b"".join(pattern_page(file, number) for number in range(64))
        for file in range(FILE_COUNT)
    }
    with firepond.connect(cluster.address) as client:
        for path, content in contents.items():
            client.write_bytes(path, content)
    victim = cluster.process_at(1)
    for file in range(FILE_COUNT):
        assert flip_on_disk(cluster.local.data_path(victim), pattern_page(file, 17))

    def repaired() -> bool:
        with firepond.connect(cluster.address) as client:
            for path, content in contents.items():
                assert client.read_bytes(path) == content
        log = cluster.local.process(victim).log_path.read_text(errors="replace")
        return "mended from another replica" in log

    wait_until(repaired, 30, "the replica repairs the block and says so")
    cluster.verify_replicas()


@contextmanager
def small_disks(directory: Path, names: list[str], size_mib: int) -> Iterator[None]:
    """A tmpfs of a given size as the data directory of each process."""
    mounted: list[Path] = []
    try:
        for name in names:
            path = directory / name
            path.mkdir(parents=True)
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(path)], check=True
            )
            mounted.append(path)
        yield
    finally:
        for path in mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk(make_cluster: Callable[..., TestCluster], tmp_path: Path) -> None:
    """Goal: a full disk refuses new data with ENOSPC, keeps what it has, and recovers.

    Method: three small disks, write until refused, read back, remove, write again.
    Oracle: the error's class, the contents, and success after room was made.
    """
    disks = {f"storage-{number}": tmp_path / f"storage-{number}" for number in (1, 2, 3)}
    with small_disks(tmp_path, list(disks), 512):
        cluster = make_cluster(disks={name: [str(path)] for name, path in disks.items()})
        cluster.allow("(?i)full|space")
        payload = os.urandom(8 << 20)
        written = 0
        with firepond.connect(cluster.address) as client:
            with pytest.raises(errors.DiskFull):
                while written < 100:
                    client.write_bytes(f"/fill-{written}", payload)
                    written += 1
            assert written >= 20, "most of the disk is usable"
            for number in range(written):
                assert client.read_bytes(f"/fill-{number}") == payload
            for number in range(written):
                client.remove(f"/fill-{number}")

            def writable() -> bool:
                client.write_bytes("/again", payload)
                return client.read_bytes("/again") == payload

            wait_until(writable, 60, "room comes back after files were removed")
        cluster.verify_replicas()
        cluster.local.stop()
