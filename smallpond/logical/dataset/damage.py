"""Damaged files that show themselves only while they are read.

Footers tell most damage before reading (`ParquetDataSet`). Damaged pages are found by decoding, and
nobody decodes a sound file twice: only after a reader failed are the files looked at, all at once.
Then they are left out, where the user allows it, and whoever read them reads once more.

Invariant: only what is in a file makes it damaged. A file that is missing, a disk or a network that
fails and too little memory are errors as ever, so that no sound file is left out because of them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from smallpond.common import CorruptFile, OutOfMemory
from smallpond.io.arrow.footer import corrupt_file
from smallpond.logical.dataset.skipped import report_skipped
from smallpond.logical.dataset.sql import open_connection

if TYPE_CHECKING:
    import duckdb

    from smallpond.logical.dataset.base import DataSet
    from smallpond.logical.dataset.parquet import ParquetDataSet

T = TypeVar("T")
# How DuckDB's Parquet reader complains. What it cannot make sense of is an error of no kind, often
# without the name of the file; errors about rows, queries and the disk have kinds or other texts.
READER_ERROR = re.compile(
    r"Invalid Error: "
    r"|IO Error: (Could not read (enough|all) bytes|Failed to read|Corrupt|Parquet )"
    r"|Invalid Input Error: .*\b(file \"|Parquet file)",
    re.IGNORECASE | re.DOTALL,
)
# Errors of Python code that DuckDB called: a function, or the file system of a URL.
PYTHON_ERROR = re.compile(r"Python exception occurred|\n\nAt:\n")


def may_be_damage(error: BaseException) -> bool:
    """Whether a reader that met a damaged file may have raised the error, or caused it.

    Arrow's reader raises `CorruptFile`. DuckDB's errors come as they are or, out of a stream that
    it feeds to Arrow, as an OSError of no kind with the same text.
    """
    import duckdb

    found = False
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if isinstance(one, MemoryError | OutOfMemory | duckdb.OutOfMemoryException):
            return False
        if isinstance(one, CorruptFile):
            found = True
        elif isinstance(one, duckdb.Error) or (type(one) is OSError and one.errno is None):
            text = str(one)
            told = type(one) is duckdb.Error or READER_ERROR.match(text) is not None
            found |= told and PYTHON_ERROR.search(text) is None
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return found


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


@contextlib.contextmanager
def reader_connection(dataset: DataSet) -> Iterator[duckdb.DuckDBPyConnection | None]:
    """A connection to read the data set with, if only that then knows the rows left out."""
    if not dataset.reader_knows_skipped:
        yield None
        return
    with contextlib.closing(open_connection()) as conn:
        yield conn


def read_intact(
    dataset: DataSet, read: Callable[[DataSet, duckdb.DuckDBPyConnection | None], T]
) -> T:
    """What `read` makes of the data set; once more without the damaged files if it may.

    Warns of what was left out.
    """
    with reader_connection(dataset) as conn:
        try:
            found = read(dataset, conn)
        except Exception as error:
            if not leave_out_damaged([dataset], error):
                raise
            found = read(dataset, conn)
        report_skipped([dataset], conn)
        return found


def _parquet_parts(datasets: Sequence[DataSet]) -> Iterator[ParquetDataSet]:
    from smallpond.logical.dataset.parquet import ParquetDataSet
    from smallpond.logical.dataset.partitioned import PartitionedDataSet
    from smallpond.logical.dataset.union import UnionDataSet

    for dataset in datasets:
        if isinstance(dataset, ParquetDataSet):
            yield dataset
        elif isinstance(dataset, PartitionedDataSet | UnionDataSet):
            yield from _parquet_parts(dataset.datasets)
