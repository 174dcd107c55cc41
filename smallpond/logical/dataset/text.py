"""Text files, one row a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import MB
from smallpond.logical.dataset.base import DataSet
from smallpond.logical.dataset.sql import line_buffer_bytes, query_of_nothing, quoted_string

if TYPE_CHECKING:
    import duckdb

LINE_BYTES_MAX = 16 * MB


class TextDataSet(DataSet):
    """Lines without their end, in one column; compressed files (.gz, .zst) are read as they are."""

    def __init__(
        self,
        paths: str | Sequence[str],
        column: str = "text",
        max_line_size: int = LINE_BYTES_MAX,
        root_dir: str | None = "",
        recursive: bool = False,
        *,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(paths, root_dir, recursive, storage_options=storage_options)
        self.column = column
        self.max_line_size = max_line_size

    @staticmethod
    def merge(datasets: Sequence[DataSet]) -> TextDataSet:
        """The files of all the sets."""
        parts = [dataset for dataset in datasets if isinstance(dataset, TextDataSet)]
        assert len(parts) == len(datasets)
        return TextDataSet(
            [path for part in parts for path in part.absolute_paths],
            parts[0].column,
            max(part.max_line_size for part in parts),
            None,
            any(part.recursive for part in parts),
            storage_options=parts[0].storage_options,
        )

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """DuckDB's CSV reader with nothing that could end, quote or blank out a field."""
        self._prepare(conn, filesystem)
        if not self.resolved_paths:
            return query_of_nothing({self.column: "VARCHAR"})
        name = quoted_string(self.column)
        return (
            f"( select * from read_csv({self._path_list}, columns={{{name}: 'VARCHAR'}}, "
            "delim='', quote='', escape='', comment='', header=false, auto_detect=false, "
            f"strict_mode=false, force_not_null=[{name}], max_line_size={self.max_line_size}, "
            f"buffer_size={line_buffer_bytes(self.max_line_size)}) )"
        )
