"""A folder that the plan's results go to.

Copying starts as soon as one input partition is there (phase one, a task an input); naming the
files so that none collide needs all of them at once (phase two, one task), which also makes the
folder appear as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from smallpond.execution.task.ids import PartitionInfo
from smallpond.execution.task.sink import SINK_MODES, DataSinkTask
from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.sink import SinkMode
    from smallpond.logical.node.context import Context

DataSinkType = Literal["link", "copy", "link_or_copy", "manifest"]


class DataSinkNode(Node):
    """Collect the output files of `input_deps` into the folder `output_path`."""

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        output_path: str,
        type: DataSinkType = "link",
        manifest_only: bool = False,
        is_final_node: bool = False,
        *,
        mode: SinkMode = "append",
    ) -> None:
        """Make a sink.

        `type`: `link` makes hard links, or symbolic ones where the file system refuses; `copy`
        copies; `link_or_copy` links and copies where it cannot; `manifest` only writes
        `.MANIFEST.txt`, one path a line (`manifest_only=True` is its old spelling).
        `mode` says what to do with a folder that holds files already: `append` adds to them,
        `overwrite` replaces them, `error` fails, `ignore` leaves them and writes nothing.
        """
        assert type in ("link", "copy", "link_or_copy", "manifest"), f"invalid sink type: {type}"
        assert mode in SINK_MODES, f"invalid sink mode: {mode}"
        super().__init__(ctx, input_deps, None, output_path, cpu_limit=1, memory_limit=0)
        self.type: DataSinkType = "manifest" if manifest_only else type
        self.is_final_node = is_final_node
        self.mode: SinkMode = mode

    def __str__(self) -> str:
        return super().__str__() + f", output_path={self.output_path}, type={self.type}"

    @Node.task_factory
    def create_task(
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> DataSinkTask:
        if self.type in ("copy", "link_or_copy"):
            input_deps = [
                self._create_phase1_task(runtime_ctx, task, [PartitionInfo(i, len(input_deps))])
                for i, task in enumerate(input_deps)
            ]
        assert self.output_path is not None, f"output path is required for {self!r}"
        return DataSinkTask(
            runtime_ctx,
            input_deps,
            [PartitionInfo()],
            self.output_path,
            type="manifest" if self.type == "manifest" else "link_manifest",
            is_final_node=self.is_final_node,
            mode=self.mode,
        )

    @Node.task_factory
    def _create_phase1_task(
        self,
        runtime_ctx: RuntimeContext,
        input_dep: Task,
        partition_infos: Sequence[PartitionInfo],
    ) -> DataSinkTask:
        assert self.output_path is not None and self.type in ("copy", "link_or_copy")
        return DataSinkTask(
            runtime_ctx,
            [input_dep],
            partition_infos,
            self.output_path,
            type="copy" if self.type == "copy" else "link_or_copy",
            mode=self.mode,
        )
