"""The probe: a work item that asks an executor how its machine is doing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from smallpond.common import GB
from smallpond.execution.workitem import WorkItem

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext

logger = logging.getLogger(__name__)


class Probe(WorkItem):
    """Filled in by the executor and sent back; the latest one wins."""

    def __init__(self, ctx: RuntimeContext, key: str, epoch: int, epochs_to_skip: int = 0) -> None:
        super().__init__(key, cpu_limit=0, gpu_limit=0, memory_limit=0)
        self.ctx = ctx
        self.epoch = epoch
        self.epochs_to_skip = epochs_to_skip
        self.resource_low = True
        self.cpu_count = 0
        self.gpu_count = 0
        self.cpu_percent = 0.0
        self.total_memory = 0
        self.available_memory = 0

    def __str__(self) -> str:
        return (
            f"{self!r}, epoch={self.epoch}, resource_low={self.resource_low}, "
            f"cpu_count={self.cpu_count}, gpu_count={self.gpu_count}, "
            f"cpu_usage={self.cpu_percent}%, "
            f"available_memory={self.available_memory // GB}GB/{self.total_memory // GB}GB"
        )

    def __lt__(self, other: Probe) -> bool:
        return self.epoch < other.epoch

    def run(self) -> bool:
        """Measure. A busy CPU is no reason to give a machine no work: tasks make it busy."""
        import psutil

        self.cpu_percent = psutil.cpu_percent()
        self.total_memory = self.ctx.usable_memory_size
        self.available_memory = self.ctx.available_memory
        self.resource_low = self.available_memory < self.total_memory // 16
        self.cpu_count = self.ctx.usable_cpu_count
        self.gpu_count = self.ctx.usable_gpu_count
        logger.debug("resource usage: %s", self)
        return True
