"""The SQL that a producer streams: the columns that travel, and the partition of each row.

The input is first given a name, as a view, so that its columns and types can be asked for; nothing
is computed twice, since a view is only text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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

# Types that Parquet files written by Arrow cannot hold, and what holds their values instead. A sum
# of BIGINT has at most 38 digits.
_STORED_AS = (
    (re.compile(r"\bU?HUGEINT\b"), "DECIMAL(38, 0)"),
    (re.compile(r"\b(INTERVAL|BIT|BIGNUM|VARINT|TIME WITH TIME ZONE)\b"), "VARCHAR"),
)
# Types that neither Arrow's files nor a stand-in hold. The name of a field may look like one.
_NOT_STORABLE = re.compile(r"\b(UNION|VARIANT|GEOMETRY)\b", re.IGNORECASE)


def is_storable(sql_type: str) -> bool:
    """Whether values of the type surely survive a shuffle."""
    return not _NOT_STORABLE.search(sql_type)


def storable_type(sql_type: str) -> str:
    """The type, also inside lists and structs, in which values of `sql_type` travel."""
    for pattern, stored in _STORED_AS:
        sql_type = pattern.sub(stored, sql_type)
    return sql_type


def restoring_columns(types: Mapping[str, str], read: Mapping[str, str]) -> list[str] | None:
    """What to select from a file, whose columns read as `read`, to have `types` again.

    None where everything reads as it was; columns that only the file has are kept.
    """
    if all(types.get(name, kind) == kind for name, kind in read.items()):
        return None
    columns = []
    for name, kind in read.items():
        column = quoted_identifier(name)
        wanted = types.get(name, kind)
        columns.append(column if wanted == kind else f"CAST({column} AS {wanted}) AS {column}")
    return columns


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

    def travelling_types(self) -> dict[str, str]:
        """The columns that travel with the types that they must have again when they are read."""
        return {name: self.types[name] for name in self.columns if name in self.types}

    def _payload(self) -> str:
        parts = []
        for name in self.columns:
            column = quoted_identifier(name)
            stored = storable_type(self.types.get(name, ""))
            if stored != self.types.get(name, ""):
                column = f"CAST({column} AS {stored}) AS {column}"
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
