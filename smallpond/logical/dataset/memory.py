"""Data sets that are in memory: Arrow tables and pandas frames.

They go into DuckDB as Arrow, without a copy, and into pickles as Arrow IPC streams: a slice of a
table takes only its own rows along. Integers stay what they are. They can be split like files can,
by rows.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_BATCH_SIZE
from smallpond.logical.dataset.base import DataSet, check_partition_count

DIGEST_CHUNK_ROWS = 1 << 20

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa


class ArrowTableDataSet(DataSet):
    """An Arrow table. Arrow data never changes, so it is shared and not copied."""

    not_identity = DataSet.not_identity | {"table", "df", "_table", "_digest"}

    def __init__(self, table: pa.Table) -> None:
        super().__init__([])
        self.table = table
        self._digest: str | None = None

    def identity_parts(self) -> tuple[Any, ...]:
        """The settings, and a digest of the rows: of a slice its own rows only."""
        if self._digest is None:
            self._digest = table_digest(self.to_arrow_table())
        return *super().identity_parts(), self._digest

    def __str__(self) -> str:
        table = self.table
        return f"{type(self).__name__}: {table.num_rows} rows, columns={table.column_names}"

    __repr__ = __str__

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"table": table_to_ipc(self.table)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.table = table_from_ipc(state["table"])

    @staticmethod
    def merge(datasets: Sequence[DataSet]) -> ArrowTableDataSet:
        """All rows in one table; columns are matched by name."""
        import pyarrow as pa

        tables = [dataset.to_arrow_table() for dataset in datasets]
        return ArrowTableDataSet(pa.concat_tables(tables, promote_options="permissive"))

    @property
    def num_rows(self) -> int:
        """The rows of the table."""
        return int(self.to_arrow_table().num_rows)

    @property
    def empty(self) -> bool:
        """Whether there are no rows."""
        return self.num_rows == 0

    @property
    def estimated_data_size(self) -> int:
        """The bytes that the rows take in memory."""
        return int(self.to_arrow_table().nbytes)

    def to_arrow_table(
        self,
        max_workers: int = 16,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.Table:
        """The table itself."""
        return self.table

    def to_batch_reader(
        self,
        batch_size: int = DEFAULT_BATCH_SIZE,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.RecordBatchReader:
        """The table in batches."""
        return self.to_arrow_table().to_reader(batch_size)

    def head(self, num_rows: int) -> pa.Table:
        """The first rows."""
        return self.to_arrow_table().slice(0, num_rows)

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """A view over the table in this connection (DuckDB's default one if none is given)."""
        import duckdb

        table = self.to_arrow_table()
        name = f"arrow_table_{id(table)}"
        (conn or duckdb.default_connection()).register(name, table)
        return f"( select * from {name} )"

    def _split_by_files(self, npartition: int, random_shuffle: bool) -> list[Any]:
        return self._split_by_rows(npartition, random_shuffle)

    def partition_by_rows(self, npartition: int, random_shuffle: bool = False) -> list[Any]:
        """Slices whose sizes differ by at most one row; no data is copied."""
        check_partition_count(npartition)
        key = ("rows", npartition, random_shuffle)
        if key not in self._partitions:
            self._partitions[key] = self._split_by_rows(npartition, random_shuffle)
        parts: list[Any] = self._partitions[key]
        return parts

    def _split_by_rows(self, npartition: int, random_shuffle: bool) -> list[Any]:
        table = self.to_arrow_table()
        short, longer_count = divmod(table.num_rows, npartition)
        parts = []
        begin = 0
        for index in range(npartition):
            length = short + (index < longer_count)
            parts.append(ArrowTableDataSet(table.slice(begin, length)))
            begin += length
        if random_shuffle:
            random.shuffle(parts)
        return parts


class PandasDataSet(ArrowTableDataSet):
    """A pandas frame; converted to Arrow once, when it is first read."""

    def __init__(self, df: pd.DataFrame) -> None:
        DataSet.__init__(self, [])
        self.df = df
        self._table: pa.Table | None = None
        self._digest = None

    def __str__(self) -> str:
        return f"{type(self).__name__}: {len(self.df)} rows, columns={list(self.df.columns)}"

    __repr__ = __str__

    def __getstate__(self) -> dict[str, Any]:
        import pyarrow as pa

        # The index travels in the Arrow table's metadata or as a column, and comes back with it.
        table = pa.Table.from_pandas(self.df)
        return DataSet.__getstate__(self) | {"df": table_to_ipc(table), "_table": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.df = table_from_ipc(state["df"]).to_pandas()

    @property
    def table(self) -> pa.Table:
        """The frame as an Arrow table."""
        return self.to_arrow_table()

    @property
    def num_rows(self) -> int:
        """The rows of the frame."""
        return len(self.df)

    def to_pandas(self) -> pd.DataFrame:
        """The frame itself."""
        return self.df

    def to_arrow_table(
        self,
        max_workers: int = 16,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.Table:
        """The frame's columns as Arrow; the index is no column, in SQL as here."""
        if self._table is None:
            import pyarrow as pa

            self._table = pa.Table.from_pandas(self.df, preserve_index=False)
        return self._table


class _Hashing:
    """A file that only remembers the digest of what was written."""

    closed = False

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True


def table_digest(table: pa.Table) -> str:
    """A digest of schema and rows, whatever chunks they lie in."""
    import pyarrow as pa

    sink = _Hashing()
    with (
        pa.PythonFile(sink, mode="w") as file,
        pa.ipc.new_stream(file, table.schema) as writer,
    ):
        for begin in range(0, table.num_rows, DIGEST_CHUNK_ROWS):
            rows = table.slice(begin, DIGEST_CHUNK_ROWS).combine_chunks()
            writer.write_table(rows)
    return sink.digest.hexdigest()


def table_to_ipc(table: pa.Table) -> bytes:
    """The rows of the table, and no others of its buffers, as an Arrow IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def table_from_ipc(data: bytes) -> pa.Table:
    """The table; it shares the memory of `data`."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()
