"""From logical nodes to nodes that the planner knows, fused into as few tasks as possible.

On one machine a whole relational pipeline becomes one query of one task with all cores: DuckDB's
own optimiser and spilling then work on all of it. Cuts remain where Python code runs, where the
user fixed partitions or named an output, and where the same rows are read by several tasks. With
several machines, or far more data than DuckDB spills well, `Exchanges` splits the work instead.

Invariant: a global limit or aggregate is never fused with what follows on several partitions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from smallpond.logical.dataset import ParquetDataSet
from smallpond.logical.node import (
    ArrowComputeNode,
    ArrowStreamNode,
    ConsolidateNode,
    DataSinkNode,
    DataSourceNode,
    EvenlyDistributedPartitionNode,
    LimitNode,
    Node,
    PartitionNode,
    SqlEngineNode,
    UnionNode,
)
from smallpond.logical.optimizer.graph import nodes_of, users_of
from smallpond.logical.optimizer.schema import SchemaFinder
from smallpond.logical.optimizer.settings import OptimizerSettings
from smallpond.logical.optimizer.stage import (
    Stage,
    composed,
    cut,
    ended,
    gathered,
    plain,
)
from smallpond.logical.optimizer.statistics import Statistics
from smallpond.logical.optimizer.syntax import is_rowwise, query_tree
from smallpond.logical.optimizer.template import Sql, parse_text
from smallpond.logical.relational import (
    AggregateNode,
    DistinctNode,
    FilterNode,
    JoinNode,
    MapNode,
    RandomOrderNode,
    RelationalNode,
    SortNode,
)
from smallpond.logical.relational.write import FileWriteNode

# Files differ in size, so there are more tasks than cores.
FILE_TASKS_PER_CORE = 4
UNORDERED = (AggregateNode, DistinctNode, JoinNode, RandomOrderNode)
# Options of a SQL node that other queries may share a task with.
FUSABLE_DEFAULTS = {
    "materialize_output": True,
    "materialize_in_memory": False,
    "batched_processing": False,
    "enable_temp_directory": False,
    "cpu_overcommit_ratio": 1.0,
    "memory_overcommit_ratio": 0.9,
}


class Lowering:
    """Lowers the nodes of one plan; each node once."""

    def __init__(
        self,
        settings: OptimizerSettings,
        statistics: Statistics,
        schemas: SchemaFinder,
        finished: Callable[[Node], Node | None],
        roots: Sequence[Node],
        notes: list[str],
    ) -> None:
        """`finished` gives the node that already holds the result of another."""
        self.settings = settings
        self.statistics = statistics
        self.schemas = schemas
        self.finished = finished
        self.notes = notes
        self.stages: dict[int, Stage] = {}
        self.users = users_of(roots, lambda node: finished(node) is not None)
        self.cuts = shared_cuts(roots, self.users, lambda node: finished(node) is not None)
        self.names = count(1)

    def node(self, node: Node) -> Node:
        """The node that the planner runs for this one."""
        return ended(self.stage(node), self.settings)

    def stage(self, node: Node) -> Stage:
        """The stage that gives the rows of a node."""
        if id(node) not in self.stages:
            done = self.finished(node)
            if done is not None:
                self.stages[id(node)] = plain(done, partition_count(done), free=is_free(node))
            else:
                stage = self.lowered(node)
                if node.output_name is not None:
                    stage = cut(stage, self.settings)
                self.stages[id(node)] = self.shared(node, stage)
        return self.stages[id(node)]

    def lowered(self, node: Node) -> Stage:
        if isinstance(node, RelationalNode):
            return self.relational(node)
        if isinstance(node, LimitNode):
            return self.limit(node)
        if isinstance(node, FileWriteNode):
            stage = self.stage(node.input_deps[0])
            query = Sql.concat("select * from ", Sql.input(0))
            options = {"file_format": node.file_format}
            return cut(composed(query, [stage], node, options=options), self.settings)
        if isinstance(node, SqlEngineNode):
            return self.sql(node)
        if isinstance(node, DataSourceNode):
            return self.source(node)
        return self.other(node)

    def source(self, node: DataSourceNode) -> Stage:
        """A source as it is; what one core reads, as tasks over some of its files each."""
        cores = self.settings.cpus * self.settings.machines
        if not node.dataset.read_by_python or cores < 2:
            return plain(node)
        count = min(node.dataset.num_files, FILE_TASKS_PER_CORE * cores)
        if count < 2:
            return plain(node)
        split = EvenlyDistributedPartitionNode(node.ctx, (node,), count)
        split.location = node.location
        self.notes.append(f"scan: {node!r} is read by {count} tasks")
        return composed(Sql.concat("select * from ", Sql.input(0)), [plain(split, count)], node)

    def shared(self, node: Node, stage: Stage) -> Stage:
        """Rows that several nodes read are made once: in one task by name, else by a cut."""
        if stage.is_plain or len(self.users[id(node)]) < 2:
            return stage
        self.notes.append(f"common sub-plan: {node!r} is evaluated once for its consumers")
        if id(node) in self.cuts or stage.count > 1:
            return cut(stage, self.settings)
        name = f"common_{next(self.names)}"
        return replace(
            stage,
            sql=Sql.concat(f"select * from {name}"),
            shared=(*stage.shared, (name, stage.sql)),
        )

    def relational(self, node: RelationalNode) -> Stage:
        """The operation over whole inputs in one task."""
        stages = [gathered(self.stage(dep), self.settings) for dep in node.input_deps]
        ordered = isinstance(node, SortNode) or (False if isinstance(node, UNORDERED) else None)
        return composed(
            node.query(), stages, node, udfs=node.udfs, options=node.options, ordered=ordered
        )

    def limit(self, node: LimitNode) -> Stage:
        """First rows of each partition, then of all of them."""
        child = self.stage(node.input_deps[0])
        query = Sql.concat("select * from ", Sql.input(0), f"\nlimit {node.limit}")
        if child.count == 1:
            return composed(query, [child], node)
        partial = composed(query, [child], node)
        return composed(query, [gathered(partial, self.settings)], node)

    def sql(self, node: SqlEngineNode) -> Stage:
        """A query of the published kind: fused with its inputs when nothing speaks against it."""
        stages = [self.stage(dep) for dep in node.input_deps]
        text = Sql.of_template(node.sql_queries[-1])
        known = type(node) in (SqlEngineNode, FilterNode, MapNode)
        single = known and len(node.sql_queries) == 1 and is_select(text)
        if any(stage.count > 1 and stage.free for stage in stages) and not (
            single and len(stages) == 1 and is_rowwise(parse_text(text))
        ):
            # What the optimiser alone divided is one table to the query.
            stages = [gathered(stage, self.settings) if stage.free else stage for stage in stages]
        if not (single and has_fusable_options(node)):
            return self.unfused(node, stages)
        if max((stage.count for stage in stages), default=1) > 1:
            # A query on one partition must not be evaluated again in each task of the others.
            stages = [cut(one, self.settings) if one.count == 1 else one for one in stages]
        return composed(text, stages, node, udfs=node.udfs, options=sql_options(node))

    def unfused(self, node: Node, stages: list[Stage]) -> Stage:
        """The node as it is over finished inputs."""
        new = copy.copy(node)
        new.input_deps = tuple(ended(stage, self.settings) for stage in stages)
        count = max((stage.count for stage in stages), default=1)
        return plain(new, count, free=all(one.free for one in stages) if stages else True)

    def other(self, node: Node) -> Stage:
        """Python code, partitions, sinks: the node over its lowered inputs."""
        by_files = isinstance(node, EvenlyDistributedPartitionNode) and not node.partition_by_rows
        stages = [self.files(dep) if by_files else self.stage(dep) for dep in node.input_deps]
        if getattr(node, "is_row_function", False) and len(stages) == 1:
            stages = [self.spread(stages[0], node)]
        elif isinstance(node, ArrowComputeNode | ArrowStreamNode):
            stages = [self.batchable(stage) for stage in stages]
        if isinstance(node, DataSinkNode) and node.type != "manifest":
            stages = [self.as_parquet(stage, node) for stage in stages]
        if isinstance(node, EvenlyDistributedPartitionNode) and node.partition_by_rows:
            stages = [self.as_divisible(stage, node) for stage in stages]
        lowered = self.unfused(node, stages)
        new = lowered.inputs[0]
        if isinstance(node, PartitionNode | ConsolidateNode | UnionNode):
            return plain(new, partition_count(new), free=False)
        return lowered

    def files(self, node: Node) -> Stage:
        """What is dealt by whole files: those of a source are its own."""
        if isinstance(node, DataSourceNode) and self.finished(node) is None:
            return plain(node)
        return self.stage(node)

    def batchable(self, stage: Stage) -> Stage:
        """What Python code gets in batches: all rows, if the user did not divide them."""
        return gathered(stage, self.settings) if stage.free else stage

    def as_parquet(self, stage: Stage, node: Node) -> Stage:
        """What a sink collects: Parquet files, also of tables in memory and of text files."""
        source = stage.inputs[0] if stage.is_plain else None
        # Dealing files to partitions changes no file.
        while isinstance(source, EvenlyDistributedPartitionNode | ConsolidateNode):
            source = source.input_deps[0]
        if isinstance(source, DataSourceNode):
            dataset = source.dataset
            if not isinstance(dataset, ParquetDataSet) or (dataset.paths and dataset.hive):
                return self.written(stage, node)
            if dataset.ignore_corrupt_files:
                # Which files are damaged shows when they are read.
                return self.written(stage, node)
        return stage

    def as_divisible(self, stage: Stage, node: Node) -> Stage:
        """What can be dealt by rows: text files have to be parsed first."""
        source = stage.inputs[0] if stage.is_plain else None
        if isinstance(source, DataSourceNode) and not hasattr(source.dataset, "partition_by_rows"):
            return self.written(stage, node)
        return stage

    def written(self, stage: Stage, node: Node) -> Stage:
        """The same rows as files of a task's own."""
        query = Sql.concat("select * from ", Sql.input(0))
        return cut(composed(query, [stage], node), self.settings)

    def spread(self, stage: Stage, node: Node) -> Stage:
        """Rows for a Python row function, split over the cores when there are many."""
        rows = self.statistics.of(node.input_deps[0]).rows
        cores = self.settings.cpus * self.settings.machines
        if stage.count > 1 or not stage.free or cores < 2 or rows < self.settings.python_rows_min:
            return stage
        if "cpu_limit" in getattr(node, "options", {}):
            return stage
        return scattered(self.as_divisible(stage, node), cores, self.settings)


