"""Columns computed row by row, or over the whole table where an expression asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from smallpond.logical.node import Context, Node
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.base import RelationalNode


class SelectNode(RelationalNode):
    """`select expressions from input`."""

    operation: ClassVar[str] = "select"

    def __init__(
        self, ctx: Context, input_dep: Node, expressions: Sequence[str], **options: Any
    ) -> None:
        super().__init__(ctx, (input_dep,), **options)
        self.expressions = tuple(expressions)

    def query(self) -> Sql:
        return Sql.concat(f"select {', '.join(self.expressions)}\nfrom ", Sql.input(0))

    def detail(self) -> str:
        return ", ".join(self.expressions)
