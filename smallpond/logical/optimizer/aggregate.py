"""Two-phase aggregation: which aggregates split into a partial and a final part, and how.

`sum(x) / count(*)` becomes a partial query that computes `sum(x)` and `count(*)` of each group
where its rows are, and a final one that adds them up where groups meet and evaluates the rest of
the expression. Any aggregate outside the table below keeps the whole node in one phase.

Invariants: names and types of the result are those of the one-phase query; integer sums stay exact
(HUGEINT does not fit into files, so it travels as DECIMAL(38, 0)); a count over no rows is 0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from smallpond.logical.optimizer.schema import Schema, described
from smallpond.logical.optimizer.syntax import (
    Tree,
    arguments,
    expression_text,
    function_name,
    is_aggregate,
    quoted,
    select_list,
    trees_inside,
)
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.aggregate import AggregateNode
from smallpond.logical.udf import UDFContext

# Aggregates of which the whole is the same aggregate of the parts.
SAME = frozenset(("min", "max", "any_value", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor"))
WIDE = {"HUGEINT": "DECIMAL(38,0)", "UHUGEINT": "DECIMAL(38,0)"}


@dataclass(frozen=True)
class Phases:
    """The two queries, and the columns by which partial rows meet."""

    partial: Sql
    final: Sql
    keys: list[str]


@dataclass
class Splitter:
    """Collects the partial and the final columns of one node."""

    partial: list[str] = field(default_factory=list)
    final: list[str] = field(default_factory=list)
    doubles: list[int] = field(default_factory=list)
    """Partial columns that must be DOUBLE: those of an average of numbers."""

    def part(self, expression: str) -> str:
        """The name of a partial column."""
        self.partial.append(expression)
        return f"__partial_{len(self.partial) - 1}"

    def whole(self, tree: Tree) -> str | None:
        """The final form of one aggregate call; None when it has none."""
        name = function_name(tree)
        if tree.get("distinct") or (tree.get("order_bys") or {}).get("orders"):
            return None
        where = tree.get("filter")
        chosen = f" filter (where {expression_text(where)})" if where else ""
        given = [expression_text(one) for one in arguments(tree)]
        if name in ("count", "count_star") and len(given) < 2:
            counted = given[0] if given else "*"
            return f"coalesce(sum({self.part(f'count({counted}){chosen}')}), 0)"
        if len(given) != 1:
            return None
        if name in SAME or name == "sum":
            return f"{name}({self.part(f'{name}({given[0]}){chosen}')})"
        if name in ("avg", "mean"):
            self.doubles.append(len(self.partial))
            probe = self.part(f"avg({given[0]}){chosen}")
            rows = self.part(f"count({given[0]}){chosen}")
            return f"(sum({probe} * {rows}) / nullif(sum({rows}), 0))"
        return None

    def replaced(self, value: Any) -> Any:
        """A tree with every aggregate call replaced by a column; None when one cannot be."""
        if isinstance(value, dict):
            if is_aggregate(value):
                whole = self.whole(value)
                if whole is None:
                    return None
                self.final.append(whole)
                name = f"__final_{len(self.final) - 1}"
                reference = {"class": "COLUMN_REF", "type": "COLUMN_REF", "column_names": [name]}
                return {**reference, "alias": ""}
            changed = {key: self.replaced(child) for key, child in value.items()}
            lost = any(changed[key] is None and value[key] is not None for key in value)
            return None if lost else changed
        if isinstance(value, list):
            items = [self.replaced(child) for child in value]
            return None if any(item is None for item in items) else items
        return value


def two_phase(
    node: AggregateNode, schema: Schema | None, udfs: Sequence[UDFContext]
) -> Phases | None:
    """The phases of a node; None when it must see all rows of a group at once."""
    trees = select_list(", ".join(node.aggregates)) if node.aggregates else []
    keys = select_list(", ".join(node.keys)) if node.keys else []
    result = described(node.query(), [schema], udfs) if schema is not None else None
    if schema is None or trees is None or keys is None or result is None:
        return None
    splitter = Splitter()
    outer = [splitter.replaced(copy.deepcopy(tree)) for tree in trees]
    if any(tree is None or not only_final_columns(tree) for tree in outer):
        return None
    if len(keys) != len(node.keys) or len(result) != len(keys) + len(outer):
        return None
    named = [f"{expression_text(tree)} as __key_{index}" for index, tree in enumerate(keys)]
    positions = ", ".join(str(index + 1) for index in range(len(keys)))
    grouped = f"\ngroup by {positions}" if keys else ""
    parts = [f"{text} as __partial_{index}" for index, text in enumerate(splitter.partial)]
    raw = Sql.concat(f"select {', '.join(named + parts)}\nfrom ", Sql.input(0), grouped)
    kinds = described(raw, [schema], udfs)
    if kinds is None or any(kinds[len(keys) + index][1] != "DOUBLE" for index in splitter.doubles):
        return None
    cast = ", ".join(
        f"{quoted(name)}::{WIDE[kind]} as {quoted(name)}" if kind in WIDE else quoted(name)
        for name, kind in kinds
    )
    columns = [f"__key_{index}" for index in range(len(keys))]
    finals = [f"{text} as __final_{index}" for index, text in enumerate(splitter.final)]
    inner = f"select {', '.join(columns + finals)}\nfrom "
    expressions = columns + [expression_text(tree) for tree in outer]
    shown = ", ".join(
        f"({text})::{kind} as {quoted(name)}"
        for text, (name, kind) in zip(expressions, result, strict=True)
    )
    return Phases(
        partial=Sql.concat(f"select {cast}\nfrom (\n", raw, "\n)"),
        final=Sql.concat(f"select {shown}\nfrom (\n", inner, Sql.input(0), grouped, "\n)"),
        keys=columns,
    )


def only_final_columns(tree: Tree) -> bool:
    """Whether an expression reads nothing but final columns."""
    for one in trees_inside(tree):
        if one.get("class") in ("WINDOW", "SUBQUERY", "STAR"):
            return False
        if one.get("class") == "COLUMN_REF" and not one["column_names"][-1].startswith("__final_"):
            return False
    return True
