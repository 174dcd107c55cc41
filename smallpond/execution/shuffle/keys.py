"""The hash of a key, such that keys which SQL calls equal have the same hash whatever their types.

Numbers are hashed as DOUBLE: 1, 1.0 and DECIMAL 1 meet (different large integers may share a hash,
which only puts them into one partition). Dates are hashed as the timestamps they equal; text by its
bytes; NULL is a key like others. The result is hashed once more, because DuckDB's own hash tables
inside a partition use the bits of the first hash, and would find them all alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_EXACT_DECIMAL_DIGITS = 15
_INTEGERS = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)|BOOLEAN|BIGNUM|VARINT")
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")


def comparable(expression: str, sql_type: str) -> str:
    """The expression in the form in which equal values of different types hash equally."""
    kind = sql_type.upper()
    if _INTEGERS.fullmatch(kind):
        return f"CAST({expression} AS DOUBLE)"
    if kind in ("FLOAT", "DOUBLE", "REAL"):
        # Adding zero makes one of the two zeros.
        return f"(CAST({expression} AS DOUBLE) + 0.0)"
    decimal = _DECIMAL.fullmatch(kind)
    if decimal:
        if int(decimal[1]) <= _EXACT_DECIMAL_DIGITS or decimal[2] == "0":
            return f"CAST({expression} AS DOUBLE)"
        # A division of more digits than a double holds would round by the scale; text does not.
        return f"CAST(CAST({expression} AS VARCHAR) AS DOUBLE)"
    if kind == "DATE" or (kind.startswith("TIMESTAMP") and "ZONE" not in kind):
        return f"CAST({expression} AS TIMESTAMP)"
    if kind.startswith("TIMESTAMP"):
        return f"epoch_us({expression})"
    if kind == "UUID" or kind.startswith("ENUM"):
        return f"CAST({expression} AS VARCHAR)"
    return f"({expression})"


def partition_expression(keys: Sequence[tuple[str, str]], npartitions: int) -> str:
    """The partition of a row, from pairs of key expression and SQL type."""
    parts = ", ".join(comparable(expression, kind) for expression, kind in keys)
    return f"hash(hash({parts})) % {npartitions}"
