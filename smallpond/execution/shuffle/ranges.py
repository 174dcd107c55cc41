"""Partitions in an order: sort keys, samples of them, split points, the search for a row's place.

A sort key (DuckDB's `create_sort_key`) is one value whose plain order is the wanted order of all
columns, directions and NULLs included; so one comparison serves every type.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

SORT_KEY_COLUMN = "sort_key"

_TERM = re.compile(
    r"^(?P<expression>.*?)(?:\s+(?P<direction>ASC|DESC))?(?:\s+NULLS\s+(?P<nulls>FIRST|LAST))?\s*$",
    re.IGNORECASE | re.DOTALL,
)


def order_term(term: str) -> tuple[str, str]:
    """The expression of one ORDER BY term, and its direction spelled out as DuckDB's defaults."""
    match = _TERM.match(term.strip())
    assert match is not None and match["expression"], f"not a term of ORDER BY: {term!r}"
    direction = (match["direction"] or "ASC").upper()
    nulls = (match["nulls"] or "LAST").upper()
    return match["expression"], f"{direction} NULLS {nulls}"


def sort_key_expression(order_by: Sequence[str]) -> str:
    """The sort key of a row."""
    terms = [order_term(term) for term in order_by]
    parts = ", ".join(f"{expression}, '{direction}'" for expression, direction in terms)
    return f"create_sort_key({parts})"


def sort_key_sample_query(order_by: Sequence[str], rows: int, source: str = "{0}") -> str:
    """A query for an SQL node: at most `rows` sort keys of its input, chosen at random."""
    key = sort_key_expression(order_by).replace("{", "{{").replace("}", "}}")
    return (
        f"SELECT {key} AS {SORT_KEY_COLUMN} FROM {source} "
        f"USING SAMPLE reservoir({rows} ROWS) REPEATABLE ({{rand_seed}})"
    )


def split_points_query(npartitions: int, source: str = "{0}") -> str:
    """A query for an SQL node: the distinct split points of `npartitions` equal shares."""
    return (
        f"SELECT DISTINCT {SORT_KEY_COLUMN} FROM ("
        f"SELECT {SORT_KEY_COLUMN}, row_number() OVER (ORDER BY {SORT_KEY_COLUMN}) - 1 AS i, "
        f"count(*) OVER () AS n FROM {source}) "
        f"WHERE i > 0 AND i * {npartitions} // n <> (i - 1) * {npartitions} // n "
        f"ORDER BY {SORT_KEY_COLUMN}"
    )


def key_literal(key: Any) -> str:
    """A sort key as SQL."""
    if isinstance(key, bytes | bytearray | memoryview):
        return "'" + "".join(f"\\x{byte:02X}" for byte in bytes(key)) + "'::BLOB"
    return str(int(key))


def search_expression(column: str, split_points: Sequence[Any]) -> str:
    """How many of the (ascending) split points are not above `column`, by bisection."""
    literals = [key_literal(key) for key in split_points]

    def place(low: int, high: int) -> str:
        if low == high:
            return str(low)
        middle = (low + high) // 2
        return (
            f"CASE WHEN {column} < {literals[middle]} THEN {place(low, middle)} "
            f"ELSE {place(middle + 1, high)} END"
        )

    return place(0, len(literals))
