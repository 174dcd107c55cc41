"""Arrow tables from Python objects.

Arrow's own conversion imports pandas, to see whether it was given a pandas object; that costs more
than a small job. Columns of one plain type are therefore packed here; all others take Arrow's way.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

INT64 = range(-(1 << 63), 1 << 63)


def table_of_items(items: Sequence[Any]) -> pa.Table:
    """Dicts are rows; anything else is the column `item`."""
    if not isinstance(items[0], dict):
        column = packed(items)
        return pa.table({"item": items}) if column is None else named([column], ["item"])
    names = list(items[0])
    if all(isinstance(row, dict) and list(row) == names for row in items):
        columns = [packed([row[name] for row in items]) for name in names]
        if names and all(column is not None for column in columns):
            return named([column for column in columns if column is not None], names)
    return pa.Table.from_pylist(list(items))


def named(columns: list[pa.Array], names: list[str]) -> pa.Table:
    return pa.Table.from_arrays(columns, names=names)


def packed(values: Sequence[Any]) -> pa.Array | None:
    """The values as an array; None when they are not all of one plain type."""
    kinds = {type(value) for value in values}
    if kinds == {int} and all(value in INT64 for value in values):
        return pa.Array.from_buffers(
            pa.int64(), len(values), [None, pa.py_buffer(array("q", values))]
        )
    if kinds == {float}:
        return pa.Array.from_buffers(
            pa.float64(), len(values), [None, pa.py_buffer(array("d", values))]
        )
    if kinds == {str}:
        encoded = [value.encode() for value in values]
        offsets = array("i", [0])
        for text in encoded:
            if offsets[-1] + len(text) >= 1 << 31:
                return None
            offsets.append(offsets[-1] + len(text))
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
        return pa.Array.from_buffers(pa.string(), len(values), buffers)
    return None
