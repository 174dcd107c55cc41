"""smallpond on a cluster: data behind `firepond://` and on a mount, and a job root on a mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import firepond
import smallpond
from tests.fixtures.cluster import TestCluster

ROWS = 20_000


def table() -> pyarrow.Table:
    numbers = np.arange(ROWS)
    texts = [f"row {number}" for number in numbers]
    return pyarrow.table({"id": numbers, "kind": numbers % 7, "text": texts})


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Any]:
    """A session with a local job root."""
    found = smallpond.init(data_root=str(tmp_path / "jobs"), progress=False)
    yield found
    found.shutdown()


def expected(kinds: int = 7) -> list[tuple[int, int]]:
    numbers = np.arange(ROWS)
    return [(kind, int(numbers[numbers % 7 == kind].sum())) for kind in range(kinds)]


def test_urls(cluster: TestCluster, session: Any) -> None:
    """Goal: jobs read and write `firepond://`. Method: three files in, a filter and an aggregation,
    Parquet out in each mode. Oracle: numpy on the same rows, and the files of the cluster.
    """
    root = f"{cluster.address}/smallpond-{os.urandom(4).hex()}"
    path = root.removeprefix(cluster.address)
    with firepond.connect(cluster.address) as client:
        client.mkdir(path)
        for index in range(3):
            with client.open(f"{path}/in-{index}.parquet", "wb") as file:
                pyarrow.parquet.write_table(table().slice(index * 7000, 7000), file)
        frame = session.read_parquet(f"{root}/in-*.parquet")
        assert frame.count() == ROWS
        sums = frame.group_by("kind").agg("sum(id) as total").sort("kind")
        assert [(row["kind"], row["total"]) for row in sums.take_all()] == expected()
        sums.write_parquet(f"{root}/out")
        with pytest.raises(Exception, match="already holds files"):
            sums.write_parquet(f"{root}/out", mode="error")
        sums.filter("kind < 3").write_parquet(f"{root}/out", mode="overwrite")
        again = session.read_parquet(f"{root}/out/*.parquet").sort("kind").take_all()
        assert [(row["kind"], row["total"]) for row in again] == expected(3)
        names = client.listdir(f"{path}/out")
        assert not [name for name in names if name.startswith(".staging")], names


def test_mount(mount: Path) -> None:
    """Goal: a job whose root, input and output are on a mount. Method: hash partitions, sorted.
    Oracle: numpy on the same rows.
    """
    place = mount
    pyarrow.parquet.write_table(table(), place / "in.parquet")
    session = smallpond.init(data_root=str(place / "jobs"), progress=False)
    frame = session.read_parquet(str(place / "in.parquet"))
    parts = frame.repartition(4, hash_by="kind").partial_sort("id")
    parts.write_parquet(str(place / "out"))
    session.shutdown()
    found = pyarrow.parquet.read_table(place / "out")
    assert sorted(found["id"].to_pylist()) == list(range(ROWS))
