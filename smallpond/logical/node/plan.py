"""A logical plan: a context and the node at the top."""

from __future__ import annotations

import copy
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallpond.logical.node.base import Node, NodeId
    from smallpond.logical.node.context import Context


class LogicalPlan:
    """The graph of nodes below `root_node`."""

    def __init__(self, ctx: Context, root_node: Node) -> None:
        self.ctx = ctx
        self.root_node = root_node

    def __str__(self) -> str:
        return self.explain_str()

    def explain_str(self) -> str:
        """The plan as indented text, with the statistics of finished nodes."""
        visited: set[int] = set()
        lines: list[str] = []
        stack: list[tuple[Node, int]] = [(self.root_node, 0)]
        while stack:
            node, depth = stack.pop()
            indent = "  " * depth
            lines.append(f"{indent}{node}, file= {node.location}")
            if node.id in visited:
                lines.append(f"{indent} (omitted ...)")
                continue
            visited.add(node.id)
            lines += [f"{indent} | {name}: {stats}" for name, stats in node.perf_stats.items()]
            stack += [(dep, depth + 1) for dep in reversed(list(node.input_deps))]
        return os.linesep.join(lines)

    def graph(self) -> Any:
        """A `graphviz.Digraph` of the plan."""
        try:
            from graphviz import Digraph
        except ImportError as error:
            raise ImportError(
                "LogicalPlan.graph() needs graphviz: pip install graphviz "
                "(LogicalPlan.explain_str() shows the plan without it)"
            ) from error
        dot = Digraph(comment="smallpond")
        for node in self.nodes.values():
            dot.node(str(node.id), repr(node))
            for dep in node.input_deps:
                dot.edge(str(dep.id), str(node.id))
        return dot

    @property
    def nodes(self) -> dict[NodeId, Node]:
        """All nodes by id, from the root down."""
        nodes: dict[NodeId, Node] = {}
        stack = [self.root_node]
        while stack:
            node = stack.pop()
            if node.id not in nodes:
                nodes[node.id] = node
                stack += reversed(list(node.input_deps))
        return nodes

    def private_copy(self) -> LogicalPlan:
        """A copy of the graph whose nodes may be given tasks and sinks.

        Nodes are copied shallowly: their data sets (tables, perhaps) and functions are shared.
        """
        ctx = copy.copy(self.ctx)
        copies: dict[int, Node] = {}
        stack = [self.root_node]
        while stack:
            node = stack[-1]
            missing = [dep for dep in node.input_deps if id(dep) not in copies]
            if missing:
                stack += missing
                continue
            stack.pop()
            if id(node) in copies:
                continue
            twin = copy.copy(node)
            twin.ctx = ctx
            twin.input_deps = [copies[id(dep)] for dep in node.input_deps]
            twin.generated_tasks = []
            twin.perf_stats = {}
            twin.perf_metrics = defaultdict(list)
            copies[id(node)] = twin
        return LogicalPlan(ctx, copies[id(self.root_node)])
