"""Parquet files and row ranges into Arrow tables and streams of batches.

Only the row groups that a range touches are decoded; a range in the middle of a file never costs
what lies before it. All batches of one stream have the schema of the first file (or the one that is
given), with large strings; columns that a file lacks are an error unless a schema is given, then
they are null.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from smallpond.common import DEFAULT_BATCH_SIZE, MB, ColumnNotFound, split_into_rows
from smallpond.io.arrow.footer import corrupt_file, damage_named
from smallpond.io.arrow.row_range import RowRange
from smallpond.io.arrow.types import convert_types_to_large_string, filter_schema
from smallpond.io.url import filesystem_for, path_within

logger = logging.getLogger("smallpond.io.arrow")

READ_BUFFER_BYTES = 4 * MB


def build_batch_reader_from_files(
    paths_or_ranges: Sequence[str] | Sequence[RowRange],
    *,
    columns: Sequence[str] | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    max_batch_byte_size: int | None = None,
    filesystem: Any = None,
    schema: pa.Schema | None = None,
) -> pa.RecordBatchReader:
    """A stream over the files; every batch but the last has exactly `batch_size` rows.

    With `max_batch_byte_size`, a batch may be shorter so as not to be larger than that.
    """
    assert len(paths_or_ranges) > 0, "no files given"
    if schema is None:
        schema = _first_schema(paths_or_ranges[0], columns, filesystem)
    decoded = _decoded_batches(paths_or_ranges, schema, batch_size, filesystem)
    batches = rechunked(decoded, batch_size, max_batch_byte_size)
    return pa.RecordBatchReader.from_batches(schema, batches)


def read_parquet_files_into_table(
    paths_or_ranges: Sequence[str] | Sequence[RowRange],
    columns: Sequence[str] | None = None,
    filesystem: Any = None,
    schema: pa.Schema | None = None,
) -> pa.Table:
    """All rows of the files, read one after the other."""
    assert len(paths_or_ranges) > 0, "no files given"
    if schema is None:
        schema = _first_schema(paths_or_ranges[0], columns, filesystem)
    tables = [_read_one(one, schema, filesystem) for one in paths_or_ranges]
    return pa.concat_tables(tables)


def load_from_parquet_files(
    paths_or_ranges: Sequence[str] | Sequence[RowRange],
    columns: Sequence[str] | None = None,
    max_workers: int = 16,
    filesystem: Any = None,
    schema: pa.Schema | None = None,
) -> pa.Table:
    """All rows of the files in their order, read by up to `max_workers` threads."""
    assert len(paths_or_ranges) > 0, "no files given"
    if schema is None:
        schema = _first_schema(paths_or_ranges[0], columns, filesystem)
    worker_count = min(len(paths_or_ranges), max_workers)
    if worker_count == 1:
        return read_parquet_files_into_table(paths_or_ranges, None, filesystem, schema)
    with ThreadPoolExecutor(worker_count) as pool:
        shares = split_into_rows(list(paths_or_ranges), worker_count)
        tables = pool.map(
            lambda share: read_parquet_files_into_table(share, None, filesystem, schema), shares
        )
        return pa.concat_tables(list(tables))


def rechunked(
    batches: Iterable[pa.RecordBatch], batch_size: int, bytes_max: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `batch_size` (the last may be shorter)."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for incoming in batches:
        batch = incoming
        while batch.num_rows:
            if bytes_max is not None and held and size + batch.nbytes > bytes_max:
                yield _combined(held)
                held, rows, size = [], 0, 0
            head = batch.slice(0, batch_size - rows)
            batch = batch.slice(head.num_rows)
            held.append(head)
            rows += head.num_rows
            size += head.nbytes
            if rows == batch_size:
                yield _combined(held)
                held, rows, size = [], 0, 0
    if held:
        yield _combined(held)


def _combined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def open_parquet(path: str, filesystem: Any = None) -> parquet.ParquetFile:
    """Open a file on this machine or behind a URL; a missing or damaged one is a clear error."""
    filesystem = filesystem or filesystem_for(path)
    with damage_named(path):
        if filesystem is None:
            return parquet.ParquetFile(path, buffer_size=READ_BUFFER_BYTES)
        source = filesystem.open(path_within(filesystem, path), "rb")
        return parquet.ParquetFile(source, pre_buffer=True)


def _first_schema(
    path_or_range: str | RowRange, columns: Sequence[str] | None, filesystem: Any
) -> pa.Schema:
    path = path_or_range if isinstance(path_or_range, str) else path_or_range.path
    with open_parquet(path, filesystem) as file:
        schema = file.schema_arrow
    if columns is not None:
        missing = [name for name in columns if name not in schema.names]
        if missing:
            raise ColumnNotFound(
                f"columns {missing} are not in '{path}', which has {schema.names}; "
                "name columns that it has, or read with union_by_name=True"
            )
        schema = filter_schema(schema, columns)
    return convert_types_to_large_string(schema)


def _span(path_or_range: str | RowRange, file: parquet.ParquetFile) -> tuple[str, int, int]:
    if isinstance(path_or_range, str):
        return path_or_range, 0, file.metadata.num_rows
    one = path_or_range
    rows = file.metadata.num_rows
    if one.file_num_rows != rows:
        raise corrupt_file(
            one.path, f"it has {rows} rows and had {one.file_num_rows} when the work was planned"
        )
    return one.path, one.begin, min(one.end, rows)


def _touched_groups(file: parquet.ParquetFile, begin: int, end: int) -> tuple[list[int], int, int]:
    """The row groups that hold rows begin..end, and where the first starts and the last ends."""
    groups: list[int] = []
    first_row = last_row = begin
    start = 0
    for index in range(file.metadata.num_row_groups):
        stop = start + file.metadata.row_group(index).num_rows
        if start < end and stop > begin:
            if not groups:
                first_row = start
            groups.append(index)
            last_row = stop
        start = stop
    return groups, first_row, last_row


def _read_one(path_or_range: str | RowRange, schema: pa.Schema, filesystem: Any) -> pa.Table:
    path = path_or_range if isinstance(path_or_range, str) else path_or_range.path
    with open_parquet(path, filesystem) as file:
        _, begin, end = _span(path_or_range, file)
        groups, first_row, last_row = _touched_groups(file, begin, end)
        names = _present(file, schema)
        with damage_named(path):
            if (first_row, last_row) == (begin, end):
                table = file.read_row_groups(groups, columns=names)
                return conform(table, schema, path)
            batches = list(_range_batches(file, begin, end, DEFAULT_BATCH_SIZE, names, True))
    batches = [conform(batch, schema, path) for batch in batches]
    return pa.Table.from_batches(batches, schema)


def _decoded_batches(
    paths_or_ranges: Sequence[str] | Sequence[RowRange],
    schema: pa.Schema,
    batch_size: int,
    filesystem: Any,
) -> Iterator[pa.RecordBatch]:
    for path_or_range in paths_or_ranges:
        path = path_or_range if isinstance(path_or_range, str) else path_or_range.path
        with open_parquet(path, filesystem) as file:
            _, begin, end = _span(path_or_range, file)
            names = _present(file, schema)
            with damage_named(path):
                for batch in _range_batches(file, begin, end, batch_size, names, False):
                    yield conform(batch, schema, path)


def _range_batches(
    file: parquet.ParquetFile,
    begin: int,
    end: int,
    batch_size: int,
    names: list[str],
    use_threads: bool,
) -> Iterator[pa.RecordBatch]:
    groups, row, _ = _touched_groups(file, begin, end)
    if not groups:
        return
    for batch in file.iter_batches(batch_size, groups, names, use_threads=use_threads):
        skip = max(0, begin - row)
        keep = min(batch.num_rows, end - row)
        row += batch.num_rows
        if keep > skip:
            yield batch.slice(skip, keep - skip)
        if row >= end:
            return


def _present(file: parquet.ParquetFile, schema: pa.Schema) -> list[str]:
    names = set(file.schema_arrow.names)
    return [name for name in schema.names if name in names]


def conform(data: Any, schema: pa.Schema, path: str) -> Any:
    """A table or batch with exactly this schema: columns in its order, cast where types differ."""
    if data.schema == schema:
        return data.replace_schema_metadata(schema.metadata)
    arrays = []
    have = set(data.schema.names)
    for field in schema:
        if field.name not in have:
            if not field.nullable:
                raise ColumnNotFound(f"column '{field.name}' is not in '{path}'")
            arrays.append(pa.nulls(data.num_rows, field.type))
            continue
        array = data.column(field.name)
        try:
            arrays.append(array if array.type == field.type else array.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise corrupt_file(
                path, f"column '{field.name}' is {array.type} and not {field.type}: {error}"
            ) from error
    return type(data).from_arrays(arrays, schema=schema)
