"""Common sub-plans: equal operations over equal inputs become one node.

Two reads of the same files with the same filter are written twice by users all the time; as one
node they are evaluated once. Nodes with Python code or chance are never taken for equal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from smallpond.logical.node import DataSourceNode, LimitNode, Node, SqlEngineNode
from smallpond.logical.optimizer.graph import nodes_of, with_inputs
from smallpond.logical.optimizer.syntax import is_volatile
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational import RandomOrderNode, RelationalNode, SampleNode


def merged_common(
    roots: list[Node], notes: list[str], is_done: Callable[[Node], bool]
) -> list[Node]:
    """The roots of a plan in which equal nodes are the same node."""
    known: dict[Hashable, Node] = {}
    new: dict[int, Node] = {}
    for node in nodes_of(roots, is_done):
        if is_done(node):
            new[id(node)] = node
            continue
        inputs = [new[id(dep)] for dep in node.input_deps]
        rebuilt = with_inputs(node, inputs)
        key = node_key(rebuilt)
        if key is not None and key in known and known[key] is not rebuilt:
            notes.append(f"common sub-plan: {node!r} is {known[key]!r}")
            new[id(node)] = known[key]
            continue
        if key is not None:
            known[key] = rebuilt
        new[id(node)] = rebuilt
    return [new[id(root)] for root in roots]


def node_key(node: Node) -> Hashable | None:
    """Equal keys, equal rows; None: equal to nothing else."""
    if node.output_name is not None or node.output_path is not None:
        return None
    inputs = tuple(id(dep) for dep in node.input_deps)
    if isinstance(node, DataSourceNode):
        return source_key(node)
    if isinstance(node, SampleNode | RandomOrderNode):
        return None
    if isinstance(node, RelationalNode):
        parameters = node.parameters()
        if is_volatile_template(str(parameters)):
            return None
        options = tuple(sorted((name, repr(value)) for name, value in node.options.items()))
        return (type(node), inputs, parameters, tuple(node.udfs), options, node.npartitions)
    if isinstance(node, LimitNode):
        return None
    if isinstance(node, SqlEngineNode) and not node.udfs:
        queries = tuple(node.sql_queries)
        if any(is_volatile_template(query) for query in queries):
            return None
        options = tuple(
            (name, repr(value))
            for name, value in sorted(vars(node).items())
            if name.startswith(("parquet_", "cpu_", "memory_", "batched", "material", "enable_"))
        )
        return (type(node), inputs, queries, options)
    return None


def source_key(node: DataSourceNode) -> Hashable | None:
    dataset = node.dataset
    paths = getattr(dataset, "paths", None)
    if not paths or not type(dataset).__module__.startswith("smallpond."):
        return None
    if type(dataset).__name__ not in ("ParquetDataSet", "CsvDataSet", "JsonDataSet"):
        return None
    state = {
        name: repr(value)
        for name, value in vars(dataset).items()
        if not name.startswith(("_resolved", "_absolute", "_num"))
    }
    return (type(dataset), tuple(sorted(state.items())))


def is_volatile_template(template: str) -> bool:
    """Whether a query differs from one evaluation to the next, or between tasks."""
    sql = Sql.of_template(template)
    names = [f"t{index}" for index in range(max(sql.inputs(), default=0) + 1)]
    return bool(sql.placeholders()) or is_volatile(sql.text(names))
