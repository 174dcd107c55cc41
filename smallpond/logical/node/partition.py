"""What the partition nodes share: producers that divide their input, consumers that collect.

A producer reads one part of the input and divides it into `npartitions`; a consumer collects its
partition from all producers. How many producers there are is the planner's choice within
`max_num_producer_tasks` (a class-level knob which an instance may override).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.ids import PartitionInfo
from smallpond.execution.task.merge import MergeDataSetsTask
from smallpond.execution.task.partition import PartitionConsumerTask, PartitionProducerTask
from smallpond.execution.task.split import SplitDataSetTask
from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.logical.node.context import Context

_DIMENSION = re.compile(r"[a-zA-Z0-9_]+")


class PartitionNode(Node):
    """The base class of all partition nodes."""

    max_num_producer_tasks = 100
    max_card_of_producers_x_consumers = 4_096_000
    # Whether producers read rows, so that a file may be cut between them; not so for user code.
    producers_share_files = False

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        npartitions: int,
        dimension: str | None = None,
        nested: bool = False,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int = 1,
        memory_limit: int | None = None,
    ) -> None:
        """Divide `input_deps` into `npartitions` along the new `dimension`.

        With `nested`, every partition that exists is divided again, and `dimension` must be new.
        """
        assert isinstance(npartitions, int), f"npartitions is not an integer: {npartitions}"
        assert npartitions > 0, f"npartitions is not positive: {npartitions}"
        assert dimension is None or _DIMENSION.match(dimension), (
            f"dimension has invalid format: {dimension}"
        )
        assert not (nested and dimension is None), "nested partition should have dimension"
        super().__init__(ctx, input_deps, output_name, output_path, cpu_limit, 0, memory_limit)
        self.npartitions = npartitions
        self.dimension = dimension if dimension is not None else PartitionInfo.default_dimension
        self.nested = nested

    def __str__(self) -> str:
        return (
            super().__str__()
            + f", npartitions={self.npartitions}, dimension={self.dimension}, nested={self.nested}"
        )

    @Node.task_factory
    def create_producer_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> PartitionProducerTask:
        """The task that divides one part of the input."""
        raise NotImplementedError(f"{self.__class__.__name__} is an abstract partition node")

    @Node.task_factory
    def create_consumer_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> PartitionConsumerTask:
        """The task that collects one partition from all producers."""
        return PartitionConsumerTask(runtime_ctx, input_deps, partition_infos)

    @Node.task_factory
    def create_merge_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> MergeDataSetsTask:
        """The task that unites inputs before they are split among producers."""
        return MergeDataSetsTask(runtime_ctx, input_deps, partition_infos)

    @Node.task_factory
    def create_split_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> SplitDataSetTask:
        """The task that picks one producer's part of the united input."""
        return SplitDataSetTask(
            runtime_ctx, input_deps, partition_infos, by_rows=self.producers_share_files
        )

    @property
    def num_partitions(self) -> int:
        return self.npartitions
