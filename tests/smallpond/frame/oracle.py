"""DuckDB alone on the same tables: what every operation must agree with."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa

Rows = list[tuple[Any, ...]]


def expected_rows(query: str, **tables: pa.Table) -> Rows:
    """The rows of a query over tables, by DuckDB in one piece."""
    with duckdb.connect(":memory:") as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return connection.execute(query).fetchall()


def rows_of(table: pa.Table) -> Rows:
    """The rows of a table as tuples."""
    return [tuple(row.values()) for row in table.to_pylist()]


def value_key(value: Any) -> str:
    """Text that is equal for equal values, whatever numeric type holds them."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | Decimal | float):
        return f"{float(value):.9g}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return str([value_key(one) for one in value])
    if isinstance(value, dict):
        return str({name: value_key(one) for name, one in value.items()})
    return repr(value)


def row_key(row: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(value_key(value) for value in row)


def assert_same_bag(found: pa.Table | Rows, expected: Rows) -> None:
    """The same rows, in any order."""
    rows = rows_of(found) if isinstance(found, pa.Table) else found
    assert sorted(map(row_key, rows)) == sorted(map(row_key, expected))


def assert_same_list(found: pa.Table | Rows, expected: Rows) -> None:
    """The same rows in the same order."""
    rows = rows_of(found) if isinstance(found, pa.Table) else found
    assert list(map(row_key, rows)) == list(map(row_key, expected))
