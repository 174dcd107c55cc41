"""Partition pruning: files whose hive columns cannot satisfy a filter are not read.

DuckDB skips them too, but only after they were listed, dealt to tasks and counted; here they leave
the data set while planning, so that estimates and numbers of partitions are those of what is read.
"""

from __future__ import annotations

import copy

from smallpond.common import SmallpondError
from smallpond.logical.dataset import ParquetDataSet
from smallpond.logical.node import DataSourceNode, Node
from smallpond.logical.optimizer.graph import fresh
from smallpond.logical.optimizer.rules.filters import anded, has_qualifier, is_movable
from smallpond.logical.optimizer.syntax import column_names, conjuncts
from smallpond.logical.relational import FilterNode


def files_pruned(node: Node, notes: list[str]) -> Node:
    """The filter over those files that can have rows for it."""
    if not isinstance(node, FilterNode) or node.predicate.placeholders():
        return node
    source = node.input_deps[0]
    if not isinstance(source, DataSourceNode):
        return node
    dataset = source.dataset
    if not isinstance(dataset, ParquetDataSet):
        return node
    if not any("=" in path for path in dataset.resolved_paths[:1]) or not dataset.hive:
        return node
    partitioned = {name.lower() for name in dataset.hive.types}
    trees = [
        tree
        for tree in conjuncts(node.predicate.text([]))
        if is_movable([tree])
        and not has_qualifier(tree)
        and {name.lower() for name in column_names(tree) or ("",)} <= partitioned
    ]
    if not trees:
        return node
    try:
        kept = dataset.prune(anded(trees).render())
    except SmallpondError:
        return node
    if len(kept.resolved_paths) == len(dataset.resolved_paths) or not kept.resolved_paths:
        return node
    notes.append(
        f"partition pruning: {source!r} reads {len(kept.resolved_paths)} of "
        f"{len(dataset.resolved_paths)} files"
    )
    new_source = fresh(source, [])
    new_source.dataset = kept
    return fresh(copy.copy(node), [new_source])
