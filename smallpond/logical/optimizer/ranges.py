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
from smallpond.logical.optimizer.syntax import is_rowwise_nested
from smallpond.logical.optimizer.template import Sql, parse_text, subquery

SAMPLE_ROWS_PER_PARTITION = 1000


def range_exchange(
    stage: Stage, node: Node, order: Sequence[str], count: int, settings: OptimizerSettings
) -> Stage:
    """The rows of a stage in `count` ranges of the order.

    Row-wise steps are done by those who sample and again by those who deal: that costs less than
    writing the rows twice. Everything else is done once.
    """
    if len(stage.inputs) == 1 and not (stage.udfs or stage.options) and is_cheap(stage):
        query = None if stage.is_plain else stage.statement()
        data = stage.inputs[0]
    else:
        query, data = None, ended(cut(stage, settings), settings)
    points = split_points(node, data, order, count, query)
    return exchanged(node, data, order, points, count, query)


def is_cheap(stage: Stage) -> bool:
    """Whether the stage maps rows one by one."""
    return stage.is_plain or is_rowwise_nested(parse_text(stage.statement()))


def split_points(
    node: Node, data: Node, order: Sequence[str], count: int, query: Sql | None = None
) -> Node:
    """A node whose rows cut the data, or a query over it, into about equal ranges."""
    from smallpond.execution.shuffle.ranges import sort_key_sample_query, split_points_query

    rows = SAMPLE_ROWS_PER_PARTITION * count
    source = "{0}" if query is None else subquery(query).render()
    text = sort_key_sample_query(list(order), rows, source)
    sample = SqlEngineNode(node.ctx, (data,), text)
    together = ConsolidateNode(node.ctx, sample, [])
    points = SqlEngineNode(node.ctx, (together,), split_points_query(count))
    for one in (sample, together, points):
        one.location = node.location
    return points


def exchanged(
    node: Node,
    data: Node,
    order: Sequence[str],
    points: Node,
    count: int,
    query: Sql | None = None,
) -> Stage:
    """The data, or a query over it, dealt by the ranges between the points."""
    text = None if query is None else query.render()
    exchange = ExchangeNode(
        node.ctx, (data,), count, order_by=list(order), split_points=points, query=text
    )
    exchange.location = node.location
    return replace(plain(exchange, count, ordered=False), origins=(node,))
