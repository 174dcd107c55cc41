"""A table as text in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as arrow

CELL_WIDTH_MAX = 40


def rows_text(table: arrow.Table, limit: int) -> str:
    """Rows under the names and types of their columns."""
    names = table.schema.names
    kinds = [str(field.type) for field in table.schema]
    rows = [[cell_text(row[name]) for name in names] for row in table.slice(0, limit).to_pylist()]
    lines = [list(names), kinds, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    rule = "─┼─".join("─" * width for width in widths)
    shown = [
        " │ ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    noun = "row" if len(rows) == 1 else "rows"
    return "\n".join([*shown[:2], rule, *shown[2:], f"({len(rows)} {noun})"])


def cell_text(value: Any) -> str:
    """A value on one line, cut when it is long."""
    text = "NULL" if value is None else str(value).replace("\n", "\\n")
    return text if len(text) <= CELL_WIDTH_MAX else text[: CELL_WIDTH_MAX - 1] + "…"
