"""A walk over a logical plan, one method a kind of node."""

from __future__ import annotations

from typing import Generic, TypeVar

from smallpond.logical.node.arrow_compute import ArrowComputeNode
from smallpond.logical.node.arrow_stream import ArrowStreamNode
from smallpond.logical.node.base import Node
from smallpond.logical.node.consolidate import ConsolidateNode
from smallpond.logical.node.limit import LimitNode
from smallpond.logical.node.partition import PartitionNode
from smallpond.logical.node.projection import ProjectionNode
from smallpond.logical.node.python_script import PythonScriptNode
from smallpond.logical.node.root import RootNode
from smallpond.logical.node.sink import DataSinkNode
from smallpond.logical.node.source import DataSourceNode
from smallpond.logical.node.sql_engine import SqlEngineNode
from smallpond.logical.node.union import UnionNode

T = TypeVar("T")

# The first class that matches decides, so a subclass stands before its base.
_METHODS: tuple[tuple[type[Node], str], ...] = (
    (DataSourceNode, "visit_data_source_node"),
    (DataSinkNode, "visit_data_sink_node"),
    (RootNode, "visit_root_node"),
    (UnionNode, "visit_union_node"),
    (ConsolidateNode, "visit_consolidate_node"),
    (PartitionNode, "visit_partition_node"),
    (PythonScriptNode, "visit_python_script_node"),
    (ArrowComputeNode, "visit_arrow_compute_node"),
    (ArrowStreamNode, "visit_arrow_stream_node"),
    (LimitNode, "visit_limit_node"),
    (SqlEngineNode, "visit_query_engine_node"),
    (ProjectionNode, "visit_projection_node"),
)


class LogicalPlanVisitor(Generic[T]):
    """Visit nodes depth first; override the methods of the kinds that matter."""

    def visit(self, node: Node, depth: int = 0) -> T:
        """Call the method of the node's kind, `generic_visit` where a subclass has none."""
        for kind, method in _METHODS:
            if isinstance(node, kind):
                result: T = getattr(self, method)(node, depth)
                return result
        raise TypeError(f"{node!r} is of an unknown kind; was it lowered? made at {node.location}")

    def generic_visit(self, node: Node, depth: int) -> T:
        """Visit the inputs."""
        for dep in node.input_deps:
            self.visit(dep, depth + 1)
        return None  # type: ignore[return-value]

    def visit_data_source_node(self, node: DataSourceNode, depth: int) -> T:
        """Visit an input of the plan."""
        return self.generic_visit(node, depth)

    def visit_data_sink_node(self, node: DataSinkNode, depth: int) -> T:
        """Visit a folder for results."""
        return self.generic_visit(node, depth)

    def visit_root_node(self, node: RootNode, depth: int) -> T:
        """Visit the top of a plan."""
        return self.generic_visit(node, depth)

    def visit_union_node(self, node: UnionNode, depth: int) -> T:
        """Visit a union."""
        return self.generic_visit(node, depth)

    def visit_consolidate_node(self, node: ConsolidateNode, depth: int) -> T:
        """Visit a merge of partitions."""
        return self.generic_visit(node, depth)

    def visit_partition_node(self, node: PartitionNode, depth: int) -> T:
        """Visit any partition node."""
        return self.generic_visit(node, depth)

    def visit_python_script_node(self, node: PythonScriptNode, depth: int) -> T:
        """Visit user code over data sets."""
        return self.generic_visit(node, depth)

    def visit_arrow_compute_node(self, node: ArrowComputeNode, depth: int) -> T:
        """Visit user code over tables or frames."""
        return self.generic_visit(node, depth)

    def visit_arrow_stream_node(self, node: ArrowStreamNode, depth: int) -> T:
        """Visit user code over streams or batches."""
        return self.generic_visit(node, depth)

    def visit_query_engine_node(self, node: SqlEngineNode, depth: int) -> T:
        """Visit SQL."""
        return self.generic_visit(node, depth)

    def visit_projection_node(self, node: ProjectionNode, depth: int) -> T:
        """Visit a choice of columns."""
        return self.generic_visit(node, depth)

    def visit_limit_node(self, node: LimitNode, depth: int) -> T:
        """Visit a limit."""
        return self.generic_visit(node, depth)
