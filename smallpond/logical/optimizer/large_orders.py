"""On one machine: a sort, or a random order, of far more than memory holds is cut into ranges.

One DuckDB task sorts such rows by writing sorted runs and merging them: three times their size goes
through the disk. Dealt by an exchange first, every range is sorted in memory, and the rows go to
the disk once beside the result. All other operations spill less, and stay one task.

Invariants: a source is divided only for the order that alone reads it, through row-wise steps; an
order whose rows have a type that does not travel, or an unknown one, stays one task.
"""

from __future__ import annotations

from smallpond.logical.node import DataSourceNode, Node
from smallpond.logical.optimizer.exchange import ExchangeLowering
from smallpond.logical.optimizer.lower import Lowering, scattered
from smallpond.logical.optimizer.schema import SchemaFinder
from smallpond.logical.optimizer.settings import OptimizerSettings
from smallpond.logical.optimizer.stage import Stage
from smallpond.logical.optimizer.statistics import Estimate, Statistics
from smallpond.logical.relational import (
    FilterNode,
    MapNode,
    RandomOrderNode,
    RelationalNode,
    SelectNode,
    SortNode,
)

# Bytes of rows, as a multiple of memory, from which on ranges are faster: measured with two cores.
SPILL_FACTOR = 2
# Steps that an exchange's producers do on the way.
ON_THE_WAY = (FilterNode, MapNode, SelectNode)


def is_large_order(
    node: Node, statistics: Statistics, schemas: SchemaFinder, settings: OptimizerSettings
) -> bool:
    """Whether the node orders far more rows than memory holds, and all of them can travel."""
    from smallpond.execution.shuffle.query import is_storable

    ordering = isinstance(node, RandomOrderNode) or (
        isinstance(node, SortNode) and node.limit is None
    )
    if not ordering or spills_little(statistics.of(node.input_deps[0]), settings):
        return False
    schema = schemas.of(node.input_deps[0])
    return schema is not None and all(is_storable(kind) for _, kind in schema)


def spills_little(rows: Estimate, settings: OptimizerSettings) -> bool:
    """Whether one task puts the rows in order as fast as ranges would."""
    return rows.bytes <= SPILL_FACTOR * settings.memory_bytes


class LargeOrderLowering(ExchangeLowering):
    """One task for a pipeline, and exchanges below large orders alone."""

    def source(self, node: DataSourceNode) -> Stage:
        """Dealt to partitions where only a large order reads it."""
        reader: Node = node
        while len(readers := self.users[id(reader)]) == 1:
            reader = readers[0]
            if self.is_large_order(reader):
                return super().source(node)
            if not isinstance(reader, ON_THE_WAY):
                break
        return Lowering.source(self, node)

    def relational(self, node: RelationalNode) -> Stage:
        """Ranges for a large order; row-wise steps on whatever partitions there are."""
        if isinstance(node, SelectNode):
            return super().relational(node)
        if not self.is_large_order(node):
            return Lowering.relational(self, node)
        [stage] = [self.stage(dep) for dep in node.input_deps]
        count = self.partitions(node.input_deps[0], node.npartitions)
        if stage.count == 1 and count > 1:
            stage = scattered(self.as_divisible(stage, node), count, self.settings)
        if isinstance(node, SortNode):
            return self.sort(node, stage)
        assert isinstance(node, RandomOrderNode)
        return self.random_order(node, stage)

    def is_large_order(self, node: Node) -> bool:
        return is_large_order(node, self.statistics, self.schemas, self.settings)
