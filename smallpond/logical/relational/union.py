"""The rows of several tables one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from smallpond.logical.node import Context, Node
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.base import RelationalNode


class UnionAllNode(RelationalNode):
    """Columns meet by position or by name; types widen to a common one."""

    operation: ClassVar[str] = "union"

    def __init__(
        self, ctx: Context, input_deps: Iterable[Node], by_name: bool = False, **options: Any
    ) -> None:
        super().__init__(ctx, input_deps, **options)
        self.by_name = by_name

    def query(self) -> Sql:
        operator = "\nunion all by name\n" if self.by_name else "\nunion all\n"
        pieces: list[Sql | str] = []
        for index in range(len(self.input_deps)):
            pieces += [operator if index else "", "select * from ", Sql.input(index)]
        return Sql.concat(*pieces)

    def detail(self) -> str:
        return "by name" if self.by_name else "by position"
