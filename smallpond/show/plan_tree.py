"""The plan as a tree of text: the last node on top, its inputs below.

A node that several others read is printed once and referred to after that. With profiles
(`node_profiles`), each node also says what it cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from smallpond.show.plan_nodes import node_limits, short_location
from smallpond.show.profile import NodeProfile, profile_line

if TYPE_CHECKING:
    from smallpond.logical.node import Node

BRANCH, LAST, BAR, GAP = "├─ ", "└─ ", "│  ", "   "


def plan_text(root: Node, profiles: Mapping[int, NodeProfile] | None = None) -> str:
    """The tree below `root`."""
    lines: list[str] = []
    seen: set[int] = set()
    # A stack and not recursion: plans that programs make are deeper than Python's stack.
    stack = [(root, "", "")]
    while stack:
        node, head, indent = stack.pop()
        again = int(node.id) in seen
        lines.append(head + node_line(node) + ("  (above)" if again else ""))
        if again:
            continue
        seen.add(int(node.id))
        inputs = list(node.input_deps)
        profile = (profiles or {}).get(int(node.id))
        if profile is not None:
            lines.append(indent + (BAR if inputs else GAP) + "  " + profile_line(profile))
        children = [
            (child, indent + (LAST if last else BRANCH), indent + (GAP if last else BAR))
            for index, child in enumerate(inputs)
            for last in [index == len(inputs) - 1]
        ]
        stack.extend(reversed(children))
    return "\n".join(lines)


def node_line(node: Node) -> str:
    """`HashPartitionNode-000003  1 CPU  output 'words'  at job.py:12`."""
    parts = [repr(node), *node_limits(node)]
    place = short_location(node)
    if place:
        parts.append(f"at {place}")
    return "  ".join(parts)
