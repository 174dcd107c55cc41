"""Walking and rebuilding a plan: who reads whom, copies with other inputs.

Invariant: a copy keeps its id only as long as its result is the same; `fresh` gives a new one.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from smallpond.logical.node import Node

N = TypeVar("N", bound=Node)


def nodes_of(roots: Iterable[Node], is_leaf: Callable[[Node], bool] | None = None) -> list[Node]:
    """Every node below the roots once, inputs before their users; leaves hide their inputs."""
    seen: set[int] = set()
    order: list[Node] = []
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            if is_leaf is None or not is_leaf(node):
                stack += [(dep, False) for dep in reversed(list(node.input_deps))]
    return order


def users_of(
    roots: Sequence[Node], is_leaf: Callable[[Node], bool] | None = None
) -> dict[int, list[Node]]:
    """The nodes that read each node, by `id(node)`; one that reads it twice is there twice."""
    users: dict[int, list[Node]] = defaultdict(list)
    for node in nodes_of(roots, is_leaf):
        if is_leaf is None or not is_leaf(node):
            for dep in node.input_deps:
                users[id(dep)].append(node)
    return users


def with_inputs(node: N, inputs: Sequence[Node]) -> N:
    """The same node over inputs of the same rows; itself when they are the very same nodes."""
    if all(new is old for new, old in zip(inputs, node.input_deps, strict=True)):
        return node
    new = copy.copy(node)
    new.input_deps = tuple(inputs)
    return new


def fresh(node: N, inputs: Sequence[Node]) -> N:
    """The same operation over other rows: another node."""
    new = copy.copy(node)
    new.id = node.ctx._new_node_id()
    new.generated_tasks = []
    new.input_deps = tuple(inputs)
    return new
