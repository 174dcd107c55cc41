"""Several mounts of one cluster, their start, their end, and what a killed one leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firepond.client.mount_table import process_start
from tests.fixtures.cluster import TestCluster, wait_until

# What one client changed, another one sees within this bound: the default of the mount, and a
# margin for a loaded machine.
BOUND_S = 1.0 + 2.0

Mounter = Callable[..., Path]


def command(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "firepond.fs.cli", *map(str, arguments)]
    result = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    if check:
        assert result.returncode == 0, f"{arguments}: {result.stdout}{result.stderr}"
    return result


@pytest.fixture
def mounter(cluster: TestCluster, tmp_path: Path) -> Iterator[Mounter]:
    """A function that mounts the cluster once more; all are unmounted at the end."""
    made: list[Path] = []

    def mount(*options: str) -> Path:
        mount_point = tmp_path / f"mount{len(made)}"
        mount_point.mkdir()
        log = cluster.directory / f"{mount_point.name}-{time.monotonic_ns()}.log"
        command("mount", cluster.address, mount_point, "--log-file", log, *options)
        made.append(mount_point)
        return mount_point

    yield mount
    for mount_point in made:
        if str(mount_point) in Path("/proc/self/mountinfo").read_text():
            command("umount", mount_point)


def pid_of(mount_point: Path) -> int:
    for path in Path("/run/firepond").glob("mount-*.json"):
        record = json.loads(path.read_text())
        if record["mount_point"] == str(mount_point):
            return int(record["pid"])
    raise AssertionError(f"no record of {mount_point}")


def test_close_to_open(mounter: Mounter) -> None:
    """Goal: a later open sees what an earlier close finished, at once.
    Method: 20 rounds of growing, shrinking and equal sizes, caches warm. Oracle: bytes.
    """
    writer, reader = mounter(), mounter()
    source = random.Random(3)
    for round_number in range(20):
        content = source.randbytes(source.choice([100, 100, 5000, 1 << 20, 3 << 20]))
        (writer / "file").write_bytes(content)
        with (reader / "file").open("rb") as file:
            found = file.read()
        assert found == content, f"round {round_number}: {len(found)} of {len(content)} bytes"


def test_open_file_follows(mounter: Mounter) -> None:
    """Goal: an open file shows other clients' writes within the bound. Oracle: bytes and clock."""
    writer, reader = mounter(), mounter()
    (writer / "file").write_bytes(b"1" * 5000)
    with (reader / "file").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 5000, 0) == b"1" * 5000
        (writer / "file").write_bytes(b"2" * 6000)
        begin = time.monotonic()
        wait_until(lambda: os.pread(file.fileno(), 9000, 0) == b"2" * 6000, 10, "the new bytes")
        assert time.monotonic() - begin < BOUND_S


def test_new_name_is_seen_at_once(mounter: Mounter) -> None:
    """Goal: absence is not cached. Method: look, create elsewhere, look. Oracle: it is there."""
    first, second = mounter(), mounter()
    for number in range(5):
        assert not (first / f"n{number}").exists()
        (second / f"n{number}").write_bytes(b"x")
        assert (first / f"n{number}").read_bytes() == b"x"


def test_removed_name_vanishes(mounter: Mounter) -> None:
    """Goal: removal and rename are seen within the bound. Oracle: the names and the clock."""
    first, second = mounter() / "vanish", mounter() / "vanish"
    first.mkdir()
    (first / "a").write_bytes(b"a")
    (first / "b").write_bytes(b"b")
    assert (second / "a").exists() and (second / "b").exists()
    (first / "a").unlink()
    (first / "b").rename(first / "c")
    begin = time.monotonic()
    wait_until(lambda: [path.name for path in second.iterdir()] == ["c"], 10, "the listing")
    wait_until(lambda: not (second / "a").exists() and not (second / "b").exists(), 10, "the names")
    assert time.monotonic() - begin < BOUND_S
    assert (second / "c").read_bytes() == b"b"


def test_append_after_another_client(mounter: Mounter) -> None:
    """Goal: appending goes to the true end, not to the one that was cached. Oracle: the bytes."""
    first, second = mounter(), mounter()
    (first / "log").write_bytes(b"")
    for number in range(6):
        with ((first, second)[number % 2] / "log").open("ab") as log:
            log.write(f"line {number}\n".encode())
    assert (first / "log").read_text() == "".join(f"line {number}\n" for number in range(6))


def test_killed_after_fsync(cluster: TestCluster, mounter: Mounter) -> None:
    """Goal: fsync is honest and a dead mount can be taken over.
    Method: write, fsync, kill -9 of the mount's process, mount again. Oracle: the bytes.
    """
    mount_point = mounter()
    content = random.Random(4).randbytes((5 << 20) + 77)
    file = (mount_point / "kept").open("wb")
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
    pid = pid_of(mount_point)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 10, "the process is gone")
    with pytest.raises(OSError, match=r"not connected|aborted"):
        (mount_point / "kept").stat()
    # The file that the dead process served cannot be closed properly any more.
    with pytest.raises(OSError):
        file.close()
    command("mount", cluster.address, mount_point)
    assert (mount_point / "kept").read_bytes() == content


def test_busy_mount_names_its_users(mounter: Mounter) -> None:
    """Goal: a refusal says who is in the way, and harms nothing. Oracle: message, then success."""
    mount_point = mounter()
    with (mount_point / "open").open("wb") as file:
        refused = command("umount", mount_point, check=False)
        assert refused.returncode != 0
        assert f"pid {os.getpid()}" in refused.stderr + refused.stdout
        file.write(b"still works")
    assert (mount_point / "open").read_bytes() == b"still works"
    pid = pid_of(mount_point)
    command("umount", mount_point)
    assert process_start(pid) is None, "umount waits for the process"


def test_data_survives_umount(cluster: TestCluster, mounter: Mounter) -> None:
    """Goal: a process that ends has written everything. Oracle: bytes through a new mount."""
    mount_point = mounter()
    content = random.Random(5).randbytes(3 << 20)
    (mount_point / "data").write_bytes(content)
    command("umount", mount_point)
    assert list(mount_point.iterdir()) == []
    command("mount", cluster.address, mount_point)
    assert (mount_point / "data").read_bytes() == content


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text("x"), "not a directory"),
        (lambda path: (path / "inside").mkdir(parents=True), "has files"),
    ],
    ids=["absent", "file", "full"],
)
def test_unusable_mount_points(
    cluster: TestCluster, tmp_path: Path, prepare: Callable[[Path], object], expected: str
) -> None:
    """Goal: each refusal is one clear sentence. Oracle: its words, and no traceback."""
    prepare(tmp_path / "place")
    refused = command("mount", cluster.address, tmp_path / "place", check=False)
    assert refused.returncode != 0
    message = " ".join((refused.stderr + refused.stdout).split())
    assert expected in message
    assert "Traceback" not in message


def test_no_cluster_at_the_address(tmp_path: Path) -> None:
    """Goal: a wrong address is told. Method: a port where nobody listens. Oracle: the message."""
    refused = command("mount", "firepond://127.0.0.1:1", tmp_path, check=False)
    assert refused.returncode != 0
    message = " ".join((refused.stderr + refused.stdout).split())
    assert "cluster_unreachable" in message
    assert "Traceback" not in message


def test_umount_of_nothing(tmp_path: Path) -> None:
    """Goal: umount elsewhere is refused. Oracle: the message."""
    refused = command("umount", tmp_path, check=False)
    assert refused.returncode != 0
    assert "nothing is mounted" in " ".join((refused.stderr + refused.stdout).split())
