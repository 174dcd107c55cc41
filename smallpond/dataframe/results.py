"""What a data frame gives to Python: counts, rows, batches, tables of other libraries.

Each of these computes the frame if it has not been; `take` and `show` compute only a limit of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_BATCH_SIZE, MissingDependency
from smallpond.logical.dataset.damage import read_intact, reader_connection
from smallpond.logical.dataset.skipped import report_skipped
from smallpond.logical.node import DataSourceNode, Node

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as arrow

    from smallpond.dataframe.frame import DataFrame
    from smallpond.logical.dataset import DataSet


class Results:
    """The inspecting methods of a data frame."""

    plan: Node

    def _compute(self) -> list[DataSet]:
        raise NotImplementedError(f"{type(self).__name__} cannot be computed")

    def is_computed(self) -> bool:
        raise NotImplementedError(f"{type(self).__name__} cannot be computed")

    def limit(self, limit: int) -> DataFrame:
        raise NotImplementedError(f"{type(self).__name__} has no rows")

    def count(self) -> int:
        """The number of rows; of a source that knows it, without reading."""
        return sum(dataset.num_rows for dataset in self._compute())

    def take(self, limit: int) -> list[dict[str, Any]]:
        """The first rows as dicts, computing no more than it takes."""
        if self.is_computed():
            datasets = self._compute()
        elif isinstance(self.plan, DataSourceNode):
            datasets = [self.plan.dataset]
        else:
            datasets = self.limit(limit)._compute()
        rows: list[dict[str, Any]] = []
        for dataset in datasets:
            if len(rows) >= limit:
                break
            rows += read_intact(dataset, partial(first_rows, count=limit - len(rows)))
        return rows

    def take_all(self) -> list[dict[str, Any]]:
        """All rows as dicts."""
        return [row for dataset in self._compute() for row in read_intact(dataset, first_rows)]

    def to_arrow(self) -> arrow.Table:
        """The table as Arrow."""
        import pyarrow as arrow

        tables = [read_intact(dataset, as_table) for dataset in self._compute()]
        # A partition for which Python code made no row has no columns either.
        told = [table for table in tables if table.num_columns] or tables[:1]
        if not told:
            return arrow.table({})
        if all(table.schema == told[0].schema for table in told):
            return arrow.concat_tables(told)
        return arrow.concat_tables(told, promote_options="permissive")

    def to_pandas(self) -> pd.DataFrame:
        """The table as a pandas frame, its rows numbered from 0."""
        datasets = self._compute()
        if len(datasets) == 1:
            return read_intact(datasets[0], as_pandas)
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> pl.DataFrame:
        """The table as a polars frame."""
        try:
            import polars as pl
        except ImportError as error:
            raise MissingDependency("to_polars needs polars: pip install polars") from error
        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_torch(self, columns: list[str] | None = None) -> dict[str, Any]:
        """The numeric columns as torch tensors, by name."""
        try:
            import torch
        except ImportError as error:
            raise MissingDependency("to_torch needs PyTorch: pip install torch") from error
        table = self.to_arrow()
        names = columns or [field.name for field in table.schema if is_number(field.type)]
        return {
            name: torch.as_tensor(table.column(name).to_numpy(zero_copy_only=False))
            for name in names
        }

    def iter_batches(
        self, batch_size: int = DEFAULT_BATCH_SIZE, batch_format: str = "arrow"
    ) -> Iterator[Any]:
        """The table in pieces of at most `batch_size` rows: "arrow" batches, "pandas" frames, or
        "numpy" arrays by column.

        Rows that were handed out cannot be taken back: where pages of a source's file are damaged
        this fails, also with `ignore_corrupt_files`, unless an operation comes first.
        """
        if batch_format not in ("arrow", "pandas", "numpy"):
            raise ValueError(f"batch_format={batch_format!r}: choose arrow, pandas or numpy")
        for dataset in self._compute():
            with reader_connection(dataset) as conn:
                for batch in dataset.to_batch_reader(batch_size, conn=conn):
                    yield in_format(batch, batch_format)
                report_skipped([dataset], conn)

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        """The rows as dicts, one after the other."""
        for batch in self.iter_batches():
            yield from batch.to_pylist()

    def show(self, n: int = 20) -> None:
        """Print the first rows."""
        from smallpond.dataframe.display import rows_text

        print(rows_text(self.limit(n).to_arrow(), n))


def as_table(dataset: DataSet, conn: duckdb.DuckDBPyConnection | None) -> arrow.Table:
    """All rows as an Arrow table."""
    return dataset.to_arrow_table(conn=conn)


def as_pandas(dataset: DataSet, conn: duckdb.DuckDBPyConnection | None) -> pd.DataFrame:
    """All rows as a pandas frame."""
    if conn is None:
        return dataset.to_pandas()
    frame: pd.DataFrame = dataset.to_arrow_table(conn=conn).to_pandas()
    return frame


def in_format(batch: arrow.RecordBatch, batch_format: str) -> Any:
    """A batch as it is, as a pandas frame, or as numpy arrays by column."""
    if batch_format == "pandas":
        return batch.to_pandas()
    if batch_format == "numpy":
        return {
            name: batch.column(index).to_numpy(zero_copy_only=False)
            for index, name in enumerate(batch.schema.names)
        }
    return batch


def first_rows(
    dataset: DataSet, conn: duckdb.DuckDBPyConnection | None, count: int | None = None
) -> list[dict[str, Any]]:
    """The first `count` rows of a data set as dicts; all of them by default."""
    rows: list[dict[str, Any]] = []
    for batch in dataset.to_batch_reader(conn=conn):
        rows += batch.slice(0, None if count is None else count - len(rows)).to_pylist()
        if count is not None and len(rows) >= count:
            break
    return rows


def is_number(kind: Any) -> bool:
    """Whether torch has tensors of an Arrow type."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))
