"""A query in the making over inputs that will be tasks: the unit that fusion grows.

A stage has one query, its inputs (nodes ready for the planner) and the number of partitions it
runs on. Applying another row-wise or whole-table query composes the texts; `node()` ends the
stage as one `SqlEngineNode`, so a pipeline becomes as few tasks as its exchanges allow.

Invariants: `sql` refers to `inputs` by position; common table expressions are kept in order of
their dependencies; a stage without a query of its own is its only input.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from smallpond.common import MB
from smallpond.logical.node import ConsolidateNode, Node, SqlEngineNode
from smallpond.logical.optimizer.settings import OptimizerSettings
from smallpond.logical.optimizer.template import Input, Sql, subquery

IDENTITY = Sql.input(0)
# Memory of a task's process beside DuckDB's own.
PROCESS_BYTES = 320 * MB
KEEP_ORDER = "set preserve_insertion_order = true"


@dataclass(frozen=True)
class Stage:
    """Rows of one query on `count` partitions."""

    inputs: tuple[Node, ...]
    sql: Sql = IDENTITY
    count: int = 1
    free: bool = True
    """Whether the partitions are the optimiser's own and may be changed."""
    ordered: bool = True
    """Whether the order of rows means something."""
    shared: tuple[tuple[str, Sql], ...] = ()
    """Common table expressions."""
    udfs: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    origins: tuple[Node, ...] = ()
    """The user's nodes in this stage, inner first."""
    keys: tuple[str, ...] = ()
    """Columns by whose hash the rows are partitioned."""

    @property
    def is_plain(self) -> bool:
        """Whether the stage is its input as it stands."""
        return self.sql == IDENTITY and len(self.inputs) == 1

    def relation(self) -> Sql:
        """The stage as something that may stand after FROM."""
        return self.sql if self.is_plain else subquery(self.sql)

    def statement(self) -> Sql:
        """The whole query of the stage."""
        if not self.shared:
            return self.sql if not self.is_plain else Sql.concat("select * from ", self.sql)
        pieces: list[Sql | str] = ["with "]
        for index, (name, sql) in enumerate(self.shared):
            pieces += [",\n" if index else "", f"{name} as materialized ", subquery(sql)]
        pieces += ["\nselect * from ", subquery(self.sql)]
        return Sql.concat(*pieces)


def composed(
    query: Sql,
    stages: Sequence[Stage],
    origin: Node,
    *,
    udfs: Iterable[str] = (),
    options: dict[str, Any] | None = None,
    ordered: bool | None = None,
) -> Stage:
    """The stage of a query over stages; those of several partitions must be partitioned alike."""
    inputs: list[Node] = []
    shared: dict[str, Sql] = {}
    relations: list[Sql] = []
    for position, stage in enumerate(stages):
        places = [place_of(node, inputs) for node in stage.inputs]
        moved = [(name, moved_inputs(sql, places)) for name, sql in stage.shared]
        shared.update({name: sql for name, sql in moved if name not in shared})
        sql = moved_inputs(stage.relation(), places)
        if not stage.is_plain and needs_name(query, position):
            name = f"input_{origin.id}_{position}"
            shared[name] = Sql.concat("select * from ", sql)
            sql = Sql.literal(name)
        relations.append(sql)
    largest = max(stages, key=lambda stage: stage.count, default=None)
    return Stage(
        inputs=tuple(inputs),
        sql=query.substituted(lambda index: relations[index]),
        count=largest.count if largest else 1,
        free=all(stage.free for stage in stages),
        ordered=all(stage.ordered for stage in stages) if ordered is None else ordered,
        shared=tuple(shared.items()),
        udfs=unique(name for stage in stages for name in stage.udfs) + unique(udfs),
        options=merged_options([stage.options for stage in stages] + [options or {}]),
        origins=(*(node for stage in stages for node in stage.origins), origin),
        keys=(),
    )


def moved_inputs(sql: Sql, places: Sequence[int]) -> Sql:
    """The query with its inputs at other positions."""
    return sql.substituted(lambda index: Sql.input(places[index]))


def place_of(node: Node, inputs: list[Node]) -> int:
    """The position of a node among the inputs; a new one goes to the end."""
    for index, other in enumerate(inputs):
        if other is node:
            return index
    inputs.append(node)
    return len(inputs) - 1


def needs_name(query: Sql, index: int) -> bool:
    """Whether the query uses this input twice or as a qualifier, `{0}.column`."""
    uses = 0
    for position, part in enumerate(query.parts):
        if isinstance(part, Input) and part.index == index:
            uses += 1
            following = query.parts[position + 1 : position + 2]
            if following and isinstance(following[0], str) and following[0].startswith("."):
                return True
    return uses > 1


def unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def merged_options(given: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Options of fused nodes: the largest limits, otherwise those of the outermost."""
    result: dict[str, Any] = {}
    for options in given:
        for name, value in options.items():
            if name in ("cpu_limit", "memory_limit", "gpu_limit") and name in result:
                result[name] = max(result[name], value)
            else:
                result[name] = value
    return result


def ended(stage: Stage, settings: OptimizerSettings) -> Node:
    """The stage as one node for the planner."""
    if stage.is_plain and not stage.options:
        return stage.inputs[0]
    origin = stage.origins[-1] if stage.origins else stage.inputs[0]
    options = dict(stage.options)
    if "cpu_limit" not in options:
        options["cpu_limit"] = max(1, settings.cpus // stage.count)
        if stage.udfs and SqlEngineNode.max_udf_cpu_limit is not None:
            options["cpu_limit"] = min(options["cpu_limit"], SqlEngineNode.max_udf_cpu_limit)
    if "memory_limit" not in options and stage.count == 1 and settings.machines == 1:
        options["memory_limit"] = settings.memory_bytes
        options.setdefault("memory_overcommit_ratio", duckdb_share(settings.memory_bytes))
    options.setdefault("per_thread_output", not stage.ordered)
    query = stage.statement().render()
    # The task's connection forgets the order of rows unless it is told to keep it.
    queries = [KEEP_ORDER, query] if stage.ordered else query
    kind: Any = SqlEngineNode
    if "file_format" in options:
        from smallpond.logical.relational.write import FileWriteNode as kind
    node: Node = kind(origin.ctx, stage.inputs, queries, udfs=list(stage.udfs) or None, **options)
    node.location = origin.location
    return node


def duckdb_share(memory_bytes: int) -> float:
    """The share of a task's memory that DuckDB's own limit may be.

    The rest is for what DuckDB does not count, such as the buffers of files, and for Python.
    """
    return round(max(0.5, min(0.9, 1 - PROCESS_BYTES / memory_bytes)), 3)


def plain(node: Node, count: int = 1, *, free: bool = True, ordered: bool = True) -> Stage:
    """The output of a finished node."""
    return Stage((node,), count=count, free=free, ordered=ordered, origins=(node,))


def cut(stage: Stage, settings: OptimizerSettings) -> Stage:
    """The same rows, written once by tasks of their own."""
    if stage.is_plain:
        return stage
    return replace(
        plain(ended(stage, settings)),
        count=stage.count,
        free=stage.free,
        ordered=stage.ordered,
        keys=stage.keys,
    )


def gathered(stage: Stage, settings: OptimizerSettings) -> Stage:
    """The same rows in one partition; only file names move."""
    if stage.count == 1:
        return stage
    node = ended(stage, settings)
    one = ConsolidateNode(node.ctx, node, [])
    one.location = node.location
    return plain(one, ordered=stage.ordered)
