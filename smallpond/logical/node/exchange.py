"""The engine's own shuffle: what joins, aggregations and sorts over several tasks are lowered to.

    ExchangeNode(
        ctx,
        (input, ...),              # their partitions are united and dealt to producers
        npartitions,
        *,
        keys=["a", "lower(b)"],    # SQL expressions over the producers' output: hash partition
        order_by=["a DESC NULLS LAST", "b"],   # or: range partition on this order ...
        split_points=node,         # ... between the rows of this node (see below)
        query="select a, b, sum(c) as c from {0} group by all",  # runs inside each producer
        columns=["a", "b", "c"],   # what travels, after `query`; None: all of it
        udfs=[...],                # names in ctx.udfs or decorated functions, for query and keys
        dimension=None, nested=False, cpu_limit=1, memory_limit=None,
    )

Exactly one of `keys` (hash), `order_by` (range) and `partition_by` (an SQL integer in
[0, npartitions)) is given; `keys=[]` deals rows at random. Each producer runs `query` (a filter, a
projection, a partial aggregation) in DuckDB, streams its result, and writes ONE file that holds all
partitions; a consumer reads its own ranges. Equal keys of different numeric types meet, NULL is a
key, so both sides of a join may be given their own spelling of the same key. `query` may hold the
placeholders of `SqlEngineNode`; in `keys`, `order_by` and `partition_by` braces mean nothing.

Range partition: partition i holds the rows between split points i-1 and i, in the order of
`order_by`; rows that compare equal are never divided. `split_points` is a node with ONE partition
whose rows are sort keys in a column `sort_key`, made with `smallpond.execution.shuffle.ranges`:

    sample = SqlEngineNode(ctx, (data,), sort_key_sample_query(order_by, rows=...))
    merged = ConsolidateNode(ctx, sample, [])
    splits = SqlEngineNode(ctx, (merged,), split_points_query(npartitions))
    ExchangeNode(ctx, (data,), npartitions, order_by=order_by, split_points=splits)

With fewer distinct split points than npartitions - 1 the last partitions are empty. When `query`
is given, the sample must be taken from the same query's result.

The number of producers comes from the machine's (or the cluster's) cores; set
`node.max_num_producer_tasks` on the instance to have fewer, for instance 1 for small inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.exchange import ExchangeTask
from smallpond.logical.node.base import Node
from smallpond.logical.node.partition import PartitionNode
from smallpond.logical.node.sql_engine import registered_udfs

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo
    from smallpond.logical.node.context import Context
    from smallpond.logical.udf import UserDefinedFunction


class ExchangeNode(PartitionNode):
    """Redistribute rows between tasks; see the head of this file."""

    default_cpu_limit = 1
    max_num_producer_tasks = 1000
    producers_share_files = True
    enable_resource_boost = True

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        npartitions: int,
        *,
        keys: Sequence[str] | None = None,
        order_by: Sequence[str] | None = None,
        split_points: Node | None = None,
        partition_by: str | None = None,
        query: str | None = None,
        columns: Sequence[str] | None = None,
        udfs: Sequence[str | UserDefinedFunction] = (),
        dimension: str | None = None,
        nested: bool = False,
        cpu_limit: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        """Make the node; the arguments are explained at the head of this file."""
        kinds = {"keys": keys, "order_by": order_by, "partition_by": partition_by}
        given = [name for name, value in kinds.items() if value is not None]
        assert len(given) == 1, f"give exactly one of keys, order_by and partition_by, not {given}"
        assert (order_by is None) == (split_points is None), "order_by goes with split_points"
        inputs = [*input_deps] if split_points is None else [*input_deps, split_points]
        super().__init__(
            ctx,
            inputs,
            npartitions,
            dimension,
            nested,
            cpu_limit=cpu_limit or self.default_cpu_limit,
            memory_limit=memory_limit,
        )
        self.keys = None if keys is None else list(keys)
        self.order_by = None if order_by is None else list(order_by)
        self.partition_by = partition_by
        self.query = query
        self.columns = None if columns is None else list(columns)
        self.udfs = registered_udfs(ctx, udfs)

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", keys={self.keys}, order_by={self.order_by}, partition_by={self.partition_by}, "
            + f"query=<{self.query}>, columns={self.columns}"
        )

    @property
    def data_deps(self) -> list[Node]:
        """The inputs whose rows travel: all but the split points."""
        return list(self.input_deps if self.order_by is None else self.input_deps[:-1])

    @property
    def split_points(self) -> Node | None:
        """The input whose rows are the split points."""
        return None if self.order_by is None else self.input_deps[-1]

    @Node.task_factory
    def create_producer_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> ExchangeTask:
        return ExchangeTask(
            runtime_ctx,
            input_deps,
            partition_infos,
            self.npartitions,
            self.dimension,
            keys=self.keys,
            order_by=self.order_by,
            partition_by=self.partition_by,
            query=self.query,
            columns=self.columns,
            udfs=[self.ctx.udfs[name] for name in self.udfs],
            cpu_limit=self.cpu_limit,
            memory_limit=self.memory_limit,
        )
