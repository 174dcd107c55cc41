"""The KV tier on a real cluster."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import firepond
from firepond.client.kv import KvNamespace, Status
from firepond.fs.errors import (
    Closed,
    ClusterUnreachable,
    InvalidArgument,
    NamespaceConflict,
    NamespaceUnknown,
    ValueTooLarge,
)
from tests.fixtures.cluster import TestCluster, wait_until

MIB = 1 << 20
_names = itertools.count()


@pytest.fixture(params=["cache", "durable"])
def kv(cluster: TestCluster, request: pytest.FixtureRequest) -> Iterator[KvNamespace]:
    """A namespace of the test's own, of each class."""
    name = f"tests-{next(_names)}-{request.param}"
    with firepond.kv(cluster.address, name, request.param, capacity_bytes=1 << 30) as opened:
        yield opened


def block(number: int, size: int = 64 << 10) -> bytes:
    """A value that says which one it is."""
    return np.random.default_rng(number).bytes(size)


def test_values_live_and_die(kv: KvNamespace) -> None:
    """Goal: the life of values in batches. Oracle: what was put, and who was first."""
    keys = ["a", b"b", "c" * 1024]
    values = [block(1), b"", block(3, 3 * MIB + 7)]
    assert kv.put(keys, values) == [Status.STORED] * 3
    assert kv.put(["a", "d"], [b"late", b"4"]) == [Status.EXISTS, Status.STORED]
    assert kv.get([*keys, "missing"]) == [*values, None]
    assert kv.exists(["missing", *keys]) == [False, True, True, True]
    assert kv.match_prefix([*keys, "missing", "d"]) == 3
    assert kv.match_prefix([]) == 0
    assert kv.delete(["a", "missing"]) == [Status.DELETED] * 2
    assert kv.match_prefix(keys) == 0
    assert kv.put(["a"], [b"again"]) == [Status.STORED]
    assert kv.get(["a"]) == [b"again"]
    stats = kv.stats()
    assert stats["stored_count"] == 5
    assert stats["exists_count"] == 1
    assert stats["last_error"] is None


def test_buffers_are_filled_in_place(kv: KvNamespace) -> None:
    """Goal: values land in any writable buffer. Oracle: bytes, sizes, and untouched rests."""
    array = np.arange(50_000, dtype=np.float32).reshape(100, 500)
    text = b"some bytes"
    assert kv.put(["array", "text"], [array, memoryview(text)]) == [Status.STORED] * 2
    target = np.zeros_like(array)
    view = memoryview(bytearray(b"." * 20))
    small = bytearray(3)
    sizes = kv.get(["array", "text", "text", "none"], [target, view[5:], small, bytearray(9)])
    assert sizes == [array.nbytes, len(text), None, None]
    assert np.array_equal(target, array)
    assert bytes(view) == b"....." + text + b"....."
    assert "buffer_too_small" in kv.stats()["last_error"]
    small.extend(b"no longer lent")


def test_tensors_are_filled_in_place(kv: KvNamespace) -> None:
    """Goal: torch tensors, bfloat16 too. Oracle: equality, and a refusal where it would copy."""
    torch = pytest.importorskip("torch")
    tensor = torch.randn(64, 128).to(torch.bfloat16)
    assert kv.put(["tensor"], [tensor]) == [Status.STORED]
    target = torch.zeros_like(tensor)
    assert kv.get(["tensor"], [target]) == [tensor.numel() * 2]
    assert torch.equal(target, tensor)
    with pytest.raises(InvalidArgument):
        kv.put(["other"], [tensor.t()])


def test_batches_are_large(kv: KvNamespace) -> None:
    """Goal: hundreds of values a call. Oracle: every byte."""
    keys = [f"layer{number}" for number in range(300)]
    values = [block(number, 100_000) for number in range(300)]
    assert set(kv.put(keys, values, timeout_s=60)) == {Status.STORED}
    assert kv.match_prefix([*keys, "end"]) == 300
    assert kv.get(keys, timeout_s=60) == values


def test_bad_input_is_refused(kv: KvNamespace, cluster: TestCluster) -> None:
    """Goal: wrong arguments raise; a value that is too large is a status. Oracle: the classes."""
    too_large, stored = kv.put(["large", "small"], [bytearray(32 * MIB + 1), b"x"])
    assert isinstance(too_large, ValueTooLarge)
    assert stored is Status.STORED
    for key in ("", "k" * 1025):
        with pytest.raises(InvalidArgument):
            kv.get([key])
    with pytest.raises(InvalidArgument):
        kv.put(["a", "b"], [b"1"])
    with pytest.raises(TypeError):
        kv.get("not a list")
    with pytest.raises(BufferError):
        kv.get(["a"], [b"read-only"])
    with pytest.raises(BufferError):
        kv.put(["a"], [np.zeros((4, 4))[:, 1]])
    with pytest.raises(InvalidArgument):
        firepond.kv("http//nowhere", "x")
    with pytest.raises(InvalidArgument):
        firepond.kv(cluster.address, "x", "fast")  # type: ignore[arg-type]
    with pytest.raises(ClusterUnreachable):
        firepond.kv("firepond://127.0.0.1:1", "x", timeout_s=0.5)


def test_namespaces_are_apart(cluster: TestCluster) -> None:
    """Goal: names separate values; settings cannot change. Oracle: misses and error classes."""
    one = firepond.kv(cluster.address, "apart-1", capacity_bytes=MIB)
    other = firepond.kv(cluster.address, "apart-2", capacity_bytes=MIB)
    one.put(["key"], [b"1"])
    assert other.get(["key"]) == [None]
    again = firepond.kv(cluster.address, "apart-1", create=False)
    assert again.get(["key"]) == [b"1"]
    with pytest.raises(NamespaceConflict):
        firepond.kv(cluster.address, "apart-1", "durable", capacity_bytes=MIB)
    with pytest.raises(NamespaceUnknown):
        firepond.kv(cluster.address, "nobody", create=False, timeout_s=0.5)
    for opened in (one, other, again):
        opened.close()
        opened.close()
        with pytest.raises(Closed):
            opened.get(["key"])


