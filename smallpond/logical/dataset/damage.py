"""Damaged files that show themselves only while they are read.

Footers tell most damage before reading (`ParquetDataSet`). Damaged pages are found by decoding, and
nobody decodes a sound file twice: only after a failure are the files looked at, all at once. Then
they are left out, where the user allows it, and whoever read them reads once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from smallpond.common import CorruptFile
from smallpond.io.arrow.footer import corrupt_file
from smallpond.logical.dataset.skipped import report_skipped

if TYPE_CHECKING:
    from smallpond.logical.dataset.base import DataSet
    from smallpond.logical.dataset.parquet import ParquetDataSet

T = TypeVar("T")
READER_ERROR = re.compile(r"\b[Ff]ile \"")


def may_be_damage(error: BaseException) -> bool:
    """Whether a damaged file may have caused the error.

    What DuckDB's Parquet reader cannot make sense of is an error of no kind, often without the name
    of the file; errors about rows, queries and functions have kinds.
    """
    import duckdb
    import pyarrow as pa

    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if type(one) is duckdb.Error or isinstance(one, CorruptFile | OSError | pa.ArrowException):
            return True
        if isinstance(one, duckdb.IOException):
            return True
        if isinstance(one, duckdb.InvalidInputException) and READER_ERROR.search(str(one)):
            return True
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return False


def leave_out_damaged(datasets: Sequence[DataSet], error: BaseException) -> bool:
    """Whether reading failed because of files that now are left out.

    Raises `CorruptFile` with their names where the user did not allow to leave them out.
    """
    if not may_be_damage(error):
        return False
    found = False
    for dataset in _parquet_parts(datasets):
        if dataset.ignore_corrupt_files:
            found |= bool(dataset.leave_out_damaged_files())
        elif not isinstance(error, CorruptFile):
            damaged = dataset.verify(deep=True)
            for path, reason in damaged.items():
                more = f" (and {len(damaged) - 1} more files)" if len(damaged) > 1 else ""
                raise corrupt_file(path, f"{reason}{more}") from error
    return found


def read_intact(dataset: DataSet, read: Callable[[DataSet], T]) -> T:
    """What `read` makes of the data set; once more without the damaged files if it may."""
    try:
        return read(dataset)
    except Exception as error:
        if not leave_out_damaged([dataset], error):
            raise
    report_skipped([dataset], None)
    return read(dataset)


def _parquet_parts(datasets: Sequence[DataSet]) -> Iterator[ParquetDataSet]:
    from smallpond.logical.dataset.parquet import ParquetDataSet
    from smallpond.logical.dataset.partitioned import PartitionedDataSet
    from smallpond.logical.dataset.union import UnionDataSet

    for dataset in datasets:
        if isinstance(dataset, ParquetDataSet):
            yield dataset
        elif isinstance(dataset, PartitionedDataSet | UnionDataSet):
            yield from _parquet_parts(dataset.datasets)
