"""Global order over partitions: ranges of the sort key between points sampled from the data.

Each partition gives some sort keys, one task picks points that cut the sample evenly, and the
exchange deals rows by them. Equal keys stay together, so a stable order within partitions is one
over all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from smallpond.logical.node import ConsolidateNode, ExchangeNode, Node, SqlEngineNode
from smallpond.logical.optimizer.settings import OptimizerSettings
from smallpond.logical.optimizer.stage import Stage, cut, ended, plain

SAMPLE_ROWS_PER_PARTITION = 1000


def range_exchange(
    stage: Stage, node: Node, order: Sequence[str], count: int, settings: OptimizerSettings
) -> Stage:
    """The rows of a stage in `count` ranges of the order."""
    data = ended(cut(stage, settings), settings)
    points = split_points(node, data, order, count)
    return exchanged(node, data, order, points, count)


def split_points(node: Node, data: Node, order: Sequence[str], count: int) -> Node:
    """A node whose rows cut the data into about equal ranges."""
    from smallpond.execution.shuffle.ranges import sort_key_sample_query, split_points_query

    rows = SAMPLE_ROWS_PER_PARTITION * count
    sample = SqlEngineNode(node.ctx, (data,), sort_key_sample_query(list(order), rows=rows))
    together = ConsolidateNode(node.ctx, sample, [])
    points = SqlEngineNode(node.ctx, (together,), split_points_query(count))
    for one in (sample, together, points):
        one.location = node.location
    return points


def exchanged(node: Node, data: Node, order: Sequence[str], points: Node, count: int) -> Stage:
    """The data dealt by the ranges between the points."""
    exchange = ExchangeNode(node.ctx, (data,), count, order_by=list(order), split_points=points)
    exchange.location = node.location
    return replace(plain(exchange, count, ordered=False), origins=(node,))