def test_first_writer_wins(kv: KvNamespace) -> None:
    """Goal: of many writers of a key exactly one stores. Method: threads race on 20 keys.
    Oracle: one STORED a key, and its value is read by all."""
    keys = [f"raced{number}" for number in range(20)]
    outcomes: dict[int, list[Any]] = {}

    def race(writer: int) -> None:
        values = [f"{writer}:{key}".encode() * 1000 for key in keys]
        outcomes[writer] = kv.put(keys, values)

    threads = [threading.Thread(target=race, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = kv.get(keys)
    for place, key in enumerate(keys):
        winners = [one for one in outcomes if outcomes[one][place] is Status.STORED]
        assert len(winners) == 1, f"{key}: {outcomes}"
        assert found[place] == f"{winners[0]}:{key}".encode() * 1000


def test_async_twins(kv: KvNamespace) -> None:
    """Goal: the same from an event loop, at the same time. Oracle: the values."""

    async def use() -> None:
        keys = [f"async{number}" for number in range(8)]
        stored = await asyncio.gather(*(kv.aput([key], [key.encode()]) for key in keys))
        assert stored == [[Status.STORED]] * 8
        assert await kv.aget(keys) == [key.encode() for key in keys]
        buffer = bytearray(6)
        assert await kv.aget(keys[:1], [buffer]) == [6]
        assert await kv.aexists([*keys, "no"]) == [True] * 8 + [False]
        assert await kv.amatch_prefix(keys) == 8
        assert await kv.adelete(keys[:1]) == [Status.DELETED]

    asyncio.run(use())


def in_child(check: Callable[..., None], *arguments: Any) -> None:
    """Runs a check in a forked child; fails when it does."""
    process = multiprocessing.get_context("fork").Process(target=check, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == 0, f"the child ended with {process.exitcode}"


def use_in_child(kv: KvNamespace) -> None:
    assert kv.get(["parent"]) == [b"1"]
    assert kv.put(["child"], [b"2"]) == [Status.STORED]
    kv.close()


def test_forked_children_connect_anew(kv: KvNamespace) -> None:
    """Goal: parent and child both go on after a fork. Oracle: each other's values."""
    kv.put(["parent"], [b"1"])
    in_child(use_in_child, kv)
    assert kv.get(["parent", "child"]) == [b"1", b"2"]


def test_pickled_namespaces_open_again(kv: KvNamespace) -> None:
    """Goal: the object travels. Oracle: the value."""
    kv.put(["key"], [b"1"])
    with pickle.loads(pickle.dumps(kv)) as copy:
        assert copy.get(["key"]) == [b"1"]


def test_capacity_evicts_what_was_not_used(cluster: TestCluster) -> None:
    """Goal: the bound holds and what is read stays. Method: put five times the capacity while
    reading two values all the time. Oracle: what is left fits, and the two are there."""
    capacity = 16 * MIB
    with firepond.kv(cluster.address, "evicting", capacity_bytes=capacity) as kv:
        kept = ["kept0", "kept1"]
        kv.put(kept, [block(0, MIB // 4), block(1, MIB // 4)])
        keys = [f"passing{number}" for number in range(320)]
        for start in range(0, len(keys), 8):
            kv.put(keys[start : start + 8], [block(9, MIB // 4)] * 8)
            assert None not in kv.get(kept), f"evicted although in use, at {start}"

        def left_bytes() -> int:
            return sum(kv.exists(keys)) * (MIB // 4)

        wait_until(lambda: left_bytes() <= capacity, 15, "the namespace shrinks to its capacity")
        assert left_bytes() > 0
        assert kv.exists(kept) == [True, True]


def test_durable_values_survive_a_kill(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: class durable is as safe as files. Method: kill the head of a chain after a put,
    read, restart. Oracle: every value, and new puts while it is away."""
    cluster = make_cluster()
    with firepond.kv(cluster.address, "durable", "durable", capacity_bytes=1 << 30) as kv:
        keys = [f"key{number}" for number in range(40)]
        values = [block(number) for number in range(40)]
        assert set(kv.put(keys, values)) == {Status.STORED}
        name = cluster.process_at(0)
        cluster.kill(name)
        assert kv.get(keys, timeout_s=20) == values
        assert kv.put(["after"], [b"1"], timeout_s=20) == [Status.STORED]
        cluster.restart(name)
        cluster.wait_serving()
        assert kv.match_prefix([*keys, "after"]) == 41


def test_a_dead_node_is_a_miss(make_cluster: Callable[..., TestCluster]) -> None:
    """Goal: the tier fails fast and never raises. Method: kill all storage. Oracle: misses and
    error objects within the deadline."""
    cluster = make_cluster()
    with firepond.kv(cluster.address, "dead", capacity_bytes=1 << 30) as kv:
        kv.put(["key"], [b"1"])
        for name in {cluster.process_at(place) for place in (0, 1, 2)}:
            cluster.kill(name)
        begin = time.monotonic()
        assert kv.get(["key"], timeout_s=1) == [None]
        assert kv.match_prefix(["key"], timeout_s=1) == 0
        assert isinstance(kv.put(["other"], [b"1"], timeout_s=1)[0], firepond.errors.FirepondError)
        assert time.monotonic() - begin < 6
        assert kv.stats()["read_failure_count"] >= 2
