"""What the drawings of a plan say about a node, and in which order nodes come."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from smallpond.show.units import bytes_text, plural

if TYPE_CHECKING:
    from smallpond.logical.node import Node

KINDS = (
    ("source", ("DataSource", "PartitionedDataSource")),
    ("sink", ("Sink", "Root")),
    ("partition", ("Partition", "Shuffle", "Consolidate", "Projection", "Union", "Limit")),
    ("python", ("Python", "Arrow", "Pandas", "Script", "Map")),
    ("sql", ("Sql", "Join", "Aggregate", "Sort", "Distinct", "Select", "Filter", "Window")),
)


def node_kind(node: Node) -> str:
    """`source`, `sink`, `partition`, `python`, `sql` or `other`, by the class's name."""
    name = type(node).__name__
    for kind, words in KINDS:
        if any(word in name for word in words):
            return kind
    return "other"


def node_limits(node: Node) -> list[str]:
    """What the user asked for this node beyond the defaults."""
    parts = []
    if node.cpu_limit and node.cpu_limit != 1:
        parts.append(plural(int(node.cpu_limit), "CPU"))
    if node.gpu_limit:
        parts.append(f"{node.gpu_limit:g} GPU")
    if node.memory_limit:
        parts.append(bytes_text(node.memory_limit))
    if node.output_name:
        parts.append(f"output '{node.output_name}'")
    return parts


def short_location(node: Node) -> str:
    """`job.py:12` of `/home/me/job.py:12`."""
    return os.path.basename(getattr(node, "location", None) or "")


def nodes_in_order(nodes: Iterable[Node]) -> list[Node]:
    """All nodes that the given ones reach, each after its inputs."""
    ordered: list[Node] = []
    state: dict[int, bool] = {}
    stack = [(node, False) for node in reversed(list(nodes))]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            ordered.append(node)
            state[int(node.id)] = True
        elif int(node.id) not in state:
            state[int(node.id)] = False
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(list(node.input_deps)))
    return ordered
