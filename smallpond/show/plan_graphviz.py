"""The plan as a `graphviz.Digraph`, for scripts that expect what smallpond 0.15 returned.

The package graphviz is optional; the SVG of `plan_drawing` needs neither it nor the program `dot`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from smallpond.common import MissingDependency
from smallpond.show.plan_nodes import nodes_in_order

if TYPE_CHECKING:
    from smallpond.logical.node import Node


def plan_digraph(nodes: Iterable[Node], comment: str = "smallpond") -> Any:
    """One node of the graph per plan node, named by its id, and one edge per input."""
    try:
        graphviz = importlib.import_module("graphviz")
    except ImportError as error:
        raise MissingDependency(
            "graph() returns an object of the package graphviz: pip install graphviz "
            "(dump_graph() writes the plan as SVG without it)"
        ) from error
    dot = graphviz.Digraph(comment=comment)
    for node in nodes_in_order(nodes):
        dot.node(str(node.id), repr(node))
        for dep in node.input_deps:
            dot.edge(str(dep.id), str(node.id))
    return dot
