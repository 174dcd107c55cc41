"""Rows without their duplicates, by all columns or by some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from smallpond.logical.node import Context, Node
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.base import RelationalNode


class DistinctNode(RelationalNode):
    """One row of each set of equal ones; by some columns it is any of them."""

    operation: ClassVar[str] = "distinct"

    def __init__(
        self, ctx: Context, input_dep: Node, columns: Sequence[str] = (), **options: Any
    ) -> None:
        super().__init__(ctx, (input_dep,), **options)
        self.columns = tuple(columns)

    def query(self) -> Sql:
        by = f" on ({', '.join(self.columns)})" if self.columns else ""
        return Sql.concat(f"select distinct{by} * from ", Sql.input(0))

    def detail(self) -> str:
        return ", ".join(self.columns) or "all columns"
