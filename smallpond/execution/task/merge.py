"""Several data sets as one; only lists of files change."""

from __future__ import annotations

from smallpond.execution.task.base import Task


class MergeDataSetsTask(Task):
    """Puts out the union of its inputs."""

    __slots__ = ()

    @property
    def exec_on_scheduler(self) -> bool:
        return True

    @property
    def self_contained_output(self) -> bool:
        return False

    def initialize(self) -> None:
        """Needs no folder."""

    def finalize(self) -> None:
        """Has no files to move."""

    def run(self) -> bool:
        from smallpond.logical.dataset import DataSet

        datasets = self.input_datasets
        assert datasets, f"empty list of input datasets: {self}"
        self.dataset = datasets[0] if len(datasets) == 1 else DataSet.merge(datasets)
        return True
