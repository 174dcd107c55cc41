"""`filter` and `map` with SQL: nodes of the published kind that remember what they are.

They run partition by partition as their base class does; the optimiser moves a filter through
other operations because it knows the predicate alone.
"""

from __future__ import annotations

from typing import Any

from smallpond.logical.node import Context, Node, SqlEngineNode
from smallpond.logical.optimizer.template import Sql


class FilterNode(SqlEngineNode):
    """The rows for which a predicate holds."""

    def __init__(self, ctx: Context, input_dep: Node, predicate: str, **options: Any) -> None:
        self.predicate = Sql.of_template(predicate)
        query = Sql.concat("select * from ", Sql.input(0), " where (", self.predicate, "\n)")
        super().__init__(ctx, (input_dep,), query.render(), **options)
        self.options = options


class MapNode(SqlEngineNode):
    """A list of expressions over each partition."""

    def __init__(self, ctx: Context, input_dep: Node, expressions: str, **options: Any) -> None:
        self.expressions = Sql.of_template(expressions)
        query = Sql.concat("select ", self.expressions, "\nfrom ", Sql.input(0))
        super().__init__(ctx, (input_dep,), query.render(), **options)
        self.options = options
