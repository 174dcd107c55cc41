"""Sorts and random orders of more rows than memory holds, cut into ranges on one machine."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from smallpond.dataframe import DataFrame, Session
from smallpond.logical.optimizer import large_orders
from tests.smallpond.frame.conftest import SessionMaker
from tests.smallpond.frame.oracle import expected_rows

_random = random.Random(4)
KEYS = [_random.choice([None, *range(500)]) for _ in range(5_000)]
T = pa.table({"k": pa.array(KEYS, pa.int64()), "n": pa.array(range(5_000), pa.int64())})


@pytest.fixture
def sp(make_session: SessionMaker, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session to which every order is a large one."""
    monkeypatch.setattr(large_orders, "spills_little", lambda *_: False)
    return make_session(npartitions=4)


def notes(frame: DataFrame) -> str:
    assert frame.optimizer is not None
    return "\n".join(frame.optimizer.notes)


@pytest.mark.parametrize("order", ["k desc, n", "k nulls first, n desc", "n"])
def test_one_order_over_all_ranges(sp: Session, tmp_path: Path, order: str) -> None:
    """Goal: ranges one after the other are the whole in order. Method: from files, through a
    filter, into files. Oracle: DuckDB's order of the same rows."""
    source, target = str(tmp_path / "t"), str(tmp_path / "sorted")
    sp.from_arrow(T).write_parquet(source)
    frame = sp.read_parquet(source).filter("n % 3 > 0").sort(*order.split(", "))
    frame.write_parquet(target)
    query = f"select * from t where n % 3 > 0 order by {order}"
    assert [tuple(row.values()) for row in sp.read_parquet(target).take_all()] == expected_rows(
        query, t=T
    )
    assert [tuple(row.values()) for row in frame.take_all()] == expected_rows(query, t=T)
    assert "sampled ranges" in notes(frame)


def test_what_is_around_an_order(sp: Session) -> None:
    """Goal: an order above a join, below a select, and beside another reader of its source keeps
    every row in its place. Oracle: DuckDB."""
    t = sp.from_arrow(T)
    joined = t.join(t.group_by("k").agg("count(*) as c"), on="k").sort("n desc").select("n", "c")
    query = (
        "select n, c from t join (select k, count(*) as c from t group by k) using (k) "
        "order by n desc"
    )
    assert [tuple(row.values()) for row in joined.take_all()] == expected_rows(query, t=T)
    assert "sampled ranges" in notes(joined)
    counted = t.sort("k").group_by("k").agg("count(*) as c").sort("c desc", "k").limit(3)
    query = "select k, count(*) as c from t group by k order by c desc, k limit 3"
    assert [tuple(row.values()) for row in counted.take_all()] == expected_rows(query, t=T)


def test_a_random_order_is_one(sp: Session) -> None:
    """Goal: every row once, and not where it was: rows move between partitions and within them.
    Oracle: the numbers of the rows; about as many steps up as down."""
    frame = sp.from_arrow(T).random_shuffle()
    numbers = [row["n"] for row in frame.take_all()]
    assert sorted(numbers) == list(range(5_000))
    rising = sum(a < b for a, b in pairwise(numbers))
    assert 2_000 < rising < 3_000
    assert 2_000 < sum(numbers[:1_000]) / 1_000 < 3_000


def test_types_that_do_not_travel_stay_in_one_task(sp: Session) -> None:
    """Goal: no sort fails for being large. Method: a column of a type that no shuffle takes.
    Oracle: the rows, from a plan without ranges."""
    frame = sp.from_arrow(T).select("n", "union_value(a := n) as u").sort("n desc").select("n")
    assert [row["n"] for row in frame.take_all()] == list(range(4_999, -1, -1))
    assert "sampled ranges" not in notes(frame)
