"""Where the time of a 4 KiB read and of a durable 1 MiB write goes.

`python -m benchmarks.breakdown`. Each stage is an operation that does one thing more than the one
before it, so the difference of two lines is that thing. Wall-clock time is the median, CPU time the
mean of each side.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import firepond
from benchmarks import machine, usage
from firepond.client.raw_file import RawFile
from firepond.fs.local_cluster import LocalCluster

ROOT = Path(__file__).resolve().parents[1]
SMALL_BYTES = 4096
BIG_BYTES = 1 << 20
FILE_BYTES = 16 << 20
REQUEST_BYTES = 160
"""Of a read request: the frame's header and one row."""
SMALL_COUNT = 10_000
BIG_COUNT = 200


@dataclass(frozen=True)
class Stage:
    """One operation, repeated."""

    name: str
    median_us: float
    cpu: usage.Cost
    switches: tuple[float, float]
    """Context switches of client and servers by operation."""


@contextmanager
def echo_process(reply_bytes: int) -> Iterator[socket.socket]:
    """A connection to a process that answers requests with so many bytes."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    code = f"from benchmarks.breakdown import answer; answer({port}, {reply_bytes})"
    with subprocess.Popen([sys.executable, "-c", code]) as peer:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, listener:
            yield connection
        peer.wait()


def answer(port: int, reply_bytes: int) -> None:
    """The other process."""
    reply = bytes(reply_bytes)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv(REQUEST_BYTES):
            connection.sendall(reply)


def ping(connection: socket.socket, request: bytes, reply: memoryview) -> None:
    connection.sendall(request)
    received = 0
    while received < len(reply):
        received += connection.recv_into(reply[received:])


def stage(name: str, servers: usage.Servers, count: int, work: Callable[[], object]) -> Stage:
    """Repeats an operation, after some that do not count."""
    for _ in range(count // 10):
        work()
    taken: list[float] = []
    before = switches((os.getpid(),)), switches(servers.all)

    def repeat() -> None:
        for _ in range(count):
            usage.timed(work, taken)

    used = usage.use(servers, repeat)
    after = switches((os.getpid(),)), switches(servers.all)
    by_operation = ((after[0] - before[0]) / count, (after[1] - before[1]) / count)
    cost = usage.per_operation(used, count)
    return Stage(name, statistics.median(taken) * 1e6, cost, by_operation)


def switches(pids: tuple[int, ...]) -> int:
    """How often the threads of these processes went to sleep so far."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            lines = status.read_text().splitlines()
            found = [line for line in lines if line.startswith("voluntary_ctxt_switches")]
            total += int(found[0].split()[1])
    return total


