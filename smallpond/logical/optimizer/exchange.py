"""Lowering to exchanges: the same operations spread over tasks and machines.

Rows of a free source are dealt to partitions by ranges of rows. An operation that needs equal keys
in one place reads an exchange by those keys; partial aggregates, filters and projections run
inside the producers, so that only what is needed travels. Partition counts come from bytes.

Invariant: every operation here gives the same bag of rows as `Lowering.relational`, and the same
order where a sort defines one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from smallpond.logical.node import (
    ConsolidateNode,
    DataSourceNode,
    EvenlyDistributedPartitionNode,
    ExchangeNode,
    Node,
    UnionNode,
)
from smallpond.logical.optimizer.aggregate import two_phase
from smallpond.logical.optimizer.exchange_join import ExchangeJoin
from smallpond.logical.optimizer.lower import Lowering
from smallpond.logical.optimizer.ranges import range_exchange
from smallpond.logical.optimizer.stage import Stage, composed, ended, gathered, plain
from smallpond.logical.optimizer.syntax import (
    expression_text,
    is_rowwise,
    quoted,
    select_list,
)
from smallpond.logical.optimizer.template import Sql, parse_text
from smallpond.logical.relational import (
    AggregateNode,
    DistinctNode,
    JoinNode,
    RandomOrderNode,
    RelationalNode,
    SampleNode,
    SelectNode,
    SortNode,
    UnionAllNode,
)


class ExchangeLowering(Lowering):
    """Lowers relational nodes to stages between exchanges."""

    def partitions(self, node: Node, given: int | None = None) -> int:
        """How many partitions the rows of a node should have."""
        if given is not None:
            return given
        if self.settings.npartitions is not None:
            return self.settings.npartitions
        size = self.statistics.of(node).bytes
        cores = self.settings.cpus * self.settings.machines
        wanted = math.ceil(size / self.settings.exchange_rows_bytes)
        return max(1, min(max(wanted, min(cores, math.ceil(size / 2**20))), 4096))

    def source(self, node: DataSourceNode) -> Stage:
        """A source dealt to partitions by ranges of rows."""
        if node.dataset.read_by_python:
            return super().source(node)
        count = self.partitions(node)
        if count == 1:
            return plain(node)
        by_rows = hasattr(node.dataset, "partition_by_rows")
        if not by_rows:
            count = min(count, max(1, node.dataset.num_files))
        if count == 1:
            return plain(node)
        split = EvenlyDistributedPartitionNode(node.ctx, (node,), count, partition_by_rows=by_rows)
        split.location = node.location
        self.notes.append(f"scan: {node!r} is read as {count} partitions")
        return plain(split, count)

    def batchable(self, stage: Stage) -> Stage:
        """Batches of each partition: in one task, Python code would hold all others up."""
        return stage

    def relational(self, node: RelationalNode) -> Stage:
        """Dispatch by the kind of operation."""
        stages = [self.stage(dep) for dep in node.input_deps]
        if all(stage.count == 1 for stage in stages):
            return super().relational(node)
        if isinstance(node, SelectNode) and self.is_rowwise_select(node):
            return composed(node.query(), stages, node, udfs=node.udfs, options=node.options)
        if isinstance(node, AggregateNode):
            return self.aggregate(node, stages[0])
        if isinstance(node, DistinctNode):
            return self.distinct(node, stages[0])
        if isinstance(node, SortNode):
            return self.sort(node, stages[0])
        if isinstance(node, JoinNode):
            return ExchangeJoin(self, node, stages[0], stages[1]).lowered()
        if isinstance(node, UnionAllNode):
            return self.union(node, stages)
        if isinstance(node, SampleNode):
            return self.sample(node, stages[0])
        if isinstance(node, RandomOrderNode):
            return self.random_order(node, stages[0])
        return super().relational(node)

    def hashed(self, stage: Stage, keys: Sequence[str], count: int, node: Node) -> Stage:
        """The rows of a stage where equal keys share a partition; its query runs in producers."""
        exchange = ExchangeNode(
            node.ctx,
            stage.inputs,
            count,
            keys=list(keys),
            query=None if stage.is_plain else stage.statement().render(),
            udfs=list(stage.udfs),
        )
        exchange.location = node.location
        return replace(
            plain(exchange, count, ordered=False), keys=tuple(keys), origins=(*stage.origins, node)
        )

    def fusable_producer(self, stage: Stage) -> Stage:
        """A stage that an exchange's producers may run: over one partitioned input alone."""
        if len(stage.inputs) == 1:
            return stage
        node = ended(stage, self.settings)
        return replace(plain(node, stage.count, ordered=stage.ordered), free=stage.free)

    def aggregate(self, node: AggregateNode, stage: Stage) -> Stage:
        """Partial aggregates where the rows are, the rest where equal keys meet."""
        schema = self.schemas.of(node.input_deps[0])
        phases = two_phase(node, schema, [node.ctx.udfs[name] for name in node.udfs])
        if phases is None:
            return self.aggregate_whole(node, stage)
        self.notes.append(f"two-phase aggregation: {node!r}")
        partial = composed(phases.partial, [stage], node, udfs=node.udfs, ordered=False)
        if not node.keys:
            met = gathered(partial, self.settings)
        else:
            count = self.partitions(node, node.npartitions)
            met = self.hashed(self.fusable_producer(partial), phases.keys, count, node)
        return composed(
            phases.final, [met], node, udfs=node.udfs, options=node.options, ordered=False
        )

    def aggregate_whole(self, node: AggregateNode, stage: Stage) -> Stage:
        """Rows meet by their keys and are aggregated there."""
        trees = select_list(", ".join(node.keys)) if node.keys else None
        if not trees:
            return super().relational(node)
        keys = [expression_text(tree) for tree in trees]
        count = self.partitions(node.input_deps[0], node.npartitions)
        met = self.hashed(self.fusable_producer(stage), keys, count, node)
        return composed(
            node.query(), [met], node, udfs=node.udfs, options=node.options, ordered=False
        )

    def distinct(self, node: DistinctNode, stage: Stage) -> Stage:
        """Duplicates go first where the rows are, then where equal rows meet."""
        schema = self.schemas.of(node.input_deps[0])
        if schema is None and not node.columns:
            return super().relational(node)
        keys = list(node.columns) or [quoted(name) for name, _ in schema or ()]
        partial = composed(node.query(), [stage], node, ordered=False)
        count = self.partitions(node, node.npartitions)
        met = self.hashed(self.fusable_producer(partial), keys, count, node)
        return composed(node.query(), [met], node, options=node.options, ordered=False)

    def sort(self, node: SortNode, stage: Stage) -> Stage:
        """Ranges of the order to partitions, each sorted; or first rows of first rows."""
        if node.limit is not None:
            partial = composed(node.query(), [stage], node, ordered=True)
            met = gathered(partial, self.settings)
            return composed(node.query(), [met], node, options=node.options, ordered=True)
        count = self.partitions(node.input_deps[0], node.npartitions)
        if count == 1:
            return super().relational(node)
        self.notes.append(f"global sort: {node!r} by {count} sampled ranges")
        ranged = range_exchange(stage, node, node.keys, count, self.settings)
        return composed(node.query(), [ranged], node, options=node.options, ordered=True)

    def union(self, node: UnionAllNode, stages: Sequence[Stage]) -> Stage:
        """The partitions of all inputs, each with the columns of the result."""
        schema = self.schemas.of(node)
        inputs = [self.schemas.of(dep) for dep in node.input_deps]
        if schema is None or any(one is None for one in inputs):
            return super().relational(node)
        ends: list[Node] = []
        for stage, columns in zip(stages, inputs, strict=True):
            assert columns is not None
            aligned = composed(union_columns(node, schema, columns), [stage], node)
            ends.append(ended(gathered(aligned, self.settings), self.settings))
        united = UnionNode(node.ctx, tuple(ends))
        count = sum(stage.count for stage in stages)
        split = EvenlyDistributedPartitionNode(node.ctx, (united,), count, partition_by_rows=True)
        united.location = split.location = node.location
        return replace(plain(split, count), ordered=all(stage.ordered for stage in stages))

    def sample(self, node: SampleNode, stage: Stage) -> Stage:
        """By chance in each partition; a number of rows is drawn from those drawn."""
        if node.seed is not None:
            return super().relational(node)
        partial = composed(node.query(), [stage], node)
        if node.fraction is not None:
            return partial
        if node.rows:
            # A sample of samples would favour rows of small partitions.
            return super().relational(node)
        return composed(node.query(), [gathered(partial, self.settings)], node)

    def random_order(self, node: RandomOrderNode, stage: Stage) -> Stage:
        """Rows dealt at random, then a random order in each partition."""
        count = self.partitions(node.input_deps[0], node.npartitions)
        met = self.hashed(self.fusable_producer(stage), [], count, node)
        return composed(node.query(), [met], node, options=node.options, ordered=False)

    def is_rowwise_select(self, node: SelectNode) -> bool:
        return is_rowwise(parse_text(node.query()))


def consolidated(node: Node) -> ConsolidateNode:
    """All partitions of a node as one."""
    one = ConsolidateNode(node.ctx, node, [])
    one.location = node.location
    return one


def union_columns(
    node: UnionAllNode, schema: Sequence[tuple[str, str]], columns: Sequence[tuple[str, str]]
) -> Sql:
    """A query that gives one input the columns and types of the union."""
    own = {name.lower(): name for name, _ in columns}
    pieces = []
    for index, (name, kind) in enumerate(schema):
        source = own.get(name.lower()) if node.by_name else columns[index][0]
        value = quoted(source) if source is not None else "null"
        pieces.append(f"{value}::{kind} as {quoted(name)}")
    return Sql.concat(f"select {', '.join(pieces)}\nfrom ", Sql.input(0))
