"""Joins of two tables: by equal keys, by nearest key (as-of), by a condition, or all pairs.

The node holds the columns of its result, because names that both sides have need a decision that
only their schemas allow. Key columns of equal name appear once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from smallpond.logical.node import Context, Node
from smallpond.logical.optimizer.syntax import quoted
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.base import RelationalNode

JoinKind = Literal["inner", "left", "right", "full", "semi", "anti", "cross", "asof"]
JOIN_KINDS = ("inner", "left", "right", "full", "semi", "anti", "cross", "asof")
JoinStrategy = Literal["broadcast", "hash", "merge"]
JOIN_WORDS = {
    "inner": "join",
    "left": "left join",
    "right": "right join",
    "full": "full join",
    "semi": "semi join",
    "anti": "anti join",
    "cross": "cross join",
    "asof": "asof left join",
}


@dataclass(frozen=True)
class JoinColumn:
    """A column of the result: where it comes from and its name there."""

    side: Literal["l", "r", "both"]
    name: str
    right_name: str
    alias: str


@dataclass(frozen=True)
class JoinSpec:
    """What is joined with what; `l` and `r` are the two sides in `condition`."""

    how: JoinKind
    left_on: tuple[str, ...] = ()
    right_on: tuple[str, ...] = ()
    condition: str | None = None
    nearest: tuple[str, str, str] | None = None
    """As-of: the left column, the comparison, the right column."""


class JoinNode(RelationalNode):
    """The join of its two inputs."""

    operation: ClassVar[str] = "join"

    def __init__(
        self,
        ctx: Context,
        left: Node,
        right: Node,
        spec: JoinSpec,
        columns: Sequence[JoinColumn],
        strategy: JoinStrategy | None = None,
        **options: Any,
    ) -> None:
        super().__init__(ctx, (left, right), **options)
        self.spec = spec
        self.columns = tuple(columns)
        self.strategy = strategy

    def selected(self) -> str:
        """The select list of the result."""
        pieces = []
        for column in self.columns:
            if column.side == "both":
                source = self.merged_key(column)
            else:
                source = f"{column.side}.{quoted(column.name)}"
            pieces.append(f"{source} as {quoted(column.alias)}")
        return ", ".join(pieces)

    def merged_key(self, column: JoinColumn) -> str:
        """A key that appears once: from the side that always has it."""
        left, right = f"l.{quoted(column.name)}", f"r.{quoted(column.right_name)}"
        if self.spec.how == "right":
            return right
        return f"coalesce({left}, {right})" if self.spec.how == "full" else left

    def matching(self) -> str:
        """The condition after ON."""
        spec = self.spec
        terms = [
            f"l.{quoted(left)} = r.{quoted(right)}"
            for left, right in zip(spec.left_on, spec.right_on, strict=True)
        ]
        if spec.nearest is not None:
            left, comparison, right = spec.nearest
            terms.append(f"l.{quoted(left)} {comparison} r.{quoted(right)}")
        if spec.condition is not None:
            terms.append(f"({spec.condition}\n)")
        return " and ".join(terms)

    def query(self) -> Sql:
        on = f"\non {self.matching()}" if self.spec.how != "cross" else ""
        join = f" as l\n{JOIN_WORDS[self.spec.how]} "
        return Sql.concat(
            f"select {self.selected()}\nfrom ", Sql.input(0), join, Sql.input(1), f" as r{on}"
        )

    def detail(self) -> str:
        return f"{self.spec.how} on {self.matching()}" if self.matching() else self.spec.how
