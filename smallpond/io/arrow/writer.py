"""Arrow tables into Parquet files `{name}-{i}.parquet`, as 0.15 names them, by several threads."""

from __future__ import annotations

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from smallpond.common import (
    DEFAULT_ROW_GROUP_BYTES,
    DEFAULT_ROW_GROUP_SIZE,
    MAX_PARQUET_FILE_BYTES,
    MB,
    split_into_rows,
)
from smallpond.io.arrow.types import cast_columns_to_large_string

logger = logging.getLogger("smallpond.io.arrow")

WRITE_BATCH_ROWS_MIN = 16 * 1024
DATA_PAGE_BYTES_MIN = 64 * MB


def parquet_write_table(
    table: pa.Table, where: Any, filesystem: Any = None, **write_table_args: Any
) -> None:
    """Write one Parquet file, on a file system of fsspec if one is given."""
    if filesystem is not None:
        where = filesystem._strip_protocol(str(where))
        with filesystem.open(where, "wb") as file:
            parquet.write_table(table, file, **write_table_args)
        return
    with open(where, "wb", buffering=32 * MB) as file:
        parquet.write_table(table, file, **write_table_args)


def dump_to_parquet_files(
    table: pa.Table,
    output_dir: str,
    filename: str = "data",
    compression: str | None = "ZSTD",
    compression_level: int | None = 3,
    row_group_size: int = DEFAULT_ROW_GROUP_SIZE,
    row_group_bytes: int = DEFAULT_ROW_GROUP_BYTES,
    use_dictionary: bool | list[str] = False,
    max_workers: int = 16,
    filesystem: Any = None,
) -> bool:
    """Write the table into `{output_dir}/{filename}-{i}.parquet`, row groups spread evenly.

    A table without rows becomes one file with its schema. Returns True; failures raise.
    """
    table = cast_columns_to_large_string(table)
    options: dict[str, Any] = {
        "compression": compression or "NONE",
        "compression_level": compression_level if (compression or "").upper() == "ZSTD" else None,
        "use_dictionary": use_dictionary,
        "filesystem": filesystem,
    }
    if table.num_rows == 0:
        logger.debug("writing a table without rows to %s", output_dir)
        parquet_write_table(table, _file_path(output_dir, filename, 0), **options)
        return True

    row_bytes = max(1, table.nbytes // table.num_rows)
    rows_max = max(1, min(row_group_bytes // row_bytes, row_group_size))
    batches = table.to_batches(max_chunksize=rows_max)
    worker_count = max(1, min(len(batches), max_workers))
    file_count = max(math.ceil(table.nbytes / MAX_PARQUET_FILE_BYTES), worker_count)
    parts = [part for part in split_into_rows(batches, file_count) if part]
    options |= {
        "row_group_size": rows_max,
        "write_batch_size": max(WRITE_BATCH_ROWS_MIN, rows_max // 8),
        "data_page_size": max(DATA_PAGE_BYTES_MIN, row_group_bytes // 8),
    }

    def write(index: int) -> int:
        part = pa.Table.from_batches(parts[index], table.schema)
        parquet_write_table(part, _file_path(output_dir, filename, index), **options)
        return int(part.num_rows)

    with ThreadPoolExecutor(worker_count) as pool:
        written = sum(pool.map(write, range(len(parts))))
    assert written == table.num_rows, f"wrote {written} of {table.num_rows} rows to {output_dir}"
    logger.debug("wrote %d rows into %d files of %s", written, len(parts), output_dir)
    return True


def _file_path(output_dir: str, filename: str, index: int) -> str:
    return f"{str(output_dir).rstrip('/')}/{filename}-{index}.parquet"
