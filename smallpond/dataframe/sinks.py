"""Writing a data frame to a folder: formats, hive partitions, and what happens to what is there.

A folder appears as a whole, with a `.MANIFEST.txt` that lists its files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from smallpond.common import InvalidArgument
from smallpond.io.url import is_url, local_path
from smallpond.logical.node import DataSinkNode, Node
from smallpond.logical.node.url_sink import UrlSinkNode

if TYPE_CHECKING:
    from smallpond.dataframe.frame import DataFrame
    from smallpond.dataframe.session import Session

WriteMode = Literal["append", "overwrite", "error", "ignore"]
MODES = ("append", "overwrite", "error", "ignore")


class Sinks:
    """The writing methods of a data frame."""

    session: Session
    plan: Node

    def _derived(self, plan: Node) -> DataFrame:
        raise NotImplementedError(f"{type(self).__name__} does not make frames")

    def write_parquet(self, path: str, **options: Any) -> None:
        """Write the table as Parquet files under `path`, and wait for it.

        See `write_parquet_lazy` for the options.
        """
        self.write_parquet_lazy(path, **options).compute()

    def write_parquet_lazy(
        self,
        path: str,
        *,
        mode: WriteMode = "append",
        partition_by: str | Sequence[str] | None = None,
        compression: str | None = None,
        row_group_size: int | None = None,
        **options: Any,
    ) -> DataFrame:
        """Parquet files under `path`, written when the result is computed (`sp.wait(...)`).

        Args:
            path: the folder.
            mode: with files there already: "append" adds, "overwrite" replaces them, "error"
                fails, "ignore" leaves them and writes nothing.
            partition_by: columns that become `key=value` folders.
            compression: zstd (the default), snappy, lz4, gzip, brotli or uncompressed.
            row_group_size: rows of a row group.
            **options: further options of DuckDB's COPY for Parquet.
        """
        given = dict(options)
        if compression is not None:
            given["compression"] = compression
        if row_group_size is not None:
            given["row_group_size"] = row_group_size
        if not given and partition_by is None:
            return self._sink(self.plan, path, mode)
        given.setdefault("compression", "zstd")
        return self._written("parquet", path, mode, partition_by, given)

    def write_csv(
        self,
        path: str,
        *,
        mode: WriteMode = "append",
        partition_by: str | Sequence[str] | None = None,
        header: bool = True,
        delim: str = ",",
        **options: Any,
    ) -> None:
        """Write the table as CSV files under `path`; `**options` are those of DuckDB's COPY."""
        given = {"header": header, "delim": delim, **options}
        self._written("csv", path, mode, partition_by, given).compute()

    def write_json(
        self,
        path: str,
        *,
        mode: WriteMode = "append",
        partition_by: str | Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        """Write the table as JSON files, an object a line; `**options` are those of COPY."""
        self._written("json", path, mode, partition_by, options).compute()

    def _written(
        self,
        format: str,
        path: str,
        mode: WriteMode,
        partition_by: str | Sequence[str] | None,
        options: dict[str, Any],
    ) -> DataFrame:
        from smallpond.logical.relational.write import FileFormat, FileWriteNode

        columns = (partition_by,) if isinstance(partition_by, str) else tuple(partition_by or ())
        node = FileWriteNode(
            self.session._ctx,
            (self.plan,),
            "select * from {0}",
            file_format=FileFormat(format, options, columns),
        )
        return self._sink(node, path, mode)

    def _sink(self, plan: Node, path: str, mode: WriteMode) -> DataFrame:
        if mode not in MODES:
            raise InvalidArgument(f"mode={mode!r}: choose one of {', '.join(MODES)}")
        path = local_path(str(path))
        if is_url(path):
            return self._numbered(UrlSinkNode(self.session._ctx, (plan,), path, mode=mode), path)
        target = os.path.abspath(path)
        if mode == "error" and has_files(target):
            raise InvalidArgument(
                f"{target} already holds files; write with mode='overwrite', 'append' or 'ignore'"
            )
        sink = DataSinkNode(self.session._ctx, (plan,), target, type="link_or_copy", mode=mode)
        return self._numbered(sink, target)

    def _numbered(self, sink: Node, target: str) -> DataFrame:
        """The same rows written to the same place once more are another job, not one done."""
        numbered: Any = sink
        numbered.write_number = self.session._writes[target]
        self.session._writes[target] += 1
        return self._derived(sink)


def has_files(folder: str) -> bool:
    """Whether a folder holds anything that is not hidden."""
    try:
        return any(not name.startswith(".") for name in os.listdir(folder))
    except FileNotFoundError:
        return False
