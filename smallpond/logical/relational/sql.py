"""A whole query of the user's over whole tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from smallpond.logical.node import Context, Node
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.base import RelationalNode


class QueryNode(RelationalNode):
    """Any query; its inputs are whole tables, so aggregates and windows see every row."""

    operation: ClassVar[str] = "query"

    def __init__(
        self, ctx: Context, input_deps: Iterable[Node], template: Sql, **options: Any
    ) -> None:
        super().__init__(ctx, input_deps, **options)
        self.template = template

    def query(self) -> Sql:
        return self.template

    def detail(self) -> str:
        return " ".join(self.template.render().split())[:200]