def anywhere() -> int:
    return random.randrange(FILE_BYTES // SMALL_BYTES) * SMALL_BYTES


def read_somewhere(file: RawFile, block: bytearray) -> None:
    file.pread_into(block, anywhere())


def put_next(namespace: Any, keys: Iterator[int], value: bytes) -> None:
    (stored,) = namespace.put([f"{next(keys)}"], [value])
    if isinstance(stored, Exception):
        raise stored


def read_stages(cluster: firepond.Cluster, servers: usage.Servers) -> list[Stage]:
    """From an empty call to a read of 4 KiB."""
    nobody = usage.Servers()
    piece = random.randbytes(FILE_BYTES)
    with cluster.open_raw("/data", "wb") as file:
        file.write(piece)
    with cluster.open_raw("/hole", "wb") as file:
        file.truncate(len(piece))
    block = bytearray(SMALL_BYTES)

    stages = []
    with cluster.open_raw("/data") as data, cluster.open_raw("/hole") as hole:
        data.pread_into(bytearray(len(piece)), 0)
        empty = memoryview(block)[:0]
        stages.append(
            stage("Python call, no I/O", nobody, SMALL_COUNT, lambda: data.pread_into(empty, 0))
        )
        with echo_process(SMALL_BYTES + 192) as connection:
            request, reply = bytes(REQUEST_BYTES), memoryview(bytearray(SMALL_BYTES + 192))
            stages.append(
                stage(
                    "bare TCP: 160 bytes there, 4 KiB back (Python)",
                    nobody,
                    SMALL_COUNT,
                    lambda: ping(connection, request, reply),
                )
            )
        for name, file in (("read of a hole: no page, no bytes", hole), ("read of 4 KiB", data)):
            work = partial(read_somewhere, file, block)
            stages.append(stage(name, servers, SMALL_COUNT, work))
        batch = [bytearray(SMALL_BYTES) for _ in range(1024)]

        def batched() -> None:
            cluster.read_batch([(data, anywhere(), row) for row in batch])

        stages.append(stage("1,024 reads of 4 KiB in a batch", servers, BIG_COUNT, batched))
    return stages


def write_stages(
    cluster: firepond.Cluster, servers: usage.Servers, address: str, directory: Path
) -> list[Stage]:
    """From a copy to a write of 1 MiB that is durable on three disks."""
    nobody = usage.Servers()
    piece = random.randbytes(BIG_BYTES)
    place = bytearray(BIG_BYTES)
    stages = []

    def copy() -> None:
        memoryview(place)[:] = piece

    stages.append(stage("a copy of 1 MiB", nobody, BIG_COUNT, copy))
    with echo_process(BIG_BYTES) as connection:
        request, reply = bytes(REQUEST_BYTES), memoryview(bytearray(BIG_BYTES))
        work = partial(ping, connection, request, reply)
        stages.append(stage("bare TCP: 1 MiB (Python)", nobody, BIG_COUNT, work))
    block = machine.aligned(BIG_BYTES)
    block.write(piece)
    path = directory / "raw"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_DIRECT, 0o600)
    os.posix_fallocate(descriptor, 0, BIG_COUNT * 2 * BIG_BYTES)
    offsets = iter(range(0, BIG_COUNT * 2 * BIG_BYTES, BIG_BYTES))

    def durable() -> None:
        os.pwrite(descriptor, block, next(offsets))
        os.fdatasync(descriptor)

    stages.append(stage("bare disk: O_DIRECT + fdatasync", nobody, BIG_COUNT, durable))
    os.close(descriptor)
    path.unlink()
    with firepond.kv(address, "breakdown", cls="cache", capacity_bytes=4 << 30) as namespace:
        keys = iter(range(10 * BIG_COUNT))
        put = partial(put_next, namespace, keys, piece)
        stages.append(stage("one replica, not durable (KV put)", servers, BIG_COUNT, put))
    with cluster.open_raw("/written", "wb") as file:
        numbers = iter(range(10 * BIG_COUNT))

        def write() -> None:
            file.pwrite(piece, next(numbers) * BIG_BYTES)
            file.flush()

        stages.append(stage("three replicas, durable", servers, BIG_COUNT, write))
    return stages


def print_stages(console: Console, title: str, stages: list[Stage]) -> None:
    table = Table(title=title)
    table.add_column("stage")
    for name in ("median µs", "CPU µs: client", "servers", "sleeps: client", "servers"):
        table.add_column(name, justify="right")
    for one in stages:
        figures = (one.median_us, one.cpu.client, one.cpu.servers)
        sleeps = (f"{count:.2f}" for count in one.switches)
        table.add_row(one.name, *(f"{value:,.1f}" for value in figures), *sleeps)
    console.print(table)


def main() -> int:
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    (ROOT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="breakdown-", dir=ROOT / "build"))
    local = LocalCluster(directory / "cluster", storage_count=3, replica_count=3)
    local.start()
    try:
        local.wait_ready(60.0)
        servers = usage.Servers(tuple(process.pid for process in local.processes()))
        load = os.getloadavg()[0]
        with firepond.connect(local.address) as cluster:
            reads = read_stages(cluster, servers)
            writes = write_stages(cluster, servers, local.address, directory)
        print_stages(console, "a read of 4 KiB from the servers' memory", reads)
        print_stages(console, "a write of 1 MiB", writes)
        console.print(f"load of the machine at the begin: {load:.1f}")
    finally:
        local.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
