"""Sizes, limits, small list helpers and the errors of the whole package.

Everything else imports this module, so it imports nothing heavy: neither numpy nor DuckDB. The
names and values are those of smallpond 0.15, which scripts import; the UDF names are offered here
as well, as there.

Errors: `SmallpondError` is the root. Those that stand for a mistake in arguments or data also are
the builtin a caller would expect (`FileNotFoundError`, `AssertionError`, ...), so that both
`except` clauses work.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from smallpond.logical.udf import (
    DuckDbExtensionContext,
    ExternalModuleContext,
    PythonUDFContext,
    UDFAnyParameters,
    UDFContext,
    UDFListType,
    UDFMapType,
    UDFStructType,
    UDFType,
    UserDefinedFunction,
    udf,
)

__all__ = [
    "DATA_PARTITION_COLUMN_NAME",
    "DEFAULT_BATCH_SIZE",
    "DEFAULT_MAX_FAIL_COUNT",
    "DEFAULT_MAX_RETRY_COUNT",
    "DEFAULT_ROW_GROUP_BYTES",
    "DEFAULT_ROW_GROUP_SIZE",
    "GB",
    "GENERATED_COLUMNS",
    "INPUT_VIEW_PREFIX",
    "KB",
    "MAX_NUM_ROW_GROUPS",
    "MAX_PARQUET_FILE_BYTES",
    "MAX_ROW_GROUP_BYTES",
    "MAX_ROW_GROUP_SIZE",
    "MB",
    "PARQUET_METADATA_KEY_PREFIX",
    "RAND_SEED_BYTE_LEN",
    "TB",
    "ColumnNotFound",
    "CorruptFile",
    "DataNotFound",
    "DuckDbExtensionContext",
    "ExternalModuleContext",
    "InjectedFault",
    "InvalidArgument",
    "MissingDependency",
    "NonzeroExitCode",
    "OutOfMemory",
    "PythonUDFContext",
    "RowCountMismatch",
    "SmallpondError",
    "UDFAnyParameters",
    "UDFContext",
    "UDFListType",
    "UDFMapType",
    "UDFStructType",
    "UDFType",
    "UnsatisfiableRequest",
    "UserDefinedFunction",
    "WorkerLost",
    "clamp_row_group_bytes",
    "clamp_row_group_size",
    "clamp_value",
    "first_value_in_dict",
    "get_nth_partition",
    "next_power_of_two",
    "pytest_running",
    "round_up",
    "split_into_cols",
    "split_into_rows",
    "udf",
]

KB = 1024
MB = 1024 * KB
GB = 1024 * MB
TB = 1024 * GB

DEFAULT_MAX_RETRY_COUNT = 5
DEFAULT_MAX_FAIL_COUNT = 3

MAX_ROW_GROUP_SIZE = 10 * 1024 * 1024
MAX_ROW_GROUP_BYTES = 2 * GB
MAX_NUM_ROW_GROUPS = 256
MAX_PARQUET_FILE_BYTES = 8 * GB
# DuckDB's own row group size: 60 vectors of 2048 rows.
DEFAULT_ROW_GROUP_SIZE = 122880
DEFAULT_ROW_GROUP_BYTES = DEFAULT_ROW_GROUP_SIZE * 4 * KB
DEFAULT_BATCH_SIZE = 122880

RAND_SEED_BYTE_LEN = 128
DATA_PARTITION_COLUMN_NAME = "__data_partition__"
PARQUET_METADATA_KEY_PREFIX = "SMALLPOND:"
INPUT_VIEW_PREFIX = "__input"
GENERATED_COLUMNS = ("filename", "file_row_number")


class SmallpondError(Exception):
    """The root of all errors of this package."""


class InjectedFault(SmallpondError):
    """A fault that a test asked for."""


class OutOfMemory(SmallpondError):
    """A task needed more memory than it was given; it is retried with more."""


class NonzeroExitCode(SmallpondError):
    """A process that ran a task ended with an error code."""


class WorkerLost(SmallpondError):
    """The process or machine that ran a task is gone; the task runs again elsewhere."""


class UnsatisfiableRequest(SmallpondError):
    """A task asks for more CPUs, GPUs or memory than the largest machine has."""


class InvalidArgument(SmallpondError, ValueError, AssertionError):
    """An argument has a value that cannot be used. (0.15 asserted.)"""


class DataNotFound(SmallpondError, FileNotFoundError):
    """A path or pattern of a data set matches no file."""


class ColumnNotFound(SmallpondError, AssertionError):
    """A column that was asked for is not in the file. (0.15 raised an AssertionError here.)"""


class CorruptFile(SmallpondError):
    """A file is not what its data set says it is, or it is damaged."""

    reason = ""
    """What is wrong, without the path and without what to do."""


class RowCountMismatch(SmallpondError, AssertionError):
    """Rows were lost or made on the way; never ignored."""


class MissingDependency(SmallpondError, ImportError):
    """An optional package is needed; the message says which to install."""


K = TypeVar("K")
V = TypeVar("V")


def pytest_running() -> bool:
    """Whether this process runs tests."""
    return "pytest" in sys.modules


def clamp_value(val: Any, minval: Any, maxval: Any) -> Any:
    """`val`, or the bound that it passes."""
    return max(minval, min(val, maxval))


def clamp_row_group_size(
    val: int, minval: int = DEFAULT_ROW_GROUP_SIZE, maxval: int = MAX_ROW_GROUP_SIZE
) -> int:
    """A row group size in rows within the limits."""
    return max(minval, min(val, maxval))


def clamp_row_group_bytes(
    val: int, minval: int = DEFAULT_ROW_GROUP_BYTES, maxval: int = MAX_ROW_GROUP_BYTES
) -> int:
    """A row group size in bytes within the limits."""
    return max(minval, min(val, maxval))


def first_value_in_dict(d: dict[K, V]) -> V | None:
    """The value that was put in first; None if there is none."""
    return next(iter(d.values()), None)


def split_into_cols(items: Sequence[V], npartitions: int) -> list[list[V]]:
    """Deal the items round-robin: partition i gets items i, i + n, i + 2n, ..."""
    return [list(items[index::npartitions]) for index in range(npartitions)]


def split_into_rows(items: Sequence[V], npartitions: int) -> list[list[V]]:
    """Cut the items into consecutive runs whose lengths differ by at most one, longer ones first.

    >>> split_into_rows(list(range(10)), 3)
    [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    """
    short, longer_count = divmod(len(items), npartitions)
    runs = []
    begin = 0
    for index in range(npartitions):
        end = begin + short + (index < longer_count)
        runs.append(list(items[begin:end]))
        begin = end
    return runs


def get_nth_partition(items: Sequence[V], n: int, npartitions: int) -> Sequence[V]:
    """The n-th run of `split_into_rows` without making the others."""
    short, longer_count = divmod(len(items), npartitions)
    begin = n * short + min(n, longer_count)
    return items[begin : begin + short + (n < longer_count)]


def next_power_of_two(x: int) -> int:
    """The smallest power of two that is at least x."""
    return int(2 ** (x - 1).bit_length())


def round_up(x: float, align_size: int = MB) -> int:
    """x rounded up to a multiple of `align_size`."""
    return math.ceil(x / align_size) * align_size
