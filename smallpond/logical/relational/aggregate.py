"""Groups and their aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from smallpond.logical.node import Context, Node
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.base import RelationalNode


class AggregateNode(RelationalNode):
    """One row a group: the keys, then the aggregates. Without keys, one row."""

    operation: ClassVar[str] = "aggregate"

    def __init__(
        self,
        ctx: Context,
        input_dep: Node,
        keys: Sequence[str],
        aggregates: Sequence[str],
        **options: Any,
    ) -> None:
        super().__init__(ctx, (input_dep,), **options)
        self.keys = tuple(keys)
        self.aggregates = tuple(aggregates)

    def query(self) -> Sql:
        columns = ", ".join(self.keys + self.aggregates)
        # Keys by position: a key may be an expression with an alias.
        positions = ", ".join(str(index + 1) for index in range(len(self.keys)))
        grouped = f"\ngroup by {positions}" if self.keys else ""
        return Sql.concat(f"select {columns}\nfrom ", Sql.input(0), grouped)

    def detail(self) -> str:
        keys = f" by {', '.join(self.keys)}" if self.keys else ""
        return ", ".join(self.aggregates) + keys
