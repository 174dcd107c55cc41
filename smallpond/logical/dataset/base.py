"""The base of all data sets: paths, their resolution, loading, splitting by files.

A data set is a description: cheap to make, to copy and to pickle. What it finds out (files, rows,
schema) is kept until `reset`. It never changes the data.

Invariant: `resolved_paths` is sorted, and raises rather than be silently empty (see `paths.py`).
"""

from __future__ import annotations

import copy
import logging
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from smallpond.common import (
    DEFAULT_BATCH_SIZE,
    InvalidArgument,
    SmallpondError,
    split_into_rows,
)
from smallpond.io.arrow.footer import file_version
from smallpond.io.url import filesystem_for, is_url
from smallpond.logical.dataset import paths as path_rules
from smallpond.logical.dataset.sql import (
    arrow_reader,
    arrow_table,
    is_plain_name,
    open_connection,
    quoted_name,
    register_filesystems,
    rows_of,
    string_list,
)
from smallpond.logical.udf import UDFContext

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

    from smallpond.logical.dataset.skipped import Skipped

logger = logging.getLogger("smallpond.logical.dataset")

STATUS_THREADS_MAX = 32

Self = TypeVar("Self", bound="DataSet")


class DataSet:
    """Files of one kind, or other data that can be read as a table."""

    # Whether a directory among the paths stands for the files in it.
    expands_directories = True
    # Whether Python reads the rows, by one core a task, and not DuckDB by all.
    read_by_python = False
    # Whether only the connection that read the rows knows which were left out.
    reader_knows_skipped = False
    # That connection, where whoever read the data set gave none.
    _reader: duckdb.DuckDBPyConnection | None = None
    # Whether a pattern without a match is an error.
    patterns_must_match = True
    # What names the files or was found out about them, but is not what decides the rows.
    not_identity = frozenset(
        [
            "paths",
            "root_dir",
            "recursive",
            "storage_options",
            "_resolved_paths",
            "_absolute_paths",
            "_resolved_num_rows",
            "_partitions",
            "_reader",
        ]
    )

    def __init__(
        self,
        paths: str | Sequence[str],
        root_dir: str | None = "",
        recursive: bool = False,
        columns: Sequence[str] | None = None,
        union_by_name: bool = False,
        *,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        """Describe files.

        Args:
            paths: a path, pattern, directory or URL, or several of them.
            root_dir: where relative paths begin ("": the working directory; None: leave them).
            recursive: whether `**` in a pattern means any number of directories.
            columns: the columns to load; None for all.
            union_by_name: whether files may have different columns, matched by name.
            storage_options: what the file system behind a URL needs, as fsspec takes it.
        """
        self.paths: list[str] = (
            [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]
        )
        self.root_dir = _absolute_root(root_dir)
        self.recursive = recursive
        self.columns = None if columns is None else list(columns)
        self.storage_options = storage_options
        self._union_by_name = union_by_name
        self._resolved_paths: list[str] | None = None
        self._absolute_paths: list[str] | None = None
        self._resolved_num_rows: int | None = None
        self._partitions: dict[Any, Any] = {}

    def __str__(self) -> str:
        more = "..." if len(self.paths) > 3 else ""
        return (
            f"{type(self).__name__}: paths[{len(self.paths)}]={self.paths[:3]}{more}, "
            f"root_dir={self.root_dir}, columns={self.columns}"
        )

    __repr__ = __str__

    def __copy__(self: Self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._partitions = {}
        twin._reader = None
        return twin

    def __getstate__(self) -> dict[str, Any]:
        # Partitions of a data set would be pickled with it, although nobody asks for them there.
        return self.__dict__ | {"_partitions": {}, "_reader": None}

    def identity_parts(self) -> tuple[Any, ...]:
        """What decides the rows: the settings, and the files with their versions.

        Two data sets with equal parts hold the same rows, so work on one need not be done again for
        the other. A file that cannot be found makes the data set equal to no other.
        """
        settings = {
            name: value
            for name, value in sorted(vars(self).items())
            if name not in self.not_identity
        }
        try:
            versions: Any = file_versions(self.resolved_paths, self._filesystem())
        except (SmallpondError, OSError):
            versions = os.urandom(16)
        return settings, versions

    @property
    def _column_str(self) -> str:
        """The columns for a select clause; what is no plain name is taken as an expression."""
        if not self.columns:
            return "*"
        return ", ".join(quoted_name(c) if is_plain_name(c) else c for c in self.columns)

    @property
    def _path_list(self) -> str:
        return string_list(self.resolved_paths)

    def _filesystem(self, filesystem: Any = None) -> Any:
        """The given file system, or the one of the storage options; None: found by the URL."""
        if filesystem is not None or not self.storage_options:
            return filesystem
        url = next((path for path in self.absolute_paths if is_url(path)), None)
        return filesystem_for(url, self.storage_options) if url else None

    def _prepare(self, conn: duckdb.DuckDBPyConnection | None, filesystem: Any) -> None:
        register_filesystems(conn, self.resolved_paths, self._filesystem(filesystem))

    @property
    def union_by_name(self) -> bool:
        """Whether files may have different columns; always when columns are chosen."""
        return self._union_by_name or self.columns is not None

    @property
    def udfs(self) -> list[UDFContext]:
        """Functions that the SQL of this data set needs."""
        return []

    @staticmethod
    def merge(datasets: Sequence[DataSet]) -> DataSet:
        """All rows of the data sets, in their order, as one data set."""
        from smallpond.logical.dataset.union import merged

        return merged(datasets)

    def reset(
        self,
        paths: Sequence[str] | None = None,
        root_dir: str | None = "",
        recursive: bool | None = None,
    ) -> None:
        """Forget what was found out and describe other files (none, unless given)."""
        self.paths = list(paths or [])
        self.root_dir = _absolute_root(root_dir)
        if recursive is not None:
            self.recursive = recursive
        self._resolved_paths = None
        self._absolute_paths = None
        self._resolved_num_rows = None
        self._partitions = {}

    @property
    def num_files(self) -> int:
        """The number of files."""
        return len(self.resolved_paths)

    @property
    def num_rows(self) -> int:
        """The number of rows; counts them if need be."""
        if self._resolved_num_rows is None:
            conn = open_connection()
            query = f"select count(*) from {self.sql_query_fragment(None, conn)}"
            self._resolved_num_rows = int(rows_of(conn, query)[0][0])
        return self._resolved_num_rows

    @property
    def empty(self) -> bool:
        """Whether there are no files; quick, files are not opened."""
        if self._resolved_paths is not None:
            return not self._resolved_paths
        if any(not path_rules.is_pattern(path) for path in self.paths):
            return False
        return not self.paths or not self.resolved_paths

    @property
    def absolute_paths(self) -> list[str]:
        """The given paths, sorted, under the root directory; patterns as they are."""
        if self._absolute_paths is None:
            self._absolute_paths = [
                path_rules.absolute(path, self.root_dir) for path in sorted(self.paths)
            ]
        return self._absolute_paths

    @property
    def resolved_paths(self) -> list[str]:
        """All files, sorted, with absolute paths."""
        if self._resolved_paths is None:
            self._resolved_paths = path_rules.resolve(
                self.absolute_paths,
                self.root_dir,
                self.recursive,
                self.expands_directories,
                self.patterns_must_match,
                self._filesystem(),
            )
        return self._resolved_paths

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """The data as a sub-query, with parentheses. What it needs is registered with `conn`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be read as a table")

    def skipped(self, conn: duckdb.DuckDBPyConnection | None = None) -> list[Skipped]:
        """What reading left out, as asked for; `conn` is the connection that has read it."""
        return []

    def log(self, num_rows: int = 200) -> None:
        """Write the first rows into the log."""
        text = self.head(num_rows).to_pandas().to_string()
        logger.info("%s ->\n%s", self, text)

    def head(self, num_rows: int) -> pa.Table:
        """The first rows, without reading all."""
        conn = open_connection()
        return arrow_table(
            conn, f"select * from {self.sql_query_fragment(None, conn)} limit {num_rows}"
        )

    def to_pandas(self) -> pd.DataFrame:
        """All rows as a pandas frame."""
        frame: pd.DataFrame = self.to_arrow_table().to_pandas()
        return frame

    def to_arrow_table(
        self,
        max_workers: int = 16,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.Table:
        """All rows as an Arrow table, by DuckDB where `conn` is given."""
        conn = self._reading(conn)
        return arrow_table(conn, f"select * from {self.sql_query_fragment(filesystem, conn)}")

    def to_batch_reader(
        self,
        batch_size: int = DEFAULT_BATCH_SIZE,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.RecordBatchReader:
        """All rows as a stream of batches, by DuckDB where `conn` is given."""
        conn = self._reading(conn)
        query = f"select * from {self.sql_query_fragment(filesystem, conn)}"
        return arrow_reader(conn, query, batch_size)

    def _reading(self, conn: duckdb.DuckDBPyConnection | None) -> duckdb.DuckDBPyConnection:
        """The connection to read with."""
        if conn is None:
            conn = open_connection()
            if self.reader_knows_skipped:
                self._reader = conn
        return conn

    def close_reader(self) -> None:
        """Close the connection that read the rows, once what it left out has been told."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _init_file_partitions(self: Self, npartition: int) -> list[Self]:
        """Empty data sets with this one's settings."""
        parts = []
        for _ in range(npartition):
            part = copy.copy(self)
            part.reset()
            parts.append(part)
        return parts

    def partition_by_files(self: Self, npartition: int, random_shuffle: bool = False) -> list[Self]:
        """Split the files evenly into data sets; the same answer each time until `reset`."""
        check_partition_count(npartition)
        key = ("files", npartition, random_shuffle)
        if key not in self._partitions:
            self._partitions[key] = self._split_by_files(npartition, random_shuffle)
        parts: list[Self] = self._partitions[key]
        return parts

    def _split_by_files(self: Self, npartition: int, random_shuffle: bool) -> list[Self]:
        files = list(self.resolved_paths)
        if random_shuffle:
            random.shuffle(files)
        parts = self._init_file_partitions(npartition)
        for part, share in zip(parts, split_into_rows(files, npartition), strict=True):
            part.reset(share, None)
            # Files are files: one whose name looks like a pattern is not expanded again.
            part._absolute_paths = part._resolved_paths = sorted(share)
        if random_shuffle:
            random.shuffle(parts)
        return parts


def file_versions(paths: Sequence[str], filesystem: Any) -> list[tuple[Any, ...]]:
    """Each path with what changes when its file changes."""

    def version(path: str) -> tuple[Any, ...]:
        return path, *file_version(path, filesystem)

    if not any(is_url(path) for path in paths):
        return [version(path) for path in paths]
    with ThreadPoolExecutor(min(STATUS_THREADS_MAX, len(paths))) as pool:
        return list(pool.map(version, paths))


def check_partition_count(npartition: int) -> None:
    """Refuse what is no number of partitions."""
    if npartition <= 0:
        raise InvalidArgument(f"the number of partitions must be positive, not {npartition}")


def _absolute_root(root_dir: str | None) -> str | None:
    if root_dir is None or is_url(root_dir):
        return root_dir
    return os.path.abspath(root_dir)
