"""The peers' outputs are compared: a wrong one is found, whatever its order and types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.smallpond import inputs
from benchmarks.smallpond.check import looked_at
from benchmarks.smallpond.gensort import records
from benchmarks.smallpond.gray_tasks import key_order, table_of


def written(place: Path, *tables: pa.Table) -> Path:
    """Tables as the files of an output."""
    place.mkdir(exist_ok=True)
    for number, table in enumerate(tables):
        pq.write_table(table, place / f"{number}.parquet")
    return place


def test_equal_rows_are_equal_in_any_order_and_width(tmp_path: Path) -> None:
    """Goal: peers may differ in order, files and types. Oracle: equal counts and checksums."""
    one = pa.table({"word": ["a", "b", "c"], "n": pa.array([1, 2, 3], pa.int64())})
    other = pa.table({"n": pa.array([3, 1], pa.uint32()), "word": pa.array(["c", "a"])})
    third = pa.table({"n": pa.array([2], pa.uint32()), "word": pa.array(["b"])})
    left = looked_at("wordcount", written(tmp_path / "left", one))
    right = looked_at("wordcount", written(tmp_path / "right", other, third))
    assert (left.row_count, left.checksum) == (right.row_count, right.checksum)


@pytest.mark.parametrize("words", [["a", "b", "d"], ["a", "b"], ["a", "b", "c", "c"]])
def test_other_rows_differ(tmp_path: Path, words: list[str]) -> None:
    """Goal: a changed, lost or doubled row is found. Oracle: count or checksum differ."""
    right = pa.table({"word": ["a", "b", "c"], "n": [1, 1, 1]})
    wrong = pa.table({"word": words, "n": [1] * len(words)})
    left = looked_at("wordcount", written(tmp_path / "left", right))
    found = looked_at("wordcount", written(tmp_path / "right", wrong))
    assert (left.row_count, left.checksum) != (found.row_count, found.checksum)


def test_sorted_output_is_judged_over_all_files(tmp_path: Path) -> None:
    """Goal: order inside files and between them, whatever their names. Oracle: the fault."""
    rows = records(0, 5_000)
    rows = rows[key_order(rows[:, :10])]
    good = [table_of(rows[:2_000]), table_of(rows[2_000:])]
    assert looked_at("sort", written(tmp_path / "good", *good)).fault == ""
    assert looked_at("sort", written(tmp_path / "renamed", *good[::-1])).fault == ""
    overlapping = [table_of(rows[::2]), table_of(rows[1::2])]
    assert "out of order" in looked_at("sort", written(tmp_path / "bad", *overlapping)).fault
    inside = [table_of(rows[:2_000][::-1]), table_of(rows[2_000:])]
    assert "out of order" in looked_at("sort", written(tmp_path / "inside", *inside)).fault


def test_shuffle_that_keeps_the_order_is_a_fault(tmp_path: Path) -> None:
    """Goal: a shuffle must shuffle. Oracle: the fault of the input itself, none of a mixed one."""
    table = inputs._samples(0, 2_000)
    assert looked_at("shuffle", written(tmp_path / "kept", table)).fault
    mixed = table.take(pa.array(np.random.default_rng(1).permutation(2_000)))
    assert looked_at("shuffle", written(tmp_path / "mixed", mixed)).fault == ""


def test_no_output_is_a_fault(tmp_path: Path) -> None:
    """Goal: a peer that writes nothing does not pass. Oracle: the fault."""
    assert looked_at("join", tmp_path).fault == "no output"


def test_inputs_are_the_same_every_time(tmp_path: Path) -> None:
    """Goal: runs on different days compare. Oracle: equal bytes; half of the skewed keys alike."""
    places = [
        inputs.made(tmp_path / name, "join-skew", 0.0005) / "facts" / "0000.parquet"
        for name in ("one", "two")
    ]
    assert places[0].read_bytes() == places[1].read_bytes()
    keys = pq.read_table(places[0])["k"].to_numpy()
    assert 0.45 < np.mean(keys == inputs.SKEWED_KEY) < 0.55
