"""What `explain` shows: the plan as asked, the rules that changed it, its tasks and their costs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from smallpond.logical.node import Node, SqlEngineNode
from smallpond.logical.optimizer.statistics import Statistics
from smallpond.logical.relational import FilterNode, MapNode, RelationalNode
from smallpond.show.units import bytes_text, count_text

if TYPE_CHECKING:
    from smallpond.dataframe.frame import DataFrame


def explained(frame: DataFrame, optimized: bool) -> str:
    """The text."""
    statistics = Statistics()
    parts = ["== Plan ==", *plan_lines(frame.plan, statistics)]
    if not optimized:
        return "\n".join(parts)
    from smallpond.dataframe.run import optimize
    from smallpond.show import plan_text

    if frame.optimized_plan is None:
        with frame.session._run_lock:
            optimize(frame.session, [frame])
    assert frame.optimized_plan is not None and frame.optimizer is not None
    notes = [f"- {note}" for note in dict.fromkeys(frame.optimizer.notes)]
    parts += ["", "== Decisions ==", *(notes or ["- one task, fused as written"])]
    profiles = frame.session.view.profiles() if frame.is_computed() else {}
    title = "== Tasks, as they ran ==" if frame.is_computed() else "== Tasks =="
    parts += ["", title, plan_text(frame.optimized_plan, profiles)]
    parts += query_lines(frame.optimized_plan)
    return "\n".join(parts)


def plan_lines(node: Node, statistics: Statistics, depth: int = 0) -> list[str]:
    """A node and its inputs, with estimates."""
    estimate = statistics.of(node)
    size = f"~{count_text(estimate.rows)} rows, {bytes_text(estimate.bytes)}"
    lines = [f"{'  ' * depth}{node_text(node)}  [{size}]"]
    for dep in node.input_deps:
        lines += plan_lines(dep, statistics, depth + 1)
    return lines


def node_text(node: Node) -> str:
    """What a node does, in a few words."""
    if isinstance(node, RelationalNode):
        detail = node.detail()
        name = f"{node.operation}: {detail}" if detail else node.operation
    elif isinstance(node, FilterNode):
        name = f"filter: {node.predicate.render()}"
    elif isinstance(node, MapNode):
        name = f"map: {node.expressions.render()}"
    elif isinstance(node, SqlEngineNode):
        name = f"sql: {node.oneline_query}"
    else:
        name = type(node).__name__
        dataset = getattr(node, "dataset", None)
        if dataset is not None:
            name += f" {dataset}"
    return f"#{int(node.id)} {textwrap.shorten(' '.join(name.split()), 150)}"


def query_lines(root: Node) -> list[str]:
    """The SQL of each task's node."""
    from smallpond.logical.optimizer.graph import nodes_of

    lines: list[str] = []
    for node in nodes_of([root]):
        if isinstance(node, SqlEngineNode):
            lines += ["", f"-- {node!r}", textwrap.indent("\n".join(node.sql_queries), "   ")]
    return ["", "== SQL ==", *lines] if lines else []
