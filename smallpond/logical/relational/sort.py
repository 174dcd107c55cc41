"""All rows in one order; with a limit, only the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from smallpond.logical.node import Context, Node
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.base import RelationalNode


class SortNode(RelationalNode):
    """`order by keys [limit n]`; a key may end in `desc`, `nulls first` and the like."""

    operation: ClassVar[str] = "sort"

    def __init__(
        self,
        ctx: Context,
        input_dep: Node,
        keys: Sequence[str],
        limit: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(ctx, (input_dep,), **options)
        self.keys = tuple(keys)
        self.limit = limit

    def query(self) -> Sql:
        ending = f"\norder by {', '.join(self.keys)}"
        if self.limit is not None:
            ending += f"\nlimit {self.limit}"
        return Sql.concat("select * from ", Sql.input(0), ending)

    def detail(self) -> str:
        first = f", first {self.limit}" if self.limit is not None else ""
        return ", ".join(self.keys) + first
