"""Relational nodes: operations on a whole table, whatever its partitions.

A node of the published API works partition by partition; the result of a relational node depends
only on the rows of its inputs. The optimiser turns each into published nodes before planning.
"""

from smallpond.logical.relational.aggregate import AggregateNode
from smallpond.logical.relational.base import RelationalNode
from smallpond.logical.relational.distinct import DistinctNode
from smallpond.logical.relational.join import JoinNode
from smallpond.logical.relational.rowwise import FilterNode, MapNode
from smallpond.logical.relational.sample import SampleNode
from smallpond.logical.relational.select import SelectNode
from smallpond.logical.relational.shuffle import RandomOrderNode
from smallpond.logical.relational.sort import SortNode
from smallpond.logical.relational.sql import QueryNode
from smallpond.logical.relational.union import UnionAllNode

__all__ = [
    "AggregateNode",
    "DistinctNode",
    "FilterNode",
    "JoinNode",
    "MapNode",
    "QueryNode",
    "RandomOrderNode",
    "RelationalNode",
    "SampleNode",
    "SelectNode",
    "SortNode",
    "UnionAllNode",
]
