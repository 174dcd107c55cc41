"""The parts of a GraySort task: columns and records, the order of keys, splits, sort engines."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.gray_sort import uniform_splits
from benchmarks.smallpond.gensort import Records, records
from benchmarks.smallpond.gray_tasks import SORTERS, key_order, records_of, table_of


def few_keys(count: int) -> Records:
    """Records with many equal keys, and keys that differ in the last byte only."""
    rows = records(0, count)
    rows[:, :10] = np.random.default_rng(3).integers(0, 2, (count, 10))
    return rows


def test_columns_and_records_are_the_same_bytes() -> None:
    """Goal: nothing is lost on the way. Method: whole tables, slices, chunks. Oracle: the rows."""
    rows = records(0, 1_000)
    table = table_of(rows)
    assert np.array_equal(records_of(table), rows)
    assert np.array_equal(records_of(table.slice(100, 50)), rows[100:150])
    chunked = pa.concat_tables([table.slice(0, 300), table.slice(300)])
    assert np.array_equal(records_of(chunked), rows)


@pytest.mark.parametrize("rows", [records(0, 3_000), few_keys(3_000), few_keys(1), few_keys(0)])
def test_key_order_is_that_of_bytes(rows: Records) -> None:
    """Goal: the numpy order, with ties in the first 64 bits. Oracle: Python's sort of bytes."""
    keys = rows[:, :10]
    expected = sorted(key.tobytes() for key in keys)
    assert [key.tobytes() for key in keys[key_order(keys)]] == expected


@pytest.mark.parametrize("engine", SORTERS)
@pytest.mark.parametrize("rows", [records(0, 3_000), few_keys(20_000), few_keys(0)])
def test_every_engine_sorts(engine: str, rows: Records) -> None:
    """Goal: engines are interchangeable. Oracle: sorted keys, and the same records."""
    reader = table_of(rows).to_reader(1_000)
    blocks = [block.copy() for block in SORTERS[engine](reader, len(rows))]
    out = np.concatenate(blocks) if blocks else np.empty((0, 100), dtype=np.uint8)
    keys = [row[:10].tobytes() for row in out]
    assert keys == sorted(keys)
    assert sorted(row.tobytes() for row in out) == sorted(row.tobytes() for row in rows)


def test_uniform_splits_divide_equally() -> None:
    """Goal: known splits. Oracle: counts of uniform keys within 10 % of each other."""
    splits = uniform_splits(8)
    assert splits == sorted(splits) and {len(split) for split in splits} == {10}
    keys = np.sort(records(0, 40_000)[:, :10].copy().view("S10").ravel())
    edges = [0, *np.searchsorted(keys, np.array(splits, dtype="S10")).tolist(), len(keys)]
    sizes = [end - begin for begin, end in pairwise(edges)]
    assert max(sizes) < 1.1 * min(sizes)
