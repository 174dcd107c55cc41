"""The SQL that a producer streams: the columns that travel, and the partition of each row.

The input is first given a name, as a view, so that its columns and types can be asked for; nothing
is computed twice, since a view is only text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.execution.shuffle.keys import partition_expression
from smallpond.execution.shuffle.ranges import search_expression, sort_key_expression
from smallpond.execution.task.sql_text import quoted_identifier

if TYPE_CHECKING:
    import duckdb

    from smallpond.execution.task.sql_query import ExecSqlQueryMixin

INPUT_VIEW = "shuffle_input"
PARTITION_COLUMN = "__shuffle_partition__"
SORT_KEY = "__shuffle_key__"


class ShuffleQuery:
    """Builds the statement for one producer on one connection."""

    def __init__(
        self,
        task: ExecSqlQueryMixin,
        conn: duckdb.DuckDBPyConnection,
        source: str,
        columns: Sequence[str] | None = None,
        without: Sequence[str] = (),
    ) -> None:
        """Name `source` (a query); `columns` travel, all but `without` by default."""
        self.task = task
        self.conn = conn
        task.exec_query(conn, f"CREATE TEMP VIEW {INPUT_VIEW} AS {source}")
        described = task.fetch(conn, f"DESCRIBE {INPUT_VIEW}")
        self.types: dict[str, str] = {name: kind for name, kind, *_ in described}
        if columns is None:
            hidden = {name.lower() for name in without}
            columns = [name for name in self.types if name.lower() not in hidden]
        self.columns = list(columns)

    def _payload(self) -> str:
        parts = []
        for name in self.columns:
            column = quoted_identifier(name)
            # DECIMAL(38, 0) is what of HUGEINT survives in a file without losing digits.
            if self.types.get(name) in ("HUGEINT", "UHUGEINT"):
                column = f"CAST({column} AS DECIMAL(38, 0)) AS {column}"
            parts.append(column)
        return "".join(f"{part}, " for part in parts)

    def without_partition(self) -> str:
        """Only the columns; the partition is chosen elsewhere."""
        payload = self._payload().removesuffix(", ")
        return f"SELECT {payload} FROM {INPUT_VIEW}"

    def by_expression(self, expression: str) -> str:
        """The partition is an integer that the user computes."""
        return (
            f"SELECT {self._payload()}CAST({expression} AS BIGINT) AS {PARTITION_COLUMN} "
            f"FROM {INPUT_VIEW}"
        )

    def by_hash(self, keys: Sequence[str], npartitions: int) -> str:
        """The partition is the hash of the keys."""
        named = ", ".join(f"({key}) AS k{index}" for index, key in enumerate(keys))
        kinds = self.task.fetch(self.conn, f"DESCRIBE SELECT {named} FROM {INPUT_VIEW}")
        typed = [(key, row[1]) for key, row in zip(keys, kinds, strict=True)]
        expression = partition_expression(typed, npartitions)
        kind = "USMALLINT" if npartitions <= 1 << 16 else "UINTEGER"
        return (
            f"SELECT {self._payload()}CAST({expression} AS {kind}) AS {PARTITION_COLUMN} "
            f"FROM {INPUT_VIEW}"
        )

    def by_range(self, order_by: Sequence[str], split_points: Sequence[Any]) -> str:
        """The partition is the place among the split points."""
        place = search_expression(SORT_KEY, split_points)
        return (
            f"SELECT {self._payload()}CAST({place} AS UINTEGER) AS {PARTITION_COLUMN} FROM ("
            f"SELECT *, {sort_key_expression(order_by)} AS {SORT_KEY} FROM {INPUT_VIEW})"
        )

    def sort_keys_of(self, order_by: Sequence[str], points: Sequence[Sequence[Any]]) -> list[Any]:
        """The sort keys of rows of plain values, compared as the input's columns are."""
        from smallpond.execution.shuffle.ranges import order_term

        terms = [order_term(term) for term in order_by]
        named = ", ".join(f"({term}) AS k{index}" for index, (term, _) in enumerate(terms))
        kinds = self.task.fetch(self.conn, f"DESCRIBE SELECT {named} FROM {INPUT_VIEW}")
        casts = ", ".join(
            f"CAST(? AS {kind[1]}), '{direction}'"
            for kind, (_, direction) in zip(kinds, terms, strict=True)
        )
        keys = []
        for point in points:
            # All rows are fetched: a result that is not finished would block the connection.
            [row] = self.conn.execute(f"SELECT create_sort_key({casts})", list(point)).fetchall()
            keys.append(row[0])
        assert keys == sorted(keys), f"split points are not in the order of {order_by}: {points}"
        return keys
