"""The first rows of data sets into the log, while a plan runs."""

from __future__ import annotations

from typing import Any

from smallpond.execution.task.python_script import PythonScriptTask
from smallpond.logical.dataset import DataSet
from smallpond.logical.node import Context, Node, PythonScriptNode


class LogDataSetTask(PythonScriptTask):
    """Logs its inputs; runs in the scheduler, whose log is the one that people read."""

    num_rows = 200

    @property
    def exec_on_scheduler(self) -> bool:
        """True."""
        return True

    def process(self, runtime_ctx: Any, input_datasets: list[DataSet], output_path: str) -> bool:
        """Log the first rows of each input."""
        for dataset in input_datasets:
            dataset.log(self.num_rows)
        return True


class LogDataSet(PythonScriptNode):
    """Logs the first `num_rows` rows of each input partition."""

    def __init__(
        self, ctx: Context, input_deps: tuple[Node, ...], num_rows: int = 200, **kwargs: Any
    ) -> None:
        super().__init__(ctx, input_deps, **kwargs)
        self.num_rows = num_rows

    def spawn(self, *args: Any, **kwargs: Any) -> LogDataSetTask:
        """A task that logs as many rows."""
        task = LogDataSetTask(*args, **kwargs)
        task.num_rows = self.num_rows
        return task
