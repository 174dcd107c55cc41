"""What has to be known about the text of a query without asking DuckDB."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Strings, quoted names, dollar strings, comments: nothing in them is syntax.
_OPAQUE = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/", re.DOTALL
)


def quoted_identifier(name: str) -> str:
    """The name as SQL takes it whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def has_outer_order(query: str) -> bool:
    """Whether the query as a whole (not only one inside parentheses) has an ORDER BY."""
    text = _OPAQUE.sub(" ", query)
    depth = 0
    outer = []
    for char in text:
        depth += char in "([{"
        if depth == 0:
            outer.append(char)
        depth -= char in ")]}"
    return re.search(r"\border\s+by\b", "".join(outer), re.IGNORECASE) is not None


def substituted(query: str, views: Sequence[str], names: Mapping[str, Any]) -> str:
    """The query with `{0}`, `{1}`, ... and `{name}` replaced; `{{` and `}}` are braces."""
    try:
        return query.format(*views, **names)
    except (KeyError, IndexError, ValueError) as error:
        known = ", ".join(f"{{{name}}}" for name in [*range(len(views)), *names])
        raise ValueError(
            f"a placeholder of the query cannot be replaced: {error!r}; it may hold {known}; "
            f"double a brace to keep it\nquery: {query}"
        ) from error
