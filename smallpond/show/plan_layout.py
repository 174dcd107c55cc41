"""Where the boxes of a plan go: layers by longest path, order by barycentre.

Every edge that skips layers gets a point in each layer it crosses, so that lines run between boxes
and not through them. The order within layers is improved by a few sweeps that place each item at
the mean position of its neighbours; that is not the fewest crossings, but it is good and linear.

Invariant: an edge goes from a layer to a later one (the graph is acyclic), and no two boxes of a
layer overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SWEEP_COUNT = 6
BOX_GAP, POINT_GAP = 24.0, 14.0

Key = int | tuple[int, int, int]
"""A box, or the point of an edge (from, to) in a layer."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Centres of boxes, lines through points, and the size of it all."""

    centres: dict[int, Point]
    lines: dict[tuple[int, int], list[Point]]
    width: float
    height: float


def layout_of(
    inputs: Mapping[int, Sequence[int]], widths: Mapping[int, float], row_height: float
) -> Layout:
    """Lays out boxes of the given widths; `inputs` lists every key after its own inputs."""
    layers, neighbours, paths = _layers_of(inputs)
    for sweep in range(SWEEP_COUNT):
        _order_by_neighbours(layers if sweep % 2 == 0 else layers[::-1], neighbours)
    centres: dict[Key, Point] = {}
    rows = [_row_width(layer, widths) for layer in layers]
    total = max(rows, default=0.0)
    for depth, layer in enumerate(layers):
        x = (total - rows[depth]) / 2
        for key in layer:
            width = _width(key, widths)
            centres[key] = (x + width / 2, (depth + 0.5) * row_height)
            x += width + _gap(key)
    lines = {edge: [centres[key] for key in path] for edge, path in paths.items()}
    boxes = {key: centres[key] for key in inputs}
    return Layout(boxes, lines, total, len(layers) * row_height)


def _layers_of(
    inputs: Mapping[int, Sequence[int]],
) -> tuple[list[list[Key]], dict[Key, list[Key]], dict[tuple[int, int], list[Key]]]:
    depth: dict[int, int] = {}
    for key, sources in inputs.items():
        depth[key] = max((depth[source] + 1 for source in sources), default=0)
    # A source belongs right above whoever reads it first, not at the top of the page.
    first_reader: dict[int, int] = {}
    for key, sources in inputs.items():
        for source in sources:
            first_reader[source] = min(first_reader.get(source, depth[key]), depth[key])
    for key, sources in inputs.items():
        if not sources and key in first_reader:
            depth[key] = first_reader[key] - 1
    layers: list[list[Key]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for key, level in depth.items():
        layers[level].append(key)
    neighbours: dict[Key, list[Key]] = {key: [] for key in inputs}
    paths: dict[tuple[int, int], list[Key]] = {}
    for key, sources in inputs.items():
        for source in sources:
            path: list[Key] = [source]
            for level in range(depth[source] + 1, depth[key]):
                point = (source, key, level)
                layers[level].append(point)
                path.append(point)
            path.append(key)
            paths[source, key] = path
            for above, below in itertools.pairwise(path):
                neighbours.setdefault(above, []).append(below)
                neighbours.setdefault(below, []).append(above)
    return layers, neighbours, paths


def _order_by_neighbours(layers: list[list[Key]], neighbours: Mapping[Key, list[Key]]) -> None:
    position: dict[Key, float] = {}
    for layer in layers:
        for index, key in enumerate(layer):
            position[key] = index / max(1, len(layer) - 1) if len(layer) > 1 else 0.5
    settled: set[Key] = set(layers[0]) if layers else set()
    for layer in layers[1:]:
        for key in layer:
            near = [position[other] for other in neighbours[key] if other in settled]
            if near:
                position[key] = sum(near) / len(near)
        layer.sort(key=lambda key: position[key])
        for index, key in enumerate(layer):
            position[key] = index / max(1, len(layer) - 1) if len(layer) > 1 else 0.5
        settled.update(layer)


def _row_width(layer: Sequence[Key], widths: Mapping[int, float]) -> float:
    gaps = sum(_gap(key) for key in layer[:-1])
    return sum(_width(key, widths) for key in layer) + gaps


def _width(key: Key, widths: Mapping[int, float]) -> float:
    return widths[key] if isinstance(key, int) else 0.0


def _gap(key: Key) -> float:
    return BOX_GAP if isinstance(key, int) else POINT_GAP
