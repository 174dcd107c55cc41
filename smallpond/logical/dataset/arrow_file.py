"""Arrow IPC files (Feather 2), mapped into memory where the file system allows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_BATCH_SIZE, CorruptFile
from smallpond.io.arrow.footer import file_missing, is_damage
from smallpond.logical.dataset.base import DataSet

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class ArrowFileDataSet(DataSet):
    """The rows of `.arrow` and `.feather` files; files or streams of Arrow IPC."""

    @staticmethod
    def merge(datasets: Sequence[DataSet]) -> ArrowFileDataSet:
        """The files of all the sets."""
        parts = [dataset for dataset in datasets if isinstance(dataset, ArrowFileDataSet)]
        assert len(parts) == len(datasets)
        return ArrowFileDataSet(
            [path for part in parts for path in part.absolute_paths],
            None,
            any(part.recursive for part in parts),
            parts[0].columns,
            any(part.union_by_name for part in parts),
            storage_options=parts[0].storage_options,
        )

    @property
    def num_rows(self) -> int:
        """The rows of all files, from their footers."""
        if self._resolved_num_rows is None:
            self._resolved_num_rows = self.to_arrow_table().num_rows
        return self._resolved_num_rows

    def to_arrow_table(
        self,
        max_workers: int = 16,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.Table:
        """All rows; local files are mapped, so that only what is used is read."""
        import pyarrow as pa

        from smallpond.io.arrow.types import cast_columns_to_large_string

        tables = [
            cast_columns_to_large_string(table)
            for table in self._tables(self._filesystem(filesystem))
        ]
        if not tables:
            return pa.table({name: pa.nulls(0) for name in self.columns or []})
        if not self.union_by_name:
            return pa.concat_tables(tables)
        joined = pa.concat_tables(tables, promote_options="permissive")
        return joined.select(self.columns) if self.columns is not None else joined

    def _tables(self, filesystem: Any) -> Iterator[pa.Table]:
        import pyarrow as pa

        from smallpond.io.url import filesystem_for, path_within

        for path in self.resolved_paths:
            remote = filesystem or filesystem_for(path)
            try:
                if remote is None:
                    source = pa.memory_map(path, "r")
                else:
                    source = pa.py_buffer(remote.cat_file(path_within(remote, path)))
                yield _read(source)
            except FileNotFoundError as error:
                raise file_missing(path) from error
            except (pa.ArrowInvalid, OSError) as error:
                if not is_damage(error):
                    raise
                raise CorruptFile(f"'{path}' cannot be read as Arrow IPC: {error}") from error

    def to_batch_reader(
        self,
        batch_size: int = DEFAULT_BATCH_SIZE,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.RecordBatchReader:
        """All rows in batches."""
        return self.to_arrow_table(filesystem=filesystem).to_reader(batch_size)

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """A view over the mapped files in this connection (DuckDB's default one if none)."""
        import duckdb

        table = self.to_arrow_table(filesystem=filesystem)
        name = f"arrow_files_{id(table)}"
        (conn or duckdb.default_connection()).register(name, table)
        return f"( select * from {name} )"


def _read(source: Any) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        if hasattr(source, "seek"):
            source.seek(0)
        return pa.ipc.open_stream(source).read_all()
