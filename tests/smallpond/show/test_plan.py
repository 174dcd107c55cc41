"""The plan as text, as SVG of our own, and as graphviz's object."""

from __future__ import annotations

import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from smallpond.common import MissingDependency
from smallpond.logical.node import Context, DataSourceNode, Node, SqlEngineNode, UnionNode
from smallpond.show.plan_drawing import plan_svg
from smallpond.show.plan_graphviz import plan_digraph
from smallpond.show.plan_layout import layout_of
from smallpond.show.plan_nodes import nodes_in_order
from smallpond.show.plan_tree import plan_text
from smallpond.show.profile import node_profiles
from smallpond.show.view import JobView
from tests.smallpond.show.stream import diamond_plan, two_stage_record

SVG = "{http://www.w3.org/2000/svg}"


def test_text_is_a_tree_with_shared_parts_once() -> None:
    """Goal: who reads whom, and where it was made. Oracle: the tree written by hand."""
    lines = plan_text(diamond_plan().root_node).splitlines()
    assert [line.split("  at ")[0] for line in lines] == [
        "UnionNode-000004",
        "├─ SqlEngineNode-000002",
        "│  └─ DataSourceNode-000001",
        "└─ SqlEngineNode-000003  4 CPUs  output 'two'",
        "   └─ DataSourceNode-000001",
    ]
    assert "stream.py:" in lines[1]
    assert lines[-1].endswith("(above)")


def test_text_with_costs(tmp_path: Path) -> None:
    """Goal: explain after a run says what each node cost. Oracle: the profile's line below it."""
    record = two_stage_record(tmp_path)
    root = record.plans[0].logical_plan.root_node
    lines = plan_text(root, node_profiles(record)).splitlines()
    assert lines[1].startswith("│    2 tasks, 2.0 s, CPU 4.0 s, peak 64.0 MiB, 20 rows")
    assert lines[3].strip().startswith("4 tasks")


def test_svg_has_every_node_and_edge_and_no_overlap(tmp_path: Path) -> None:
    """Goal: a right drawing. Oracle: parsed as XML: boxes apart, edges from and to boxes' sides."""
    record = two_stage_record(tmp_path)
    plan = diamond_plan()
    drawing = ElementTree.fromstring(plan_svg([plan.root_node], node_profiles(record)))
    corners = []
    for box in drawing.iter(f"{SVG}rect"):
        x, y, width, height = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        corners.append((x, y, x + width, y + height))
    assert len(corners) == 4
    for index, (left, top, right, bottom) in enumerate(corners):
        for other_left, other_top, other_right, other_bottom in corners[index + 1 :]:
            apart = right <= other_left or other_right <= left
            assert apart or bottom <= other_top or other_bottom <= top
    edges = [path.attrib["d"] for path in drawing.iter(f"{SVG}path") if "class" in path.attrib]
    assert len(edges) == 4
    tips = [tip.text or "" for tip in drawing.iter(f"{SVG}title")]
    assert any("4 tasks" in tip and "DataSourceNode-000001" in tip for tip in tips)


def test_svg_escapes_what_users_wrote() -> None:
    """Goal: SQL with < and & does not break the file. Oracle: it parses, the text is there."""
    ctx = Context()
    query = "select 1 as \"<&>\" from {0} where 1 < 2 and 'x' <> ']]>'"
    node = SqlEngineNode(ctx, (DataSourceNode(ctx, None),), query)
    drawing = ElementTree.fromstring(plan_svg([node]))
    assert any("1 < 2" in (tip.text or "") for tip in drawing.iter(f"{SVG}title"))


def test_lines_that_skip_layers_pass_between_boxes() -> None:
    """Goal: an edge over several layers crosses no box. Oracle: its points against the boxes."""
    inputs = {1: [], 2: [1], 3: [2], 4: [3, 1]}
    widths = dict.fromkeys(inputs, 100.0)
    layout = layout_of(inputs, widths, 60.0)
    points = layout.lines[1, 4]
    assert len(points) == 4
    for x, y in points[1:-1]:
        for key in (2, 3):
            box_x, box_y = layout.centres[key]
            assert y != box_y or abs(x - box_x) >= 50.0


def test_deep_and_wide_plans_are_drawn_quickly() -> None:
    """Goal: plans made by programs. Method: 3,000 nodes deep, and 500 wide. Oracle: seconds."""
    begin = time.monotonic()
    ctx = Context()
    node: Node = DataSourceNode(ctx, None)
    for _ in range(3000):
        node = SqlEngineNode(ctx, (node,), "select * from {0}")
    assert len(nodes_in_order([node])) == 3001
    assert plan_text(node).count("\n") == 3000
    assert plan_svg([node]).count("<rect") == 3001
    wide = UnionNode(ctx, tuple(DataSourceNode(ctx, None) for _ in range(500)))
    assert plan_svg([wide]).count("<rect") == 501
    assert time.monotonic() - begin < 20


def test_digraph_is_graphvizs_own_object() -> None:
    """Goal: what 0.15 returned. Oracle: the source graphviz makes of it."""
    pytest.importorskip("graphviz")
    source = plan_digraph([diamond_plan().root_node]).source
    assert source.count("->") == 4
    assert '000001 [label="DataSourceNode-000001"]' in source


def test_without_graphviz_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: no bare ImportError. Method: hide the package. Oracle: the message."""
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(MissingDependency, match="pip install graphviz"):
        plan_digraph([diamond_plan().root_node])


def test_graph_file_needs_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: dump_graph works on a bare machine. Method: an empty PATH. Oracle: an SVG file."""
    monkeypatch.setenv("PATH", "")
    path = JobView(tmp_path).write_graph([diamond_plan().root_node])
    assert path == tmp_path / "graph.svg"
    assert ElementTree.parse(tmp_path / "graph.svg").getroot().tag == f"{SVG}svg"
    assert JobView(tmp_path).write_graph([], tmp_path / "x.svg").name == "x.svg"
