"""What the footers of Parquet files say: rows, bytes, row groups, statistics of columns. Cached.

An entry of the cache is good as long as the file's size and time of modification are the same, so a
file that was replaced is read again. The cache belongs to the process and is never pickled.

Invariant: a damaged footer raises `CorruptFile` with the path; it is never taken for an empty file.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from smallpond.common import PARQUET_METADATA_KEY_PREFIX, CorruptFile, DataNotFound
from smallpond.io.url import filesystem_for, path_within

if TYPE_CHECKING:
    import pyarrow as pa

CACHED_FOOTERS_MAX = 65536

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """One column of one or more files; bounds and nulls are None if unknown."""

    name: str
    data_bytes: int
    """Before compression."""
    file_bytes: int
    minimum: Any = None
    maximum: Any = None
    null_count: int | None = None


@dataclass(frozen=True, slots=True)
class Footer:
    """One file."""

    path: str
    file_bytes: int
    num_rows: int
    data_bytes: int
    """All row groups before compression."""
    row_group_rows: tuple[int, ...]
    schema: pa.Schema = field(repr=False, compare=False)
    """Without metadata."""
    key_value_metadata: dict[str, str] = field(repr=False, compare=False)
    """What this engine wrote: the keys that begin with `SMALLPOND:`."""


class _Cache:
    """The latest answers about files, forgotten when a file changed or too many are held."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str], tuple[Any, Any]] = OrderedDict()

    def get(self, kind: str, path: str, version: Any, read: Callable[[], T]) -> T:
        key = (kind, path)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry[0] == version:
                self._entries.move_to_end(key)
                found: T = entry[1]
                return found
        value = read()
        with self._lock:
            self._entries[key] = (version, value)
            while len(self._entries) > CACHED_FOOTERS_MAX:
                self._entries.popitem(last=False)
        return value

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


_cache = _Cache()
_schemas: dict[Any, Any] = {}


def clear_footer_cache() -> None:
    """Forget all footers."""
    _cache.clear()
    _schemas.clear()


def file_missing(path: str) -> DataNotFound:
    """The error for a file that is not there."""
    return DataNotFound(
        f"'{path}' does not exist; check the path, or which step should have made it"
    )


def corrupt_file(path: str, reason: object) -> CorruptFile:
    """The error for a file that cannot be read as Parquet."""
    reason = " ".join(str(reason).split())  # Arrow breaks its lines.
    error = CorruptFile(
        f"'{path}' cannot be read as Parquet: {reason}; write it again, "
        "or skip such files with ignore_corrupt_files=True"
    )
    error.reason = reason
    return error


def is_damage(error: BaseException) -> bool:
    """Whether an error of reading is about what is in a file, and not about what is around it.

    Errors of file systems and networks have a number or a kind of their own; Arrow's about the
    content of a file have neither.
    """
    import pyarrow as pa

    if isinstance(error, CorruptFile | pa.ArrowInvalid):
        return True
    return type(error) is OSError and error.errno is None


@contextmanager
def damage_named(path: str) -> Iterator[None]:
    """Reading a file: if it is missing or damaged, the error says which; other errors pass."""
    try:
        yield
    except FileNotFoundError as error:
        raise file_missing(path) from error
    except Exception as error:
        if isinstance(error, CorruptFile) or not is_damage(error):
            raise
        raise corrupt_file(path, error) from error


def file_version(path: str, filesystem: Any = None) -> tuple[Any, ...]:
    """What changes when the file changes: its size, and its time or tag."""
    filesystem = filesystem or filesystem_for(path)
    try:
        if filesystem is None:
            status = os.stat(path)
            return status.st_size, status.st_mtime_ns
        info = filesystem.info(path_within(filesystem, path))
    except FileNotFoundError as error:
        raise file_missing(path) from error
    tags = (info.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "created"))
    return info["size"], next((str(tag) for tag in tags if tag is not None), "")


def read_footer(path: str, filesystem: Any = None) -> Footer:
    """The footer of one file, from the cache if the file has not changed."""
    version = file_version(path, filesystem)
    return _cache.get(
        "footer", path, version, lambda: _read_footer(path, int(version[0]), filesystem)
    )


def read_column_statistics(path: str, filesystem: Any = None) -> dict[str, ColumnStatistics]:
    """Sizes, bounds and nulls of the columns of one file, by name."""
    version = file_version(path, filesystem)
    return _cache.get("columns", path, version, lambda: _read_columns(path, filesystem))


def _metadata(path: str, filesystem: Any) -> Any:
    from pyarrow import parquet

    filesystem = filesystem or filesystem_for(path)
    with damage_named(path):
        if filesystem is None:
            return parquet.read_metadata(path)
        with filesystem.open(path_within(filesystem, path), "rb") as file:
            return parquet.read_metadata(file)


def _read_footer(path: str, size: int, filesystem: Any) -> Footer:
    metadata = _metadata(path, filesystem)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    schema = metadata.schema.to_arrow_schema()
    pairs = dict(metadata.metadata or {}) | dict(schema.metadata or {})
    bare = schema.remove_metadata()
    return Footer(
        path,
        size,
        metadata.num_rows,
        sum(group.total_byte_size for group in groups),
        tuple(group.num_rows for group in groups),
        # Thousands of files mostly have one schema; it is kept once.
        _schemas.setdefault(bare, bare),
        {
            key.decode(): value.decode("utf-8", "replace")
            for key, value in pairs.items()
            if key.startswith(PARQUET_METADATA_KEY_PREFIX.encode())
        },
    )


def _read_columns(path: str, filesystem: Any) -> dict[str, ColumnStatistics]:
    metadata = _metadata(path, filesystem)
    columns: dict[str, ColumnStatistics] = {}
    for group_index in range(metadata.num_row_groups):
        group = metadata.row_group(group_index)
        for index in range(group.num_columns):
            chunk = group.column(index)
            name = chunk.path_in_schema.split(".")[0]
            one = _chunk_statistics(name, chunk)
            columns[name] = merged_column(columns[name], one) if name in columns else one
    return columns


def _chunk_statistics(name: str, chunk: Any) -> ColumnStatistics:
    data_bytes, file_bytes = chunk.total_uncompressed_size, chunk.total_compressed_size
    statistics = chunk.statistics if chunk.path_in_schema == name else None
    if statistics is None:
        return ColumnStatistics(name, data_bytes, file_bytes)
    least, most = (statistics.min, statistics.max) if statistics.has_min_max else (None, None)
    nulls = statistics.null_count if statistics.has_null_count else None
    return ColumnStatistics(name, data_bytes, file_bytes, least, most, nulls)


def merged_column(one: ColumnStatistics, other: ColumnStatistics) -> ColumnStatistics:
    """Two pieces of one column taken together; what one piece does not know is unknown."""

    def bound(pick: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        if a is None or b is None:
            return None
        try:
            return pick(a, b)
        except TypeError:
            return None

    nulls = None
    if one.null_count is not None and other.null_count is not None:
        nulls = one.null_count + other.null_count
    return ColumnStatistics(
        one.name,
        one.data_bytes + other.data_bytes,
        one.file_bytes + other.file_bytes,
        bound(min, one.minimum, other.minimum),
        bound(max, one.maximum, other.maximum),
        nulls,
    )
