"""A table in groups, waiting for its aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import InvalidArgument
from smallpond.logical.optimizer.syntax import quoted
from smallpond.logical.relational import AggregateNode

if TYPE_CHECKING:
    from smallpond.dataframe.frame import DataFrame


class GroupedFrame:
    """What `group_by` returns."""

    def __init__(self, frame: DataFrame, keys: Sequence[str]) -> None:
        self.frame = frame
        self.keys = tuple(keys)

    def agg(self, *aggregates: str, udfs: list[Any] | None = None, **named: str) -> DataFrame:
        """Aggregates in SQL: `.agg("sum(x)", "max(y) as top", n="count(*)")`."""
        items = [*aggregates, *(f"({text}) as {quoted(name)}" for name, text in named.items())]
        if not items and not self.keys:
            raise InvalidArgument("agg: give at least one aggregate")
        node = AggregateNode(self.frame.session._ctx, self.frame.plan, self.keys, items, udfs=udfs)
        return self.frame._derived(node)

    def count(self) -> DataFrame:
        """The number of rows of each group, in the column `count`."""
        return self.agg('count(*) as "count"')

    def sum(self, *columns: str) -> DataFrame:
        """The sums of columns."""
        return self._each("sum", columns)

    def min(self, *columns: str) -> DataFrame:
        """The least values of columns."""
        return self._each("min", columns)

    def max(self, *columns: str) -> DataFrame:
        """The greatest values of columns."""
        return self._each("max", columns)

    def mean(self, *columns: str) -> DataFrame:
        """The means of columns."""
        return self._each("avg", columns)

    def _each(self, function: str, columns: Sequence[str]) -> DataFrame:
        names = [f"{function}({quoted(name)}) as {quoted(name)}" for name in columns]
        return self.agg(*names)
