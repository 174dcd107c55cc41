"""Which tasks of a plan need not run, because the journal has their results.

A result is used when the identity is equal, its files are all there, and it was computed from the
very runs of its inputs that are used now. The last rule matters for tasks whose output differs from
run to run (a random shuffle): partitions of two different runs must never be mixed. So when an
input has to run again, everything computed from its earlier run has to as well. The results of
tasks that only move metadata point at files of their inputs, and are used only together with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smallpond.execution.journal import Journal, TaskRecord
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.plan import ExecutionPlan


def usable_records(plan: ExecutionPlan, journal: Journal) -> dict[str, TaskRecord]:
    """The records to use, by task key. Tasks not in it are not all needed: see `needed_tasks`."""
    order = plan.tasks_inputs_first()
    records: dict[str, TaskRecord] = {}
    for task in order:
        if task is plan.root_task:
            continue
        record = journal.find(task.identity)
        if record is None or not record.output_is_there():
            continue
        if _points_at_inputs(task) and not all(key in records for key in task.input_deps):
            continue
        records[task.key] = record
    if not records:
        return records
    _stale_remove(order, records)
    _pointers_remove(order, records)
    while True:
        must_run = needed_tasks(plan, records)
        touched = _descendants(order, must_run)
        wrong = [key for key in records if key in touched and key not in must_run]
        if not wrong:
            return records
        for key in wrong:
            del records[key]
        _pointers_remove(order, records)


def _points_at_inputs(task: Task) -> bool:
    """Whether the output is only a list of files that earlier tasks wrote."""
    return task.exec_on_scheduler or not task.self_contained_output


def _stale_remove(order: list[Task], records: dict[str, TaskRecord]) -> None:
    for task in order:
        record = records.get(task.key)
        if record is None:
            continue
        for dep_key, run_id in zip(task.input_deps, record.input_run_ids, strict=False):
            used = records.get(dep_key)
            if used is not None and used.run_id != run_id:
                del records[task.key]
                break


def _pointers_remove(order: list[Task], records: dict[str, TaskRecord]) -> None:
    for task in order:
        kept = not _points_at_inputs(task) or all(key in records for key in task.input_deps)
        if not kept:
            records.pop(task.key, None)


def needed_tasks(plan: ExecutionPlan, records: dict[str, TaskRecord]) -> set[str]:
    """The tasks that have to run: from the root down to where results are there."""
    needed: set[str] = set()
    stack = [plan.root_task]
    while stack:
        task = stack.pop()
        if task.key in needed or task.key in records:
            continue
        needed.add(task.key)
        stack.extend(task.input_deps.values())
    return needed


def _descendants(order: list[Task], of: set[str]) -> set[str]:
    """Everything computed from these tasks, itself not counted unless it is also below one."""
    touched: set[str] = set()
    for task in order:
        if any(key in of or key in touched for key in task.input_deps):
            touched.add(task.key)
    return touched
