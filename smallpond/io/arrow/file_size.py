"""Rows and bytes of Parquet files, and nothing else of their footers.

Why beside `footer`: that needs Arrow, and importing Arrow takes longer than all else that a driver
or a worker does for a small job in SQL. Where it is not loaded, DuckDB, which is, reads the footers
of a few local files in one query. The answers are the same, and tested to be.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from smallpond.common import CorruptFile
from smallpond.io.scratch import scratch_cursor
from smallpond.io.url import is_url

THREADS_MAX = 32
# Of more files Arrow, once it is loaded, reads the footers faster.
LIGHT_FILES_MAX = 64

_QUERY = """
select file_name, any_value(num_rows), coalesce(sum(total_uncompressed_size), 0)
from parquet_file_metadata($paths) left join parquet_metadata($paths) using (file_name)
group by file_name
"""


@dataclass(frozen=True, slots=True)
class FileSize:
    """One file."""

    num_rows: int
    data_bytes: int
    """Before compression."""


def read_file_sizes(paths: Sequence[str], filesystem: Any = None) -> list[FileSize | CorruptFile]:
    """The size of each file, in their order; for a damaged one the error that says so.

    A file that is missing raises DataNotFound."""
    light = filesystem is None and 0 < len(paths) <= LIGHT_FILES_MAX
    if light and "pyarrow" not in sys.modules and not any(map(is_url, paths)):
        found = _sizes_by_duckdb(paths)
        if found is not None:
            return list(found)
    if len(paths) <= 1:
        return [_size_by_arrow(path, filesystem) for path in paths]
    with ThreadPoolExecutor(min(THREADS_MAX, len(paths))) as pool:
        return list(pool.map(lambda path: _size_by_arrow(path, filesystem), paths))


def _size_by_arrow(path: str, filesystem: Any) -> FileSize | CorruptFile:
    from smallpond.io.arrow.footer import read_footer

    try:
        footer = read_footer(path, filesystem)
    except CorruptFile as error:
        return error
    return FileSize(footer.num_rows, footer.data_bytes)


def _sizes_by_duckdb(paths: Sequence[str]) -> list[FileSize] | None:
    """None if one of them cannot be read: Arrow says which, and why."""
    import duckdb

    absolute = [os.path.abspath(path) for path in paths]
    if any(set(path) & set("*?[") for path in absolute):
        return None  # They would be patterns.
    with scratch_cursor() as connection:
        try:
            rows = connection.execute(_QUERY, {"paths": list(dict.fromkeys(absolute))}).fetchall()
        except duckdb.Error:
            return None
    sizes = {str(name): FileSize(int(count), int(size)) for name, count, size in rows}
    if set(sizes) != set(absolute):
        return None
    return [sizes[path] for path in absolute]
