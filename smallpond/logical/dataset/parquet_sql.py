"""How a Parquet data set is read: as SQL for DuckDB, and as Arrow by pyarrow. Both give the same
rows.

Order of columns in both: those of the files, then hive partition columns, then generated ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallpond.common import ColumnNotFound, CorruptFile, SmallpondError
from smallpond.io.arrow.footer import file_missing, read_footer
from smallpond.io.arrow.row_range import RowRange
from smallpond.io.url import is_url
from smallpond.logical.dataset.hive import NULL_VALUE
from smallpond.logical.dataset.paths import has_magic
from smallpond.logical.dataset.sql import (
    is_plain_name,
    open_connection,
    query_of_nothing,
    quoted_name,
    quoted_string,
    struct_of_strings,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from smallpond.logical.dataset.parquet import ParquetDataSet

# Above this number, files are not looked at one by one before a query.
STATUS_CHECKS_MAX = 1000
ROW_NUMBER = "file_row_number"
FILE_NAME = "filename"


def query(dataset: ParquetDataSet) -> str:
    """The sub-query for all rows of the data set."""
    parts: list[RowRange] = []
    if dataset._resolved_row_ranges is None and not dataset.ignore_corrupt_files:
        whole = _largest_first(dataset.resolved_paths)
    else:
        whole, parts = _whole_files_and_parts(dataset.resolved_row_ranges)
    queries = []
    if whole:
        files = ", ".join(quoted_string(_escaped(path)) for path in whole)
        options = _options(dataset, ROW_NUMBER in dataset.generated_columns)
        queries.append(f"select {_star(dataset)} from read_parquet([{files}], {options})")
    for one in parts:
        queries.append(
            f"select {_star(dataset, ROW_NUMBER)} "
            f"from read_parquet({quoted_string(_escaped(one.path))}, "
            f"{_options(dataset, True)}) where {ROW_NUMBER} between {one.begin} and {one.end - 1}"
        )
    if not queries:
        return _query_of_nothing(dataset)
    joined = " union all by name ".join(queries)
    if dataset._column_str == "*":
        return f"( {joined} )"
    return f"( select {dataset._column_str} from ( {joined} ) )"


def _constant_names(dataset: ParquetDataSet) -> list[str]:
    """The columns that are not read from the files, in the order in which they are handed out."""
    return [*dataset.hive.types, *dataset.generated_columns]


def _star(dataset: ParquetDataSet, *helpers: str) -> str:
    """All columns with the constant ones last, and without the helpers that are none of those."""
    constants = _constant_names(dataset)
    out = [quoted_name(name) for name in dict.fromkeys((*constants, *helpers))]
    if not out:
        return "*"
    mended = _keys_to_mend(dataset)
    kept = [
        f"nullif({quoted_name(name)}, {quoted_string(NULL_VALUE)})::{dataset.hive.types[name]} "
        f"as {quoted_name(name)}"
        if name in mended
        else quoted_name(name)
        for name in constants
    ]
    return ", ".join([f"* exclude ({', '.join(out)})", *kept])


def _keys_to_mend(dataset: ParquetDataSet) -> frozenset[str]:
    """Hive columns whose null DuckDB does not know, as it did not before 2.0."""
    import duckdb

    return dataset.hive.with_null if int(duckdb.__version__.split(".")[0]) < 2 else frozenset()


def _options(dataset: ParquetDataSet, row_number: bool) -> str:
    options = [f"union_by_name={dataset.union_by_name}"]
    if dataset.hive:
        types = struct_of_strings(
            dataset.hive.types | dict.fromkeys(_keys_to_mend(dataset), "VARCHAR")
        )
        options.append(f"hive_partitioning=true, hive_types={types}")
    else:
        options.append("hive_partitioning=false")
    if FILE_NAME in dataset.generated_columns:
        options.append(f"{FILE_NAME}=true")
    if row_number:
        options.append(f"{ROW_NUMBER}=true")
    return ", ".join(options)


def _escaped(path: str) -> str:
    """A file whose name looks like a pattern stands for itself."""
    if is_url(path) or not has_magic(path):
        return path
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def _largest_first(paths: Sequence[str]) -> list[str]:
    """DuckDB estimates all files by the first, so the largest should be it. Missing ones raise."""
    if not 1 <= len(paths) <= STATUS_CHECKS_MAX or is_url(paths[0]):
        return list(paths)
    try:
        sizes = [-1 if is_url(path) else Path(path).stat().st_size for path in paths]
    except FileNotFoundError as error:
        raise file_missing(str(error.filename)) from error
    largest = sizes.index(max(sizes))
    return [paths[largest], *paths[:largest], *paths[largest + 1 :]]


def _whole_files_and_parts(ranges: Sequence[RowRange]) -> tuple[list[str], list[RowRange]]:
    joined: list[RowRange] = []
    for one in ranges:
        last = joined[-1] if joined else None
        if last is not None and last.path == one.path and last.end == one.begin:
            joined[-1] = RowRange(
                last.path, last.data_size, last.file_num_rows, last.begin, one.end
            )
        else:
            joined.append(one)
    whole = [one for one in joined if one.whole_file]
    whole.sort(key=lambda one: -one.file_num_rows)
    # Only the first place matters; the others keep the order of their names.
    rest = sorted(one.path for one in whole[1:])
    parts = [one for one in joined if not one.whole_file and one.num_rows]
    if not whole and not parts and joined:
        # No rows at all, but a file that knows the columns.
        parts = [joined[0]]
    return [one.path for one in whole[:1]] + rest, parts


def _query_of_nothing(dataset: ParquetDataSet) -> str:
    if dataset._schema_if_empty is not None:
        relation = open_connection().from_arrow(dataset._schema_if_empty.empty_table())
        return query_of_nothing(dict(zip(relation.columns, map(str, relation.types), strict=True)))
    names = [name for name in dataset.columns or [] if is_plain_name(name)]
    if not names:
        raise SmallpondError(
            f"{dataset} has no files, so its columns are not known; give it a file or its columns"
        )
    return query_of_nothing(dict.fromkeys(names, "VARCHAR"))


def arrow_schema(dataset: ParquetDataSet) -> pa.Schema | None:
    """All columns that reading gives, with wide strings; None if there is no file."""
    import pyarrow as pa

    file_schema = _file_schema(dataset) if dataset.resolved_paths else None
    if file_schema is None:
        return dataset._schema_if_empty
    hive = dataset.hive
    kinds = {FILE_NAME: pa.large_string(), ROW_NUMBER: pa.int64()}
    kinds |= {name: hive.arrow_type(name) for name in hive.types}
    constants = _constant_names(dataset)
    fields = [field for field in file_schema if field.name not in constants]
    fields += [pa.field(name, kinds[name]) for name in constants]
    if not dataset.columns or "*" in dataset.columns:
        return pa.schema(fields)
    wanted = list(dataset.columns) + dataset.generated_columns
    by_name = {field.name: field for field in fields}
    missing = [name for name in wanted if name not in by_name]
    if missing:
        raise ColumnNotFound(f"columns {missing} are not in {dataset}, which has {list(by_name)}")
    return pa.schema([by_name[name] for name in wanted])


def _file_schema(dataset: ParquetDataSet) -> pa.Schema | None:
    """The columns of the files: those of the first, or of all of them if they may differ.

    None if all files are damaged and may be.
    """
    import pyarrow as pa

    from smallpond.io.arrow.types import convert_types_to_large_string

    filesystem = dataset._filesystem()
    schemas: dict[pa.Schema, None] = {}
    for path in dataset.resolved_paths:
        try:
            schemas[read_footer(path, filesystem).schema] = None
        except CorruptFile:
            if not dataset.ignore_corrupt_files:
                raise
        if schemas and not dataset.union_by_name:
            break
    if not schemas:
        return None
    wide = [convert_types_to_large_string(schema) for schema in schemas]
    return wide[0] if len(wide) == 1 else pa.unify_schemas(wide, promote_options="permissive")


def _by_duckdb(dataset: ParquetDataSet) -> bool:
    """Whether the columns hold something that only SQL understands."""
    schema = {field.name for field in _file_schema(dataset) or ()}
    schema |= set(dataset.hive.types)
    return any(name not in schema and not is_plain_name(name) for name in dataset.columns or [])


def read_table(dataset: ParquetDataSet, max_workers: int, filesystem: Any) -> pa.Table:
    """All rows by pyarrow, files in parallel."""
    import pyarrow as pa

    from smallpond.io.arrow.reader import read_parquet_files_into_table

    ranges = dataset.resolved_row_ranges
    if not ranges:
        if dataset._schema_if_empty is not None:
            return dataset._schema_if_empty.empty_table()
        return pa.table({name: pa.nulls(0) for name in dataset.columns or []})
    if _by_duckdb(dataset):
        conn = open_connection()
        return dataset.to_arrow_table(max_workers, filesystem, conn)
    schema, file_schema = _schemas(dataset, filesystem)

    def read(one: RowRange) -> pa.Table:
        table = read_parquet_files_into_table([one], None, filesystem, file_schema)
        return _with_constants(table, one, one.begin, schema, dataset)

    worker_count = max(1, min(len(ranges), max_workers))
    if worker_count == 1:
        return pa.concat_tables([read(one) for one in ranges])
    with ThreadPoolExecutor(worker_count) as pool:
        return pa.concat_tables(list(pool.map(read, ranges)))


def read_batches(dataset: ParquetDataSet, batch_size: int, filesystem: Any) -> pa.RecordBatchReader:
    """All rows by pyarrow, in batches of exactly `batch_size` (the last may be shorter)."""
    import pyarrow as pa

    from smallpond.io.arrow.reader import build_batch_reader_from_files, rechunked

    ranges = dataset.resolved_row_ranges
    if not ranges:
        return read_table(dataset, 1, filesystem).to_reader(batch_size)
    if _by_duckdb(dataset):
        return dataset.to_batch_reader(batch_size, filesystem, open_connection())
    schema, file_schema = _schemas(dataset, filesystem)
    if schema.equals(file_schema):
        return build_batch_reader_from_files(
            ranges, batch_size=batch_size, filesystem=filesystem, schema=schema
        )

    def batches() -> Iterator[pa.RecordBatch]:
        for one in ranges:
            row = one.begin
            for batch in build_batch_reader_from_files(
                [one], batch_size=batch_size, filesystem=filesystem, schema=file_schema
            ):
                yield _with_constants(batch, one, row, schema, dataset)
                row += batch.num_rows

    return pa.RecordBatchReader.from_batches(schema, rechunked(batches(), batch_size))


def _schemas(dataset: ParquetDataSet, filesystem: Any) -> tuple[pa.Schema, pa.Schema]:
    """What is handed out, and the part of it that comes from the files."""
    import pyarrow as pa

    from smallpond.io.arrow.reader import open_parquet

    with open_parquet(dataset.resolved_row_ranges[0].path, filesystem) as file:
        metadata = file.schema_arrow.metadata
    schema = arrow_schema(dataset)
    assert schema is not None
    constants = _constant_names(dataset)
    kept = [field for field in schema if field.name not in constants]
    return schema.with_metadata(metadata), pa.schema(kept, metadata=metadata)


def _with_constants(
    data: Any, one: RowRange, row: int, schema: pa.Schema, dataset: ParquetDataSet
) -> Any:
    """The table or batch with the columns that come from the file's path and from row numbers."""
    import pyarrow as pa

    if data.schema.names == schema.names:
        return data
    values = dataset.hive.values(one.path) | {FILE_NAME: one.path}
    have = set(data.schema.names)
    arrays = []
    for field in schema:
        if field.name in have:
            arrays.append(data.column(field.name))
        elif field.name == ROW_NUMBER:
            arrays.append(pa.array(range(row, row + data.num_rows), pa.int64()))
        else:
            arrays.append(pa.repeat(pa.scalar(values[field.name], field.type), data.num_rows))
    return type(data).from_arrays(arrays, schema=schema)
