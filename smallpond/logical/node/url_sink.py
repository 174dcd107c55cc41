"""A folder behind a URL that the plan's results go to; see `execution/task/sink_url.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.execution.task.ids import PartitionInfo
from smallpond.execution.task.sink import SINK_MODES
from smallpond.execution.task.sink_url import UrlSinkTask
from smallpond.logical.node.base import Node
from smallpond.logical.node.sink import DataSinkNode

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.sink import SinkMode
    from smallpond.logical.node.context import Context


class UrlSinkNode(DataSinkNode):
    """Send the output files of `input_deps` to the folder at `url`, with the modes of a sink."""

    def __init__(
        self, ctx: Context, input_deps: Sequence[Node], url: str, *, mode: SinkMode = "append"
    ) -> None:
        assert mode in SINK_MODES, f"invalid sink mode: {mode}"
        Node.__init__(self, ctx, input_deps, None, None, cpu_limit=1)
        self.url = url
        self.type = "copy"
        self.is_final_node = False
        self.mode = mode

    def __str__(self) -> str:
        return Node.__str__(self) + f", url={self.url}, mode={self.mode}"

    @Node.task_factory
    def create_task(  # type: ignore[override]
        self,
        runtime_ctx: RuntimeContext,
        input_deps: list[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> UrlSinkTask:
        return UrlSinkTask(runtime_ctx, input_deps, [PartitionInfo()], self.url, self.mode)
