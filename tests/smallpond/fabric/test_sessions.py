"""Sessions whose tasks run on executors: the DataFrame API above the same backends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import smallpond
from smallpond.common import SmallpondError
from smallpond.dataframe import Session
from tests.smallpond.core.plans import alive, wait_until
from tests.smallpond.fabric.cluster import pid_of

GROUP_COUNT = 7


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A session with two executors of this machine."""
    made = smallpond.init(data_root=str(tmp_path), num_executors=2, progress=False)
    yield made
    made.shutdown()


def test_a_session_on_executors(session: Session) -> None:
    """Goal: `init(num_executors=2)` runs data frames on executors, job after job. Method: a
    shuffle with a count by group, twice; a Python function of the script. Oracle: the sums; two
    executors that end with the session."""
    offset = 1000
    items = session.from_items([{"k": index % GROUP_COUNT, "v": index} for index in range(700)])
    for _ in range(2):
        parts = items.repartition(3, hash_by="k")
        counts = session.partial_sql("select k, count(*) as n from {0} group by k", parts)
        rows = {row["k"]: row["n"] for row in counts.recompute().take_all()}
        assert rows == dict.fromkeys(range(GROUP_COUNT), 100)
    moved = items.repartition(4, by_rows=True).map(lambda row: {"v": row["v"] + offset})
    assert sorted(row["v"] for row in moved.take_all()) == list(range(offset, offset + 700))
    executors = session._get_backend().executors  # type: ignore[attr-defined]
    assert {executor.id for executor in executors} <= {
        socket.gethostname(),
        f"{socket.gethostname()}.1",
    }
    pids = [pid_of(executor) for executor in executors]
    assert pids and all(alive(pid) for pid in pids)
    session.shutdown()
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_an_error_of_a_function_comes_through(session: Session) -> None:
    """Goal: what a function raises on an executor reaches the user. Method: a division by zero.
    Oracle: its name in the error."""
    frame = session.from_items([1, 2]).map(lambda row: {"v": row["item"] / 0})
    with pytest.raises(SmallpondError, match="ZeroDivisionError"):
        frame.compute()


def test_an_unreachable_ray_cluster(tmp_path: Path) -> None:
    """Goal: `init(ray_address=...)` without a cluster fails at once. Method: an unused port.
    Oracle: a connection error that names the address."""
    pytest.importorskip("ray")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=address):
            smallpond.init(data_root=str(tmp_path), ray_address=address)
