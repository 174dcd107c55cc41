"""Parquet files and Arrow tables: row ranges, reading, writing, wide string types.

The names are those of smallpond 0.15's module. They are found on first use, because pyarrow takes
longer to import than a small job may take altogether.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from smallpond.io.arrow.row_range import RowRange

if TYPE_CHECKING:
    from smallpond.io.arrow.reader import (
        build_batch_reader_from_files,
        load_from_parquet_files,
        read_parquet_files_into_table,
    )
    from smallpond.io.arrow.types import (
        cast_columns_to_large_string,
        convert_type_to_large,
        convert_types_to_large_string,
        filter_schema,
    )
    from smallpond.io.arrow.writer import dump_to_parquet_files, parquet_write_table

__all__ = [
    "RowRange",
    "build_batch_reader_from_files",
    "cast_columns_to_large_string",
    "convert_type_to_large",
    "convert_types_to_large_string",
    "dump_to_parquet_files",
    "filter_schema",
    "load_from_parquet_files",
    "parquet_write_table",
    "read_parquet_files_into_table",
]

_MODULES = {
    "build_batch_reader_from_files": "reader",
    "load_from_parquet_files": "reader",
    "read_parquet_files_into_table": "reader",
    "cast_columns_to_large_string": "types",
    "convert_type_to_large": "types",
    "convert_types_to_large_string": "types",
    "filter_schema": "types",
    "dump_to_parquet_files": "writer",
    "parquet_write_table": "writer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
