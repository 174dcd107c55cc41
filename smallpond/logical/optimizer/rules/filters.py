"""Filters move towards the sources: fewer rows are sorted, joined, grouped and sent.

A conjunct passes an operation when every column it reads comes unchanged from below, and dropping
rows there drops exactly the same rows above: through sorts, unions and exchanges by key, into the
preserved sides of joins, and below an aggregate when it reads only keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from smallpond.logical.node import HashPartitionNode, Node
from smallpond.logical.optimizer.graph import fresh
from smallpond.logical.optimizer.schema import SchemaFinder
from smallpond.logical.optimizer.syntax import (
    Tree,
    column_names,
    conjuncts,
    expression_text,
    function_name,
    is_volatile,
    trees_inside,
)
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational import (
    AggregateNode,
    DistinctNode,
    FilterNode,
    JoinNode,
    SortNode,
    UnionAllNode,
)

# Sides of a join whose rows may be dropped before it, by kind.
LEFT_KEPT = ("inner", "left", "semi", "anti", "cross", "asof")
RIGHT_KEPT = ("inner", "right", "cross")


class FilterRule:
    """Moves the conjuncts of filters below what they stand on."""

    def __init__(self, schemas: SchemaFinder, notes: list[str]) -> None:
        self.schemas = schemas
        self.notes = notes

    def applied(self, node: Node) -> Node:
        """The node, or its rows by a better plan. The caller made sure that nobody else reads
        the filter's input."""
        if not isinstance(node, FilterNode) or node.predicate.placeholders():
            return node
        if node.udfs or node.output_name is not None or node.predicate.inputs():
            return node
        below = node.input_deps[0]
        if below.output_name is not None:
            return node
        if isinstance(below, SortNode) and below.limit is None:
            return self.passed(node, below, [0])
        if isinstance(below, DistinctNode) and not below.columns:
            return self.passed(node, below, [0])
        if isinstance(below, UnionAllNode) and self.same_names(below):
            return self.passed(node, below, range(len(below.input_deps)))
        if isinstance(below, HashPartitionNode) and not below.random_shuffle:
            name = below.data_partition_column.lower()
            read = column_names(conjuncts(node.predicate.text([])))
            if read is not None and name not in {one.lower() for one in read}:
                return self.passed(node, below, range(len(below.input_deps)))
            return node
        if isinstance(below, JoinNode):
            return self.through_join(node, below)
        if isinstance(below, AggregateNode) and below.keys:
            return self.through_aggregate(node, below)
        return node

    def passed(self, node: FilterNode, below: Node, sides: Sequence[int]) -> Node:
        """The whole filter goes below, to the given inputs."""
        if not is_movable(conjuncts(node.predicate.text([]))):
            return node
        self.notes.append(f"predicate push-down: {node!r} below {below!r}")
        inputs = [
            self.filtered(node, dep, node.predicate) if index in sides else dep
            for index, dep in enumerate(below.input_deps)
        ]
        return fresh(below, inputs)

    def filtered(self, node: FilterNode, dep: Node, predicate: Sql) -> Node:
        new = FilterNode(node.ctx, dep, predicate.render(), **node.options)
        new.location = node.location
        return self.applied(new)

    def same_names(self, node: UnionAllNode) -> bool:
        """By position, an input's own names may differ from those that the filter reads."""
        schemas = [self.schemas.of(dep) for dep in node.input_deps]
        if any(schema is None for schema in schemas):
            return False
        named = [[(n.lower(), kind) for n, kind in schema or ()] for schema in schemas]
        if node.by_name:
            named = [sorted(one) for one in named]
        return all(one == named[0] for one in named)

    def through_join(self, node: FilterNode, join: JoinNode) -> Node:
        """Each conjunct to the side whose columns it reads."""
        parts: dict[int, list[Tree]] = {0: [], 1: []}
        kept: list[Tree] = []
        for tree in conjuncts(node.predicate.text([])):
            side = self.join_side(tree, join)
            (kept if side is None else parts[side]).append(tree)
        if not parts[0] and not parts[1]:
            return node
        self.notes.append(f"predicate push-down: {node!r} below {join!r}")
        inputs = []
        for side, dep in enumerate(join.input_deps):
            trees = [self.renamed(tree, join, side) for tree in parts[side]]
            inputs.append(self.filtered(node, dep, anded(trees)) if trees else dep)
        new: Node = fresh(join, inputs)
        if kept:
            new = FilterNode(node.ctx, new, anded(kept).render(), **node.options)
            new.location = node.location
        return new

    def join_side(self, tree: Tree, join: JoinNode) -> int | None:
        """The side to which a conjunct belongs; None when it must stay above."""
        names = column_names(tree)
        if not names or not is_movable([tree]):
            return None
        columns = {column.alias.lower(): column for column in join.columns}
        if any(name.lower() not in columns for name in names) or has_qualifier(tree):
            return None
        sides = {columns[name.lower()].side for name in names}
        how = join.spec.how
        if sides <= {"l", "both"} and how in LEFT_KEPT:
            return 0
        if sides <= {"r", "both"} and how in RIGHT_KEPT:
            return 1
        return None

    def renamed(self, tree: Tree, join: JoinNode, side: int) -> Tree:
        """A conjunct in the names of one side."""
        columns = {column.alias.lower(): column for column in join.columns}

        def changed(value: object) -> object:
            if isinstance(value, list):
                return [changed(one) for one in value]
            if not isinstance(value, dict):
                return value
            if value.get("class") == "COLUMN_REF":
                column = columns[value["column_names"][0].lower()]
                name = column.name
                if side == 1 and column.side == "both":
                    name = column.right_name
                return {**value, "column_names": [name]}
            return {key: changed(child) for key, child in value.items()}

        result = changed(tree)
        assert isinstance(result, dict)
        return result

    def through_aggregate(self, node: FilterNode, below: AggregateNode) -> Node:
        """A filter on plain key columns drops whole groups, so it may drop their rows."""
        plain = {key.strip().strip('"').lower() for key in below.keys if is_name(key)}
        trees = conjuncts(node.predicate.text([]))
        moved: list[Tree] = []
        kept: list[Tree] = []
        for tree in trees:
            names = column_names(tree)
            inside = bool(names) and {name.lower() for name in names or ()} <= plain
            movable = inside and is_movable([tree]) and not has_qualifier(tree)
            (moved if movable else kept).append(tree)
        if not moved:
            return node
        self.notes.append(f"predicate push-down: {node!r} below {below!r}")
        new: Node = fresh(below, [self.filtered(node, below.input_deps[0], anded(moved))])
        if kept:
            new = FilterNode(node.ctx, new, anded(kept).render(), **node.options)
            new.location = node.location
        return new


def anded(trees: Sequence[Tree]) -> Sql:
    """The conjunction of predicates."""
    return Sql.literal(" and ".join(expression_text(tree) for tree in trees))


def is_name(key: str) -> bool:
    text = key.strip()
    return text.isidentifier() or (text[:1] == text[-1:] == '"' and '"' not in text[1:-1])


def is_movable(trees: Sequence[Tree]) -> bool:
    """Predicates of columns alone: nothing by chance, nothing that reads other tables."""
    if not trees:
        return False
    for tree in trees:
        if column_names(tree) is None:
            return False
        if any(function_name(one) == "error" for one in trees_inside(tree)):
            return False
        if is_volatile(f"select {expression_text(tree)}"):
            return False
    return True


def has_qualifier(tree: Tree) -> bool:
    """Whether a column is written `a.b`, which may be a field or a table's column."""
    return any(
        one.get("class") == "COLUMN_REF" and len(one["column_names"]) > 1
        for one in trees_inside(tree)
    )
