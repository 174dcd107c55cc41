"""`python -m smallpond.execution.task PICKLE`: runs one dumped task alone, in this process.

A scheduler dumps a task that failed; its error report has this command. The file holds a task, or a
dictionary of tasks (`-t` says which). The task runs with its own inputs, in folders that no earlier
attempt has used, with its log on stdout, so that it can be run under a debugger as often as needed.

The exit status is 0 when the task succeeded, 1 when it failed, 2 when there was nothing to run.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from smallpond.execution.task.base import Task
from smallpond.execution.task.context import RuntimeContext
from smallpond.execution.task.ids import TaskId
from smallpond.execution.task.logs import level_number
from smallpond.execution.workitem import WorkStatus
from smallpond.io.filesystem import load

RETRY_COUNT_MAX = 1000
logger = logging.getLogger("smallpond.execution.task")


def arguments_parser() -> argparse.ArgumentParser:
    """The options, which are those of smallpond 0.15."""
    parser = argparse.ArgumentParser(
        prog="python -m smallpond.execution.task", description="Run one dumped task alone."
    )
    parser.add_argument("pickle_path", help="file with the task, or with several by key")
    parser.add_argument("-t", "--task_id", type=int, help="which task, if the file has several")
    parser.add_argument(
        "-r", "--retry_count", type=int, default=0, help="which attempt of that task (default 0)"
    )
    parser.add_argument("-o", "--output_path", help="folder for output and temporary files")
    parser.add_argument("-l", "--log_level", default="DEBUG", help="least level that is shown")
    return parser


def task_chosen(tasks: Iterable[Task], task_id: int, retry_count: int) -> Task | None:
    """The attempt that the options name."""
    for task in tasks:
        if task.id == TaskId(task_id) and task.retry_count == retry_count:
            return task
    return None


def context_restored(task: Task, pickle_path: Path) -> None:
    """Gives a task that travelled without its context the one of its job's folder."""
    if isinstance(getattr(task, "ctx", None), RuntimeContext):
        return
    for folder in pickle_path.resolve().parents:
        candidate = folder / "config" / "runtime_ctx.pickle"
        if candidate.exists():
            task.ctx = load(str(candidate))
            return
    raise SystemExit(f"{pickle_path} has no runtime context, and no folder above it has one")


def folders_fresh(task: Task, output_path: str | None) -> None:
    """Moves the task to the first attempt number whose folders nobody has used."""
    if output_path is None:
        task.output_root = task.ctx.staging_root
    else:
        task.output_root = str(Path(output_path, "output").absolute())
        # Temporary output would go to the job's staging folder whatever output_root says.
        task._temp_output = False
        task.ctx.temp_root = str(Path(output_path, "temp").absolute())
    for retry_count in range(RETRY_COUNT_MAX):
        task.retry_count = retry_count
        # Not temp_abspath, which makes the folder.
        temp = Path(task.ctx.temp_root, task.output_dirname)
        used = (temp, Path(task.final_output_abspath), Path(task.runtime_output_abspath))
        if not any(path.exists() for path in used):
            return
    raise SystemExit(f"{RETRY_COUNT_MAX} attempts of {task.key} have left folders: use -o")


def task_replayed(task: Task, output_path: str | None) -> WorkStatus:
    """Runs the task as if for the first time."""
    folders_fresh(task, output_path)
    task.status = WorkStatus.INCOMPLETE
    task.exception = None
    task.finish_time = None
    task.start_time = time.time()
    logger.info("start to debug: %s", task)
    logger.info("input data sets: %s", task.input_datasets)
    return task.exec()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = arguments_parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stdout,
        level=level_number(options.log_level),
        format="[%(asctime)s] %(levelname)s %(message)s",
        force=True,
    )
    path = Path(options.pickle_path)
    if not path.exists():
        logger.error("no such file: %s", path)
        return 2
    found = load(str(path))
    logger.info("loaded an object of %s from %s", type(found).__name__, path)
    task = found
    if isinstance(found, dict):
        if options.task_id is None:
            logger.error("%s has %d tasks: say which with -t", path, len(found))
            return 2
        task = task_chosen(found.values(), options.task_id, options.retry_count)
        if task is None:
            logger.error("no attempt %d of task %d", options.retry_count, options.task_id)
            return 2
    if not isinstance(task, Task):
        logger.error("%s holds a %s, not a task", path, type(task).__name__)
        return 2
    context_restored(task, path)
    status = task_replayed(task, options.output_path)
    if status == WorkStatus.SUCCEED:
        logger.info("%s succeeded in %.3f secs: %s", task.key, task.elapsed_time, task.output)
        return 0
    logger.error("%s failed: %s: %s", task.key, status.name, task.exception)
    return 1


if __name__ == "__main__":
    sys.exit(main())
