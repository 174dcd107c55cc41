"""Files of a shuffle that somebody looks at, with the types that Parquet has.

Rows travel through Arrow, whose Parquet files lack types that DuckDB's have: a UUID would come out
as text. Between our own tasks a cast gives them back on reading; what people see is written again
by DuckDB, which only tables with such columns pay for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.execution.shuffle.query import restoring_columns
from smallpond.execution.task.sql_engine import HUGEINT, narrowed, struct_literal
from smallpond.logical.dataset.sql import quoted_string

if TYPE_CHECKING:
    import duckdb

    from smallpond.logical.dataset import DataSet

# Parquet has them, and Arrow writes something else.
_PARQUET_TYPES = re.compile(r"\b(UUID|INTERVAL|TIME WITH TIME ZONE|JSON)\b")


def is_restored(dataset: DataSet) -> bool:
    """Whether reading the data set gives types that its files do not have but could."""
    columns = dataset.columns or []
    return any(one.startswith("CAST(") and _PARQUET_TYPES.search(one) for one in columns)


def write_parquet(conn: duckdb.DuckDBPyConnection, query: str, path: str, **options: Any) -> None:
    """The rows of a query as one file; integers that Parquet lacks become decimals."""
    described = conn.execute(f"DESCRIBE {query}").fetchall()
    wide = [(row[0], row[1]) for row in described if HUGEINT.search(row[1])]
    given = "".join(f", {name} {value}" for name, value in options.items())
    query = narrowed(query, wide, "DECIMAL(38, 0)")
    # All of the result is fetched: one that is not finished would block the connection.
    conn.execute(f"COPY (\n{query}\n) TO {quoted_string(path)} (FORMAT PARQUET{given})").fetchall()


def _rows_of(path: str) -> str:
    return f"read_parquet({quoted_string(path)}, hive_partitioning=false)"


class FileRestorer:
    """Writes the files of one task again."""

    def __init__(
        self,
        conn: duckdb.DuckDBPyConnection,
        types: Mapping[str, str],
        model: str,
        options: Mapping[str, Any],
    ) -> None:
        """`types` are what the columns were, `model` is any of the files."""
        self.conn = conn
        self.options = options
        query = f"DESCRIBE SELECT * FROM {_rows_of(model)}"
        read = {row[0]: row[1] for row in conn.execute(query).fetchall()}
        lost = any(_PARQUET_TYPES.search(kind) for kind in types.values())
        self.columns: Sequence[str] | None = restoring_columns(types, read) if lost else None
        # A task's connection forgets the order of rows unless it is told to keep it.
        conn.execute("SET preserve_insertion_order = true").fetchall()

    def write(self, path: str, metadata: Mapping[str, str], target: str, limit: str = "") -> None:
        """One file with its types; `target` may be the file itself."""
        assert self.columns is not None
        query = f"SELECT {', '.join(self.columns)} FROM {_rows_of(path)}{limit}"
        part = f"{target}.part"
        write_parquet(
            self.conn, query, part, KV_METADATA=struct_literal(dict(metadata)), **self.options
        )
        os.replace(part, target)
