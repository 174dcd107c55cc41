"""Limits move towards the sources, so that work stops early.

A limit passes row-wise expressions, becomes part of a sort (first rows, not a full sort), and is
taken from each input of a union before it is taken from all.
"""

from __future__ import annotations

from smallpond.logical.node import LimitNode, Node
from smallpond.logical.optimizer.graph import fresh
from smallpond.logical.optimizer.syntax import function_name, is_rowwise, query_tree, trees_inside
from smallpond.logical.relational import SelectNode, SortNode, UnionAllNode


def limit_pushed(node: Node, notes: list[str]) -> Node:
    """The node, or an equal one whose limit stands lower."""
    if not isinstance(node, LimitNode) or node.output_name is not None:
        return node
    below = node.input_deps[0]
    if below.output_name is not None:
        return node
    if isinstance(below, LimitNode):
        return limited(node, below.input_deps[0], min(node.limit, below.limit))
    if isinstance(below, SortNode):
        notes.append(f"limit push-down: {node!r} makes {below!r} give its first rows only")
        new = fresh(below, list(below.input_deps))
        new.limit = node.limit if below.limit is None else min(node.limit, below.limit)
        return new
    if isinstance(below, SelectNode) and keeps_count(below.query().text(["t"])):
        notes.append(f"limit push-down: {node!r} below {below!r}")
        return fresh(below, [limit_pushed(limited(node, below.input_deps[0], node.limit), notes)])
    if getattr(below, "is_one_to_one", False):
        notes.append(f"limit push-down: {node!r} below {below!r}")
        return fresh(below, [limit_pushed(limited(node, below.input_deps[0], node.limit), notes)])
    if isinstance(below, UnionAllNode) and not any(
        isinstance(dep, LimitNode) and dep.limit <= node.limit for dep in below.input_deps
    ):
        notes.append(f"limit push-down: {node!r} to the inputs of {below!r}")
        parts = [limit_pushed(limited(node, dep, node.limit), notes) for dep in below.input_deps]
        return limited(node, fresh(below, parts), node.limit)
    return node


def limited(node: LimitNode, dep: Node, limit: int) -> LimitNode:
    new = LimitNode(node.ctx, dep, limit)
    new.location = node.location
    return new


def keeps_count(query: str) -> bool:
    """Whether a query gives exactly one row for each row."""
    tree = query_tree(query)
    if tree is None or not is_rowwise(query) or tree.get("where_clause"):
        return False
    return not any(
        function_name(one) in ("unnest", "generate_subscripts") or one.get("type") == "UNNEST"
        for one in trees_inside(tree)
    )
