"""Some of the rows, by chance: a fraction or a number."""

from __future__ import annotations

from typing import Any, ClassVar

from smallpond.logical.node import Context, Node
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.base import RelationalNode


class SampleNode(RelationalNode):
    """Each row with probability `fraction`, or `rows` of them, each set as likely as another."""

    operation: ClassVar[str] = "sample"

    def __init__(
        self,
        ctx: Context,
        input_dep: Node,
        *,
        fraction: float | None = None,
        rows: int | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        if (fraction is None) == (rows is None):
            raise ValueError("sample: give either fraction= or n=")
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"sample: fraction {fraction} is not between 0 and 1")
        if rows is not None and rows < 0:
            raise ValueError(f"sample: n = {rows} is negative")
        super().__init__(ctx, (input_dep,), **options)
        self.fraction = fraction
        self.rows = rows
        self.seed = seed

    def clause(self) -> str:
        """The sampling clause of a query."""
        repeatable = f" repeatable ({self.seed})" if self.seed is not None else ""
        if self.fraction is not None:
            return f"using sample bernoulli({self.fraction * 100:.10f} percent){repeatable}"
        return f"using sample reservoir({self.rows} rows){repeatable}"

    def query(self) -> Sql:
        if self.rows == 0:
            return Sql.concat("select * from ", Sql.input(0), " limit 0")
        return Sql.concat("select * from ", Sql.input(0), "\n", self.clause())

    def detail(self) -> str:
        return self.clause()
