"""The plan as SVG, drawn by us: no graphviz, no program to install.

Data flows from top to bottom. Colours say what kind a node is, and follow the reader's light or
dark theme. The box's tooltip has the full text; with profiles the box has its costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING

from smallpond.show.plan_layout import Layout, Point, layout_of
from smallpond.show.plan_nodes import node_kind, node_limits, nodes_in_order, short_location
from smallpond.show.profile import NodeProfile, profile_line
from smallpond.show.units import plural, seconds_text

if TYPE_CHECKING:
    from smallpond.logical.node import Node

MARGIN, LINE_HEIGHT, CHAR_WIDTH, PADDING = 20.0, 15.0, 6.6, 12.0
ROW_GAP = 40.0
LABEL_CHARS_MAX = 44

STYLE = """
  text { font: 11px ui-monospace, Menlo, Consolas, monospace; fill: #1c2733; }
  .head { font-weight: 600; }
  .note { fill: #5a6b7b; }
  .edge { fill: none; stroke: #8795a3; stroke-width: 1.3; }
  rect { stroke-width: 1.2; }
  .source rect { fill: #e4f2e7; stroke: #3c8d53; }
  .sink rect { fill: #f1e6f5; stroke: #8a4da3; }
  .partition rect { fill: #fdf0da; stroke: #c07f16; }
  .python rect { fill: #e3eefb; stroke: #2f6fb8; }
  .sql rect { fill: #e2f4f4; stroke: #1c8585; }
  .other rect { fill: #eef1f4; stroke: #70808f; }
  @media (prefers-color-scheme: dark) {
    text { fill: #dfe7ee; } .note { fill: #9aabba; } .edge { stroke: #66778a; }
    .source rect { fill: #1f3a27; } .sink rect { fill: #372342; } .partition rect { fill: #42320f; }
    .python rect { fill: #1b324d; } .sql rect { fill: #123838; } .other rect { fill: #2a333c; }
  }
"""


def plan_svg(nodes: Iterable[Node], profiles: Mapping[int, NodeProfile] | None = None) -> str:
    """The drawing of all nodes that the given ones reach."""
    ordered = nodes_in_order(nodes)
    labels = {int(node.id): _label(node, (profiles or {}).get(int(node.id))) for node in ordered}
    height = max((len(label) for label in labels.values()), default=1) * LINE_HEIGHT + PADDING
    widths = {
        key: max(len(line) for line in label) * CHAR_WIDTH + 2 * PADDING
        for key, label in labels.items()
    }
    inputs = {
        int(node.id): list(dict.fromkeys(int(dep.id) for dep in node.input_deps))
        for node in ordered
    }
    layout = layout_of(inputs, widths, height + ROW_GAP)
    parts = [_head(layout)]
    parts += [_edge(points, height) for points in layout.lines.values()]
    for node in ordered:
        key = int(node.id)
        profile = (profiles or {}).get(key)
        parts.append(_box(node, labels[key], layout.centres[key], widths[key], height, profile))
    parts.append("</svg>\n")
    return "\n".join(parts)


def _label(node: Node, profile: NodeProfile | None) -> list[str]:
    notes = [short_location(node), *node_limits(node)]
    lines = [repr(node), "  ".join(note for note in notes if note)]
    if profile is not None:
        lines.append(f"{plural(profile.task_count, 'task')}, {seconds_text(profile.wall_s)}")
        if profile.rows_out:
            lines[-1] += f", {plural(profile.rows_out, 'row')}"
    return [_cut(line) for line in lines if line]


def _cut(line: str) -> str:
    return line if len(line) <= LABEL_CHARS_MAX else line[: LABEL_CHARS_MAX - 1] + "…"


def _head(layout: Layout) -> str:
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="{-MARGIN:.0f} {-MARGIN:.0f} {width:.0f} {height:.0f}" role="img" '
        f'aria-label="query plan">\n<style>{STYLE}</style>\n'
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#8795a3"/></marker>'
    )


def _edge(points: list[Point], box_height: float) -> str:
    """A smooth line from below the first box, through the points, to the top of the last box."""
    (x, y), (last_x, last_y) = points[0], points[-1]
    stops = [(x, y + box_height / 2), *points[1:-1], (last_x, last_y - box_height / 2)]
    path = f"M{stops[0][0]:.1f},{stops[0][1]:.1f}"
    for (from_x, from_y), (to_x, to_y) in itertools.pairwise(stops):
        middle = (from_y + to_y) / 2
        path += f" C{from_x:.1f},{middle:.1f} {to_x:.1f},{middle:.1f} {to_x:.1f},{to_y:.1f}"
    return f'<path class="edge" d="{path}" marker-end="url(#tip)"/>'


def _box(
    node: Node,
    label: list[str],
    centre: Point,
    width: float,
    height: float,
    profile: NodeProfile | None,
) -> str:
    x, y = centre[0] - width / 2, centre[1] - height / 2
    tip = [str(node), f"at {node.location}"]
    if profile is not None:
        tip.append(profile_line(profile))
    lines = []
    top = centre[1] - (len(label) - 1) * LINE_HEIGHT / 2 + 4
    for index, line in enumerate(label):
        style = "head" if index == 0 else "note"
        lines.append(
            f'<text class="{style}" x="{centre[0]:.1f}" y="{top + index * LINE_HEIGHT:.1f}" '
            f'text-anchor="middle">{escape(line)}</text>'
        )
    return (
        f'<g class="{node_kind(node)}"><title>{escape(chr(10).join(tip))}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6"/>'
        f"{''.join(lines)}</g>"
    )
