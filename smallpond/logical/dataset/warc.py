"""Web archives as tables: one row a response, with its URL, domain, date and body.

DuckDB cannot read them, so for SQL the rows are spooled once into a temporary Arrow file that is
mapped into memory and has no name any more: a query may scan it as often as it likes, memory stays
small, and nothing is left behind even after kill -9.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_BATCH_SIZE, MB
from smallpond.logical.dataset.base import DataSet, logger
from smallpond.logical.dataset.skipped import Skipped

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH_BYTES_MAX = 32 * MB


class WarcDataSet(DataSet):
    """The responses in WARC files; columns `url`, `domain`, `date` and `content`."""

    not_identity = DataSet.not_identity | {"skipped_files"}
    read_by_python = True

    def __init__(
        self,
        paths: str | Sequence[str],
        root_dir: str | None = "",
        recursive: bool = False,
        columns: Sequence[str] | None = None,
        *,
        ignore_corrupt_files: bool = False,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        """Describe WARC files; see `DataSet`.

        With `ignore_corrupt_files`, a damaged file gives the records before the damage (as far as
        they can be decompressed), and `skipped_files` says what was wrong with it.
        """
        super().__init__(paths, root_dir, recursive, columns, storage_options=storage_options)
        self.ignore_corrupt_files = ignore_corrupt_files
        self.skipped_files: dict[str, str] = {}

    def skipped(self, conn: duckdb.DuckDBPyConnection | None = None) -> list[Skipped]:
        """The damaged files."""
        return [Skipped(path, reason) for path, reason in self.skipped_files.items()]

    @staticmethod
    def merge(datasets: Sequence[DataSet]) -> WarcDataSet:
        """The files of all the sets."""
        parts = [dataset for dataset in datasets if isinstance(dataset, WarcDataSet)]
        assert len(parts) == len(datasets)
        return WarcDataSet(
            [path for part in parts for path in part.absolute_paths],
            None,
            any(part.recursive for part in parts),
            parts[0].columns,
            ignore_corrupt_files=any(part.ignore_corrupt_files for part in parts),
            storage_options=parts[0].storage_options,
        )

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns, which no file decides."""
        import pyarrow as pa

        from smallpond.io.arrow.types import filter_schema

        text = pa.large_string()
        fields = [("url", text), ("domain", text), ("date", text), ("content", pa.large_binary())]
        return filter_schema(pa.schema(fields), self.columns)

    @property
    def num_rows(self) -> int:
        """The number of responses; reads everything the first time."""
        if self._resolved_num_rows is None:
            self._resolved_num_rows = sum(batch.num_rows for batch in self.to_batch_reader())
        return self._resolved_num_rows

    def _batches(self, schema: pa.Schema, filesystem: Any) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        rows: list[tuple[Any, ...]] = []
        size = 0
        for path in self.resolved_paths:
            for row in self._rows(path, schema.names, filesystem):
                rows.append(row)
                size += sum(map(len, row))
                if size >= BATCH_BYTES_MAX:
                    yield pa.RecordBatch.from_arrays(_columns(rows, schema), schema=schema)
                    rows, size = [], 0
        if rows:
            yield pa.RecordBatch.from_arrays(_columns(rows, schema), schema=schema)

    def _rows(self, path: str, names: Sequence[str], filesystem: Any) -> Iterator[tuple[Any, ...]]:
        from smallpond.common import CorruptFile
        from smallpond.io.warc import read_warc

        getters = {"content": "body"}
        try:
            for record in read_warc(path, filesystem):
                if record.kind == "response":
                    yield tuple(getattr(record, getters.get(name, name)) for name in names)
        except CorruptFile as error:
            if not self.ignore_corrupt_files:
                raise
            logger.warning("skipped the rest: %s", error)
            self.skipped_files[path] = str(error)

    def to_batch_reader(
        self,
        batch_size: int = DEFAULT_BATCH_SIZE,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.RecordBatchReader:
        """The responses in batches of at most `batch_size` rows."""
        import pyarrow as pa

        from smallpond.io.arrow.reader import rechunked

        schema = self.arrow_schema
        batches = self._batches(schema, self._filesystem(filesystem))
        return pa.RecordBatchReader.from_batches(
            schema, rechunked(batches, batch_size, BATCH_BYTES_MAX)
        )

    def to_arrow_table(
        self,
        max_workers: int = 16,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.Table:
        """All responses."""
        return self.to_batch_reader(filesystem=filesystem).read_all()

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """A view over the spooled rows in this connection (DuckDB's default one if none)."""
        import duckdb

        table = spooled(self.to_batch_reader(filesystem=filesystem))
        name = f"warc_{id(table)}"
        (conn or duckdb.default_connection()).register(name, table)
        return f"( select * from {name} )"


def _columns(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> list[pa.Array]:
    import pyarrow as pa

    return [
        pa.array(column, field.type)
        for column, field in zip(zip(*rows, strict=True), schema, strict=True)
    ]


def spooled(reader: pa.RecordBatchReader) -> pa.Table:
    """All rows of the reader as a table that lives in a nameless file and not in memory."""
    import pyarrow as pa

    with tempfile.NamedTemporaryFile(prefix="smallpond-spool-") as file:
        with pa.OSFile(file.name, "wb") as sink, pa.ipc.new_file(sink, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
        source = pa.memory_map(file.name, "r")
    return pa.ipc.open_file(source).read_all()