def scattered(stage: Stage, count: int, settings: OptimizerSettings) -> Stage:
    """The rows in `count` partitions, in their order; only row ranges move."""
    node = ended(stage, settings)
    split = EvenlyDistributedPartitionNode(node.ctx, (node,), count, partition_by_rows=True)
    split.location = node.location
    return plain(split, count, ordered=stage.ordered)


def sql_options(node: SqlEngineNode) -> dict[str, object]:
    """The options that the user gave to a SQL node."""
    given = getattr(node, "options", None)
    if given is not None:
        return {name: value for name, value in given.items() if name != "udfs"}
    defaults = type(node)
    options: dict[str, object] = {}
    if node.cpu_limit != (defaults.default_cpu_limit or 1):
        options["cpu_limit"] = node.cpu_limit
    if node.memory_limit != defaults.default_memory_limit:
        options["memory_limit"] = node.memory_limit
    names = "output_name output_path parquet_row_group_size parquet_dictionary_encoding"
    for name in (*names.split(), "parquet_compression", "parquet_compression_level"):
        options[name] = getattr(node, name)
    return {name: value for name, value in options.items() if value is not None}


def has_fusable_options(node: SqlEngineNode) -> bool:
    return all(getattr(node, name, value) == value for name, value in FUSABLE_DEFAULTS.items())


