"""SQL of users as arguments: lists of expressions, sort keys, whole queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import InvalidArgument
from smallpond.logical.optimizer.syntax import (
    expression_text,
    query_tree,
    quoted,
    select_list,
)
from smallpond.logical.optimizer.template import Input, Part, Placeholder, Sql
from smallpond.logical.relational import QueryNode

if TYPE_CHECKING:
    from smallpond.dataframe.frame import DataFrame
    from smallpond.dataframe.session import Session


def single_expressions(texts: Sequence[str]) -> list[str]:
    """Each expression on its own: `"a, b + 1 as c"` is two."""
    found: list[str] = []
    for text in texts:
        trees = select_list(text)
        if trees is None:
            raise InvalidArgument(f"cannot parse as SQL expressions: {text!r}")
        if len(trees) == 1:
            found.append(text)
            continue
        for tree in trees:
            alias = f" as {quoted(tree['alias'])}" if tree.get("alias") else ""
            found.append(expression_text(tree) + alias)
    return found


def aliased(text: str) -> list[tuple[str, str]]:
    """Names and expressions of `"a + b as c, d"`."""
    trees = select_list(text)
    if trees is None:
        raise InvalidArgument(f"cannot parse as SQL expressions: {text!r}")
    pairs = []
    for tree in trees:
        name = tree.get("alias") or ""
        if not name and tree.get("class") == "COLUMN_REF":
            name = tree["column_names"][-1]
        if not name:
            raise InvalidArgument(f"a new column needs a name: write {text!r} as name")
        pairs.append((str(name), expression_text(tree)))
    return pairs


def sort_keys(
    keys: Sequence[str], descending: bool | Sequence[bool], nulls_last: bool
) -> list[str]:
    """Sort keys with directions, each one expression: `"a, b desc"` is two."""
    found: list[str] = []
    for key in keys:
        found += ordered_expressions(key, nulls_last)
    flags = [descending] * len(found) if isinstance(descending, bool) else list(descending)
    if len(flags) != len(found):
        raise InvalidArgument(f"sort: {len(flags)} directions for {len(found)} columns")
    return [reversed_key(key) if flag else key for key, flag in zip(found, flags, strict=True)]


def ordered_expressions(key: str, nulls_last: bool) -> list[str]:
    tree = query_tree(f"select * from t order by {key}")
    modifiers = tree["modifiers"] if tree is not None else []
    if tree is None or len(modifiers) != 1 or "orders" not in modifiers[0]:
        raise InvalidArgument(f"sort: cannot parse as a sort key: {key!r}")
    default = "last" if nulls_last else "first"
    result = []
    for order in modifiers[0]["orders"]:
        direction = "desc" if order["type"] == "DESCENDING" else "asc"
        given = {
            "ORDERS_NULLS_FIRST": "first",
            "NULLS FIRST": "first",
            "NULLS LAST": "last",
            "ORDERS_NULLS_LAST": "last",
            "NULLS_FIRST": "first",
            "NULLS_LAST": "last",
        }
        nulls = given.get(order["null_order"], default)
        text = expression_text(order["expression"])
        result.append(f"{text} {direction} nulls {nulls}")
    return result


def reversed_key(key: str) -> str:
    """The key in the other direction; where NULLs go stays."""
    expression, direction, nulls, place = key.rsplit(" ", 3)
    return f"{expression} {'asc' if direction == 'desc' else 'desc'} {nulls} {place}"


def query_node(
    session: Session, query: str, inputs: Sequence[DataFrame], kwargs: dict[str, Any]
) -> DataFrame:
    """A frame for a query over whole tables, given by position or by name."""
    from smallpond.dataframe.frame import DataFrame

    frames = list(inputs)
    options: dict[str, Any] = {}
    positions: dict[str, int] = {}
    for name, value in kwargs.items():
        if isinstance(value, DataFrame):
            positions[name] = len(frames)
            frames.append(value)
        else:
            options[name] = value
    parts: list[Part] = []
    for part in Sql.of_template(query.strip().rstrip(";")).parts:
        if isinstance(part, Placeholder):
            if part.text not in positions:
                known = ", ".join([*(str(index) for index in range(len(inputs))), *positions])
                raise InvalidArgument(
                    f"sql: no table for {{{part.text}}}; tables were given for: {known or 'none'}"
                )
            parts.append(Input(positions[part.text]))
        elif isinstance(part, Input) and part.index >= len(inputs):
            raise InvalidArgument(f"sql: no table for {{{part.index}}}; {len(inputs)} were given")
        else:
            parts.append(part)
    node = QueryNode(session._ctx, [one.plan for one in frames], Sql(tuple(parts)), **options)
    return DataFrame(session, node, recompute=any(one.need_recompute for one in frames))
