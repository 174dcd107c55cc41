"""Operations on each partition, as published: they keep the partitions of their input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_BATCH_SIZE, InvalidArgument
from smallpond.logical.node import (
    ArrowBatchNode,
    EvenlyDistributedPartitionNode,
    HashPartitionNode,
    LimitNode,
    Node,
    PandasBatchNode,
    ShuffleNode,
    SqlEngineNode,
)

if TYPE_CHECKING:
    import pyarrow as arrow

    from smallpond.dataframe.frame import DataFrame
    from smallpond.dataframe.session import Session

RowFunction = Callable[[dict[str, Any]], Any]


class PartitionedOperations:
    """The published operations of a data frame."""

    session: Session
    plan: Node

    def _derived(self, plan: Node) -> DataFrame:
        raise NotImplementedError(f"{type(self).__name__} does not make frames")

    def repartition(
        self,
        npartitions: int,
        hash_by: str | list[str] | None = None,
        by: str | None = None,
        by_rows: bool = False,
        *,
        by_row: bool = False,
        **kwargs: Any,
    ) -> DataFrame:
        """Divide the rows into partitions: evenly by files, or by rows; by the hash of columns; or
        by an expression that is the number of the partition. `by_row` is another name of `by_rows`.
        """
        by_rows = by_rows or by_row
        ctx, inputs = self.session._ctx, (self.plan,)
        if sum(one is not None for one in (hash_by, by)) + bool(by_rows) > 1:
            raise InvalidArgument("repartition: give only one of hash_by, by and by_rows")
        plan: Node
        if by is not None:
            plan = ShuffleNode(ctx, inputs, npartitions, data_partition_column=by, **kwargs)
        elif hash_by is not None:
            columns = [hash_by] if isinstance(hash_by, str) else list(hash_by)
            plan = HashPartitionNode(ctx, inputs, npartitions, columns, **kwargs)
        else:
            plan = EvenlyDistributedPartitionNode(
                ctx, inputs, npartitions, partition_by_rows=by_rows, **kwargs
            )
        return self._derived(plan)

    def random_shuffle(self, **kwargs: Any) -> DataFrame:
        """All rows in random order, in as many partitions as before."""
        from smallpond.logical.optimizer.lower import is_free, partition_count
        from smallpond.logical.relational import RandomOrderNode

        ctx = self.session._ctx
        count = partition_count(self.plan)
        if count == 1 and is_free(self.plan):
            return self._derived(RandomOrderNode(ctx, (self.plan,), **kwargs))
        dealt = HashPartitionNode(
            ctx, (self.plan,), count, random_shuffle=True, drop_partition_column=True, **kwargs
        )
        query = "select * from {0} order by random()"
        return self._derived(SqlEngineNode(ctx, (dealt,), query, **kwargs))

    def partial_sort(self, by: str | list[str], **kwargs: Any) -> DataFrame:
        """The rows of each partition in order; `sort` orders the whole table."""
        from smallpond.logical.optimizer.template import Sql

        columns = [by] if isinstance(by, str) else list(by)
        query = Sql.concat(
            "select * from ", Sql.input(0), " order by ", Sql.of_template(", ".join(columns))
        )
        return self._derived(
            SqlEngineNode(self.session._ctx, (self.plan,), query.render(), **kwargs)
        )

    def filter(self, sql_or_func: str | RowFunction, **kwargs: Any) -> DataFrame:
        """The rows for which a SQL expression, or a function of the row as a dict, is true."""
        from smallpond.dataframe.functions import RowFilter
        from smallpond.logical.relational import FilterNode

        if isinstance(sql_or_func, str):
            return self._derived(FilterNode(self.session._ctx, self.plan, sql_or_func, **kwargs))
        callee, kwargs = function_and_options(sql_or_func, kwargs)
        return self._rows(RowFilter(callee), kwargs)

    def map(
        self,
        sql_or_func: str | RowFunction,
        *,
        schema: arrow.Schema | None = None,
        **kwargs: Any,
    ) -> DataFrame:
        """Columns by SQL expressions, or a dict for each row by a function.

        `udfs=[...]` makes functions known to the SQL. A class given as the function is instantiated
        once per worker, with `fn_args` and `fn_kwargs`. `schema` is needed where the first row
        does not tell the types.
        """
        from smallpond.logical.relational import MapNode

        if isinstance(sql_or_func, str):
            return self._derived(MapNode(self.session._ctx, self.plan, sql_or_func, **kwargs))
        return self._mapped(sql_or_func, schema, kwargs, flat=False)

    def flat_map(
        self,
        sql_or_func: str | RowFunction,
        *,
        schema: arrow.Schema | None = None,
        **kwargs: Any,
    ) -> DataFrame:
        """Several rows for each row: by SQL with `unnest`, or a list of dicts by a function."""
        from smallpond.logical.relational import MapNode

        if isinstance(sql_or_func, str):
            return self._derived(MapNode(self.session._ctx, self.plan, sql_or_func, **kwargs))
        return self._mapped(sql_or_func, schema, kwargs, flat=True)

    def _mapped(
        self, func: RowFunction, schema: arrow.Schema | None, kwargs: dict[str, Any], flat: bool
    ) -> DataFrame:
        from smallpond.dataframe.functions import RowMap

        callee, kwargs = function_and_options(func, kwargs)
        frame = self._rows(RowMap(callee, schema, flat), kwargs, schema)
        node: Any = frame.plan
        # Then a limit may be taken before the function is called.
        node.is_one_to_one = not flat
        return frame

    def _rows(
        self, process: Any, options: dict[str, Any], schema: arrow.Schema | None = None
    ) -> DataFrame:
        node = ArrowBatchNode(self.session._ctx, (self.plan,), process_func=process, **options)
        mark(node, options, is_row_function=True)
        if schema is not None:
            declare(node, schema)
        return self._derived(node)

    def map_batches(
        self,
        func: Callable[[Any], Any],
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        batch_format: str = "arrow",
        schema: arrow.Schema | None = None,
        **kwargs: Any,
    ) -> DataFrame:
        """A table for each batch of `batch_size` rows; a class is instantiated once per worker.

        `batch_format` is "arrow" or "pandas".
        """
        from smallpond.dataframe.functions import BatchMap

        kinds = {"arrow": ArrowBatchNode, "pandas": PandasBatchNode}
        if batch_format not in kinds:
            raise InvalidArgument(f"batch_format={batch_format!r}: choose 'arrow' or 'pandas'")
        callee, options = function_and_options(func, kwargs)
        node = kinds[batch_format](
            self.session._ctx,
            (self.plan,),
            process_func=BatchMap(callee),
            streaming_batch_size=batch_size,
            **options,
        )
        mark(node, options, is_row_function=False)
        if schema is not None:
            declare(node, schema)
        return self._derived(node)

    def limit(self, limit: int) -> DataFrame:
        """At most so many rows; what is not needed for them is not computed."""
        if limit < 0:
            raise InvalidArgument(f"limit {limit} is negative")
        return self._derived(LimitNode(self.session._ctx, self.plan, limit))


def function_and_options(func: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What to call, and the options that are the node's."""
    from smallpond.dataframe.functions import callee_of

    options = dict(kwargs)
    args: Iterable[Any] | None = options.pop("fn_args", None)
    named: dict[str, Any] | None = options.pop("fn_kwargs", None)
    return callee_of(func, args, named), options


def mark(node: Any, options: dict[str, Any], is_row_function: bool) -> None:
    """Tell the optimiser what it may do with a node of Python code."""
    node.is_row_function = is_row_function
    node.options = options


def declare(node: Any, schema: arrow.Schema) -> None:
    """The schema that the user promises for the output of Python code."""
    from smallpond.logical.optimizer.schema import schema_of_arrow

    node.declared_schema = schema_of_arrow(schema)
