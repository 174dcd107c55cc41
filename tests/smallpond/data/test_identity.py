"""What a data set is, for the question whether work on it was done before."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from smallpond.logical.dataset import (
    ArrowTableDataSet,
    CsvDataSet,
    DataSet,
    JsonDataSet,
    PandasDataSet,
    ParquetDataSet,
    PartitionedDataSet,
    TextDataSet,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file of each kind."""
    parquet.write_table(pa.table({"i": range(100)}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("i\n1\n")
    (tmp_path / "a.json").write_text('{"i": 1}\n')
    return tmp_path


MAKERS: list[Callable[[Path], DataSet]] = [
    lambda root: ParquetDataSet([str(root / "*.parquet")]),
    lambda root: ParquetDataSet([str(root / "*.parquet")]).partition_by_rows(3)[1],
    lambda root: CsvDataSet(str(root / "a.csv"), header=None),
    lambda root: JsonDataSet(str(root / "a.json")),
    lambda root: TextDataSet(str(root / "a.csv")),
    lambda root: ArrowTableDataSet(pa.table({"i": range(10)})),
    lambda root: PandasDataSet(pd.DataFrame({"i": range(10)})),
    lambda root: ArrowTableDataSet(pa.table({"i": range(10)})).partition_by_rows(3)[1],
    lambda root: PartitionedDataSet(ParquetDataSet([str(root / "*.parquet")]).partition_by_rows(3)),
]


@pytest.mark.parametrize("maker", MAKERS)
def test_using_a_data_set_does_not_change_it(root: Path, maker: Callable[[Path], DataSet]) -> None:
    """Goal: what is found out on the way is no part of the identity. Method: read it in every way
    before asking again; a pickle; one made anew. Oracle: equal parts.
    """
    dataset = maker(root)
    before = dataset.identity_parts()
    _ = dataset.num_rows, dataset.empty, dataset.to_arrow_table()
    dataset.partition_by_files(2)
    assert dataset.identity_parts() == before
    assert maker(root).identity_parts() == before
    assert pickle.loads(pickle.dumps(dataset)).identity_parts() == before


def test_files_count_by_version(root: Path) -> None:
    """Goal: a file that changed is other data, also one of the same size; how it was named is not.
    Oracle: parts.
    """
    path = root / "a.parquet"
    before = ParquetDataSet([str(path)]).identity_parts()
    assert ParquetDataSet(["*.parquet"], root_dir=str(root)).identity_parts() == before
    os.utime(path, ns=(0, 12345))
    assert ParquetDataSet([str(path)]).identity_parts() != before


def test_files_behind_urls_count_by_version() -> None:
    """Goal: remote data that changed is other data. Method: write it again, of the same size.
    Oracle: parts.
    """
    files = fsspec.filesystem("memory")
    url = "memory://identity/a.txt"
    files.pipe_file(url, b"1\n")
    before = TextDataSet(url).identity_parts()
    assert TextDataSet(url).identity_parts() == before
    files.pipe_file(url, b"2\n")
    assert TextDataSet(url).identity_parts() != before


def test_settings_and_rows_count(root: Path) -> None:
    """Goal: whatever decides the rows decides the identity. Method: one change at a time.
    Oracle: all parts differ.
    """
    path = str(root / "a.parquet")
    table = pa.table({"i": range(10)})
    made: list[DataSet] = [
        ParquetDataSet([path]),
        ParquetDataSet([path], columns=["i"]),
        ParquetDataSet([path], generated_columns=["filename"]),
        *ParquetDataSet([path]).partition_by_rows(3),
        ArrowTableDataSet(table),
        ArrowTableDataSet(table.slice(1)),
        ArrowTableDataSet(table.rename_columns(["j"])),
        CsvDataSet(str(root / "a.csv"), {"i": "INT"}),
        CsvDataSet(str(root / "a.csv"), {"i": "BIGINT"}),
        CsvDataSet(str(root / "a.csv"), {"i": "INT"}, delim=";"),
    ]
    parts: list[Any] = [(type(dataset), dataset.identity_parts()) for dataset in made]
    for index, one in enumerate(parts):
        assert one not in parts[:index], made[index]


def test_chunks_do_not_count() -> None:
    """Goal: equal rows are equal however they are chunked. Oracle: parts."""
    table = pa.table({"i": range(10), "s": ["x"] * 10})
    chunked = pa.concat_tables([table.slice(0, 3), table.slice(3)])
    parts = [ArrowTableDataSet(one).identity_parts() for one in (table, chunked)]
    assert parts[0] == parts[1]


def test_missing_files_equal_nothing(tmp_path: Path) -> None:
    """Goal: work on files that are gone is never taken for done. Oracle: parts."""
    missing = ParquetDataSet([str(tmp_path / "no.parquet")])
    assert missing.identity_parts() != missing.identity_parts()