def is_select(sql: Sql) -> bool:
    """Whether the query is one SELECT, which may stand in another's FROM."""
    return query_tree(parse_text(sql)) is not None


def partition_count(node: Node) -> int:
    """The number of partitions of a node that the planner runs."""
    if isinstance(node, PartitionNode):
        inner = partition_count(node.input_deps[0]) if node.nested else 1
        return node.npartitions * inner
    if isinstance(node, UnionNode):
        return sum(partition_count(dep) for dep in node.input_deps)
    if isinstance(node, ConsolidateNode) and node.dimensions != {"@toplevel@"}:
        return partition_count(node.input_deps[0])
    if isinstance(node, DataSourceNode | ConsolidateNode | RelationalNode):
        return 1
    return max((partition_count(dep) for dep in node.input_deps), default=1)


def is_free(node: Node) -> bool:
    """Whether the user left the partitions of this node to the optimiser."""
    if isinstance(node, RelationalNode | DataSourceNode | LimitNode):
        return True
    if isinstance(node, PartitionNode | ConsolidateNode | UnionNode):
        return False
    return all(is_free(dep) for dep in node.input_deps)


def shared_cuts(
    roots: Sequence[Node], users: dict[int, list[Node]], is_done: Callable[[Node], bool]
) -> set[int]:
    """The nodes, by `id(node)`, whose readers end up in different tasks.

    A reader's task is known by its heads: the nodes at which its query ends. A node that is read
    in one task alone can be a common table expression there.
    """
    heads: dict[int, set[int]] = {}
    cuts: set[int] = set()
    for node in reversed(nodes_of(roots, is_done)):
        found: set[int] = set()
        for user in users[id(node)]:
            if not isinstance(user, RelationalNode | SqlEngineNode):
                found.add(id(node))
            elif id(user) in cuts or user.output_name is not None:
                found.add(id(user))
            else:
                found |= heads[id(user)]
        if any(node is root for root in roots):
            found.add(id(node))
        if len(found) > 1:
            cuts.add(id(node))
        heads[id(node)] = found or {id(node)}
    return cuts
