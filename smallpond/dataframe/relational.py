"""Operations on the whole table, whatever its partitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import InvalidArgument
from smallpond.logical.node import Node
from smallpond.logical.optimizer.syntax import quoted
from smallpond.logical.relational import (
    DistinctNode,
    QueryNode,
    SampleNode,
    SelectNode,
    SortNode,
    UnionAllNode,
)

if TYPE_CHECKING:
    from smallpond.dataframe.frame import DataFrame
    from smallpond.dataframe.group import GroupedFrame
    from smallpond.dataframe.session import Session
    from smallpond.logical.relational.join import JoinKind, JoinStrategy


class RelationalOperations:
    """Whole-table operations of a data frame."""

    session: Session
    plan: Node

    def _derived(self, plan: Node) -> DataFrame:
        raise NotImplementedError(f"{type(self).__name__} does not make frames")

    @property
    def columns(self) -> list[str]:
        raise NotImplementedError(f"{type(self).__name__} has no columns")

    def select(self, *expressions: str, **named: str) -> DataFrame:
        """Columns by name or SQL expression: `df.select("a", "b + 1 as c", d="a * 2")`.

        Unlike in `map`, aggregates and windows are over the whole table.
        """
        items = [*expressions, *(f"({text}) as {quoted(name)}" for name, text in named.items())]
        if not items:
            raise InvalidArgument("select: give at least one column")
        return self._derived(SelectNode(self.session._ctx, self.plan, items))

    def with_columns(self, *expressions: str, **named: str) -> DataFrame:
        """The table with columns added, or replaced where the name exists:
        `df.with_columns(c="a + b", rank="row_number() over (order by a)")`."""
        from smallpond.dataframe.queries import aliased

        added = {name: text for one in expressions for name, text in aliased(one)} | named
        own = {name.lower(): name for name in self.columns}
        replaced = {own[name.lower()]: text for name, text in added.items() if name.lower() in own}
        new = {name: text for name, text in added.items() if name.lower() not in own}
        items = [
            f"({replaced[name]}) as {quoted(name)}" if name in replaced else quoted(name)
            for name in own.values()
        ]
        items += [f"({text}) as {quoted(name)}" for name, text in new.items()]
        return self._derived(SelectNode(self.session._ctx, self.plan, items))

    def drop(self, *columns: str) -> DataFrame:
        """The table without some columns."""
        own = {name.lower(): name for name in self.columns}
        self._check_columns("drop", columns, own)
        gone = {name.lower() for name in columns}
        kept = [quoted(name) for key, name in own.items() if key not in gone]
        return self._derived(SelectNode(self.session._ctx, self.plan, kept))

    def rename(self, columns: Mapping[str, str]) -> DataFrame:
        """The table with other names for some columns."""
        own = {name.lower(): name for name in self.columns}
        self._check_columns("rename", list(columns), own)
        new = {name.lower(): alias for name, alias in columns.items()}
        items = [
            f"{quoted(name)} as {quoted(new[key])}" if key in new else quoted(name)
            for key, name in own.items()
        ]
        return self._derived(SelectNode(self.session._ctx, self.plan, items))

    def _check_columns(self, what: str, names: Sequence[str], own: Mapping[str, str]) -> None:
        missing = [name for name in names if name.lower() not in own]
        if missing:
            known = ", ".join(own.values())
            raise InvalidArgument(f"{what}: no column {', '.join(missing)}; there are {known}")

    def sort(
        self,
        *by: str | Sequence[str],
        descending: bool | Sequence[bool] = False,
        nulls_last: bool = True,
        **kwargs: Any,
    ) -> DataFrame:
        """All rows in one order: `df.sort("a", "b desc")`, `df.sort("a", descending=True)`."""
        from smallpond.dataframe.queries import sort_keys

        keys = [key for one in by for key in ([one] if isinstance(one, str) else one)]
        if not keys:
            raise InvalidArgument("sort: give at least one column")
        return self._derived(
            SortNode(
                self.session._ctx, self.plan, sort_keys(keys, descending, nulls_last), **kwargs
            )
        )

    def group_by(self, *keys: str | Sequence[str]) -> GroupedFrame:
        """Groups by columns or SQL expressions; `.agg(...)` gives a row for each."""
        from smallpond.dataframe.group import GroupedFrame
        from smallpond.dataframe.queries import single_expressions

        names = [key for one in keys for key in ([one] if isinstance(one, str) else one)]
        return GroupedFrame(self._self(), single_expressions(names))

    def agg(self, *aggregates: str, **named: str) -> DataFrame:
        """One row of aggregates over the table: `df.agg("sum(a)", n="count(*)")`."""
        return self.group_by().agg(*aggregates, udfs=None, **named)

    def join(
        self,
        other: DataFrame,
        on: str | Sequence[str] | None = None,
        how: JoinKind = "inner",
        *,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        condition: str | None = None,
        by: str | Sequence[str] | None = None,
        direction: str = "backward",
        suffix: str = "_right",
        strategy: JoinStrategy | None = None,
        **kwargs: Any,
    ) -> DataFrame:
        """The join with another table.

        Args:
            other: the right side.
            on: key columns that both sides have; they appear once in the result.
            how: inner, left, right, full, semi, anti, cross or asof.
            left_on: key columns of the left side, with `right_on`.
            right_on: key columns of the right side.
            condition: SQL that must hold too, with the sides as `l` and `r`.
            by: for asof, columns that must be equal; `on` then is the column of nearest values.
            direction: for asof, "backward" (the last one not after) or "forward".
            suffix: for names of the right side that the left has as well.
            strategy: "broadcast", "hash" or "merge"; by size if not said.
            **kwargs: options of the node, such as `npartitions`.
        """
        from smallpond.dataframe.joins import joined

        keys = (on, left_on, right_on, by)
        return joined(
            self._self(), other, how, keys, condition, direction, suffix, strategy, kwargs
        )

    def distinct(self, *columns: str, **kwargs: Any) -> DataFrame:
        """Each row once; with columns, one row for each of their values."""
        names = [quoted(name) for name in columns]
        return self._derived(DistinctNode(self.session._ctx, self.plan, names, **kwargs))

    def union(self, *others: DataFrame, by_name: bool = False, distinct: bool = False) -> DataFrame:
        """The rows of several tables; columns meet by position, or by name."""
        plans = (self.plan, *(other.plan for other in others))
        united = self._derived(UnionAllNode(self.session._ctx, plans, by_name=by_name))
        return united.distinct() if distinct else united

    def sample(
        self, fraction: float | None = None, *, n: int | None = None, seed: int | None = None
    ) -> DataFrame:
        """Rows by chance: each with probability `fraction`, or `n` of them."""
        return self._derived(
            SampleNode(self.session._ctx, self.plan, fraction=fraction, rows=n, seed=seed)
        )

    def describe(self) -> DataFrame:
        """Statistics of each column: type, extremes, approximate distinct count, mean, nulls."""
        from smallpond.logical.optimizer.template import Sql

        query = Sql.concat("select * from (summarize select * from ", Sql.input(0), ")")
        return self._derived(QueryNode(self.session._ctx, (self.plan,), query))

    def _self(self) -> DataFrame:
        from smallpond.dataframe.frame import DataFrame

        assert isinstance(self, DataFrame)
        return self
