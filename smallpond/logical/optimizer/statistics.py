"""How many rows and bytes a node gives, estimated from files and plain rules.

Sources know their rows (Parquet's footers) or their bytes (text); operations scale them by fixed
factors. The estimates choose strategies and numbers of partitions; no result depends on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from smallpond.common import SmallpondError
from smallpond.io.arrow.file_size import FileSize, read_file_sizes
from smallpond.logical.dataset import DataSet, ParquetDataSet
from smallpond.logical.node import DataSourceNode, LimitNode, Node
from smallpond.logical.relational import (
    AggregateNode,
    DistinctNode,
    FilterNode,
    JoinNode,
    SampleNode,
    SortNode,
    UnionAllNode,
)

FILTER_SHARE = 0.3
GROUP_SHARE = 0.2
FOOTERS_READ = 8
ROW_BYTES_DEFAULT = 64


@dataclass(frozen=True)
class Estimate:
    """About how much data."""

    rows: float
    bytes: float

    def scaled(self, share: float) -> Estimate:
        """A share of these rows."""
        return Estimate(self.rows * share, self.bytes * share)

    def limited(self, rows: int) -> Estimate:
        """At most so many rows."""
        return self.scaled(min(1.0, rows / self.rows)) if self.rows > 0 else self


class Statistics:
    """Estimates of the nodes of one plan, each made once."""

    def __init__(self) -> None:
        self.estimates: dict[Node, Estimate] = {}

    def of(self, node: Node) -> Estimate:
        """The estimate of a node's output."""
        if node not in self.estimates:
            self.estimates[node] = self.estimated(node)
        return self.estimates[node]

    def estimated(self, node: Node) -> Estimate:
        if isinstance(node, DataSourceNode):
            return dataset_estimate(node.dataset)
        inputs = [self.of(dep) for dep in node.input_deps]
        if not inputs:
            return Estimate(1000, 1000 * ROW_BYTES_DEFAULT)
        first = inputs[0]
        if isinstance(node, FilterNode):
            return first.scaled(FILTER_SHARE)
        if isinstance(node, AggregateNode):
            return first.scaled(GROUP_SHARE) if node.keys else first.limited(1)
        if isinstance(node, DistinctNode):
            return first.scaled(GROUP_SHARE if node.columns else 1.0)
        if isinstance(node, SampleNode):
            return first.scaled(node.fraction) if node.fraction else first.limited(node.rows or 0)
        if isinstance(node, LimitNode):
            return first.limited(node.limit)
        if isinstance(node, SortNode) and node.limit is not None:
            return first.limited(node.limit)
        if isinstance(node, UnionAllNode):
            return Estimate(sum(one.rows for one in inputs), sum(one.bytes for one in inputs))
        if isinstance(node, JoinNode):
            return join_estimate(node, first, inputs[1])
        return max(inputs, key=lambda one: one.bytes)


def join_estimate(node: JoinNode, left: Estimate, right: Estimate) -> Estimate:
    """A join by keys gives about the rows of its larger side, each as wide as both."""
    if node.spec.how in ("semi", "asof", "anti"):
        return left
    width = left.bytes / max(left.rows, 1) + right.bytes / max(right.rows, 1)
    rows = max(left.rows, right.rows)
    if node.spec.how == "cross" or not node.spec.left_on:
        rows = left.rows * right.rows
    return Estimate(rows, rows * width)


def dataset_estimate(dataset: DataSet) -> Estimate:
    """Rows and bytes in memory of a data set; files that cannot be asked count as empty."""
    table = getattr(dataset, "table", None)
    if table is not None and hasattr(table, "nbytes"):
        return Estimate(table.num_rows, table.nbytes)
    frame = getattr(dataset, "df", None)
    if frame is not None:
        return Estimate(len(frame), max(len(frame) * ROW_BYTES_DEFAULT, 1))
    if isinstance(dataset, ParquetDataSet):
        return parquet_estimate(dataset)
    try:
        paths = [Path(path) for path in dataset.resolved_paths]
        size = float(sum(path.stat().st_size for path in paths))
    except (OSError, ValueError, AssertionError, NotImplementedError):
        return Estimate(0, 0)
    return Estimate(math.ceil(size / ROW_BYTES_DEFAULT), size)


def parquet_estimate(dataset: ParquetDataSet) -> Estimate:
    """From the footers of all files when they are few, else of some, local or not; those that
    cannot be read are passed over: the task that reads them says what is wrong."""
    try:
        paths = list(dataset.resolved_paths)
        asked = paths[:: max(1, len(paths) // FOOTERS_READ)]
        found = read_file_sizes(asked, dataset._filesystem())
    except (SmallpondError, OSError, ValueError, AssertionError, NotImplementedError):
        return Estimate(0, 0)
    sizes = [one for one in found if isinstance(one, FileSize)]
    factor = len(paths) / max(1, len(sizes))
    rows = sum(size.num_rows for size in sizes)
    return Estimate(rows * factor, sum(size.data_bytes for size in sizes) * factor)
