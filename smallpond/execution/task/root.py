"""The end of the plan: when it ran, everything did."""

from __future__ import annotations

from smallpond.execution.task.base import Task


class RootTask(Task):
    """Does nothing after all its inputs."""

    __slots__ = ()

    @property
    def exec_on_scheduler(self) -> bool:
        return True

    def initialize(self) -> None:
        """Needs no folder."""

    def finalize(self) -> None:
        """Has no files to move."""

    def run(self) -> bool:
        from smallpond.logical.dataset import ParquetDataSet

        self.dataset = ParquetDataSet([])
        return True
