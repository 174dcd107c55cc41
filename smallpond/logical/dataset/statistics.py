"""What is known of a data set without reading it: rows, bytes, sizes and bounds of columns;
damage."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from smallpond.common import CorruptFile
from smallpond.io.arrow.footer import (
    ColumnStatistics,
    Footer,
    is_damage,
    merged_column,
    read_column_statistics,
    read_footer,
)
from smallpond.io.arrow.row_range import RowRange
from smallpond.logical.dataset.sql import is_plain_name

if TYPE_CHECKING:
    from smallpond.logical.dataset.parquet import ParquetDataSet

THREADS_MAX = 32
# Decoding takes memory, and a task has few cores.
DECODE_THREADS_MAX = 4


@dataclass(frozen=True)
class DataSetStatistics:
    """Sums over the files. Bytes of a part of a file are its share by rows."""

    num_files: int
    num_rows: int
    data_bytes: int
    """Before compression."""
    file_bytes: int
    columns: dict[str, ColumnStatistics] = field(default_factory=dict)


def parquet_statistics(dataset: ParquetDataSet) -> DataSetStatistics:
    """From the footers alone. Bounds of a part of a file are those of the file."""
    ranges = dataset.resolved_row_ranges
    filesystem = dataset._filesystem()
    paths = list(dict.fromkeys(one.path for one in ranges))
    if not paths:
        return DataSetStatistics(0, 0, 0, 0)
    with ThreadPoolExecutor(min(THREADS_MAX, len(paths))) as pool:
        footers = dict(
            zip(paths, pool.map(lambda p: read_footer(p, filesystem), paths), strict=True)
        )
        found = dict(
            zip(
                paths, pool.map(lambda p: read_column_statistics(p, filesystem), paths), strict=True
            )
        )
    rows_read = dict.fromkeys(paths, 0)
    for one in ranges:
        rows_read[one.path] += one.num_rows
    columns: dict[str, ColumnStatistics] = {}
    file_bytes = 0
    for path in paths:
        share = rows_read[path] / max(1, footers[path].num_rows)
        file_bytes += int(footers[path].file_bytes * share)
        for name, column in _columns_of(dataset, path, found[path]).items():
            scaled = replace(
                column,
                data_bytes=int(column.data_bytes * share),
                file_bytes=int(column.file_bytes * share),
                null_count=column.null_count if share == 1 else None,
            )
            columns[name] = merged_column(columns[name], scaled) if name in columns else scaled
    return DataSetStatistics(
        len(paths), dataset.num_rows, dataset.estimated_data_size, file_bytes, columns
    )


def _columns_of(
    dataset: ParquetDataSet, path: str, columns: dict[str, ColumnStatistics]
) -> dict[str, ColumnStatistics]:
    """The columns of one file, hive partition columns included."""
    constants = {
        name: ColumnStatistics(name, 0, 0, value, value)
        for name, value in dataset.hive.values(path).items()
        if name in dataset.hive.types and name not in columns
    }
    return columns | constants


def damaged_files(dataset: ParquetDataSet, deep: bool) -> dict[str, str]:
    """The files that cannot be read, with the reason; footers only, or (deep) every page.

    Of a file that the data set has in parts, only those are decoded, and only its columns. Errors
    that say nothing of a file's content are raised: it is missing, or too little memory, a network.
    """
    import pyarrow as pa

    filesystem = dataset._filesystem()
    parts: dict[str, list[RowRange]] = {}
    for one in dataset._resolved_row_ranges or []:
        parts.setdefault(one.path, []).append(one)

    def damage(path: str) -> str | None:
        try:
            footer = read_footer(path, filesystem)
            if deep:
                rows = footer.num_rows
                ranges = parts.get(path) or [RowRange(path, 0, rows, 0, rows)]
                return _damaged_pages(ranges, _columns_read(dataset, footer), filesystem)
        except pa.ArrowNotImplementedError:
            return None  # DuckDB may be able to read it.
        except Exception as error:
            if not is_damage(error):
                raise
            return (error.reason if isinstance(error, CorruptFile) else "") or str(error)
        return None

    paths = [*dataset.resolved_paths, *dataset.skipped_files]
    if not paths:
        return {}
    threads = DECODE_THREADS_MAX if deep else THREADS_MAX
    with ThreadPoolExecutor(min(threads, len(paths))) as pool:
        found = zip(paths, pool.map(damage, paths), strict=True)
        return {path: reason for path, reason in found if reason is not None}


def _columns_read(dataset: ParquetDataSet, footer: Footer) -> list[str] | None:
    """The columns of one file that the data set reads; None for all, or if only SQL could tell."""
    wanted = dataset.columns
    if not wanted or not all(map(is_plain_name, wanted)):
        return None
    lower = {name.lower() for name in wanted}
    return [name for name in footer.schema.names if name.lower() in lower]


def _damaged_pages(
    ranges: list[RowRange], columns: list[str] | None, filesystem: Any
) -> str | None:
    """Decode parts of a file; what is wrong if the rows are not as many as its footer says."""
    from pyarrow import types

    from smallpond.io.arrow.reader import build_batch_reader_from_files

    if columns == []:
        return None
    decoded = 0
    for batch in build_batch_reader_from_files(ranges, columns=columns, filesystem=filesystem):
        # DuckDB refuses text that is not UTF-8; Arrow only looks when it is asked.
        for column in batch.columns:
            if types.is_large_string(column.type):
                column.validate(full=True)
        decoded += batch.num_rows
    rows = sum(one.num_rows for one in ranges)
    if decoded != rows:
        return f"'{ranges[0].path}' has {decoded} rows, its footer says {rows}"
    return None
