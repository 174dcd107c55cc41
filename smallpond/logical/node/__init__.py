"""Logical plans: the nodes, their context, and the plan itself.

One file a kind of node; everything that a script needs is importable from here.
"""

from smallpond.logical.node.arrow_compute import ArrowComputeNode, PandasComputeNode
from smallpond.logical.node.arrow_stream import ArrowBatchNode, ArrowStreamNode, PandasBatchNode
from smallpond.logical.node.base import Node, NodeId
from smallpond.logical.node.consolidate import ConsolidateNode
from smallpond.logical.node.context import Context
from smallpond.logical.node.evenly import EvenlyDistributedPartitionNode
from smallpond.logical.node.exchange import ExchangeNode
from smallpond.logical.node.hash_partition import HashPartitionNode, ShuffleNode
from smallpond.logical.node.limit import LimitNode
from smallpond.logical.node.load_partitioned import (
    DataSetPartitionNode,
    LoadPartitionedDataSetNode,
)
from smallpond.logical.node.partition import PartitionNode
from smallpond.logical.node.plan import LogicalPlan
from smallpond.logical.node.projection import ProjectionNode
from smallpond.logical.node.python_script import PythonScriptNode
from smallpond.logical.node.range_partition import RangePartitionNode
from smallpond.logical.node.repeat import RepeatPartitionNode
from smallpond.logical.node.root import RootNode
from smallpond.logical.node.sink import DataSinkNode, DataSinkType
from smallpond.logical.node.source import DataSourceNode
from smallpond.logical.node.sql_engine import SqlEngineNode
from smallpond.logical.node.union import UnionNode
from smallpond.logical.node.user_defined import (
    UserDefinedPartitionNode,
    UserPartitionedDataSourceNode,
)
from smallpond.logical.node.visitor import LogicalPlanVisitor

__all__ = [
    "ArrowBatchNode",
    "ArrowComputeNode",
    "ArrowStreamNode",
    "ConsolidateNode",
    "Context",
    "DataSetPartitionNode",
    "DataSinkNode",
    "DataSinkType",
    "DataSourceNode",
    "EvenlyDistributedPartitionNode",
    "ExchangeNode",
    "HashPartitionNode",
    "LimitNode",
    "LoadPartitionedDataSetNode",
    "LogicalPlan",
    "LogicalPlanVisitor",
    "Node",
    "NodeId",
    "PandasBatchNode",
    "PandasComputeNode",
    "PartitionNode",
    "ProjectionNode",
    "PythonScriptNode",
    "RangePartitionNode",
    "RepeatPartitionNode",
    "RootNode",
    "ShuffleNode",
    "SqlEngineNode",
    "UnionNode",
    "UserDefinedPartitionNode",
    "UserPartitionedDataSourceNode",
]
