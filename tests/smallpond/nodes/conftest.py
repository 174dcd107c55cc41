"""Plans of these tests run in this process, task after task, in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from smallpond.execution.pool.in_process import InProcessBackend
from smallpond.execution.scheduler import Scheduler
from smallpond.execution.task import ExecutionPlan, JobId, RuntimeContext
from smallpond.logical.node import LogicalPlan, Node
from smallpond.logical.planner import Planner

RunPlan = Callable[..., ExecutionPlan]


@pytest.fixture
def make_ctx(tmp_path: Path) -> Callable[..., RuntimeContext]:
    """A runtime context below the test's folder; options as RuntimeContext takes them."""

    def make(job_id: JobId | None = None, **options: Any) -> RuntimeContext:
        options.setdefault("num_executors", 0)
        options.setdefault("random_seed", 7)
        ctx = RuntimeContext(
            job_id or JobId.new(),
            datetime(2026, 1, 2, 3, 4, 5),
            str(tmp_path / "data"),
            console_log_level="ERROR",
            **options,
        )
        ctx.initialize("test")
        return ctx

    return make


@pytest.fixture(autouse=True)
def several_producers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even the little data of tests is divided among producers, as large data would be."""
    monkeypatch.setattr("smallpond.execution.task.split.SHARE_BYTES_MIN", 256)


@pytest.fixture
def run_plan(make_ctx: Callable[..., RuntimeContext]) -> RunPlan:
    """Run the plan below a node; the finished execution plan. `succeeds=False` expects failure."""

    def run(
        node: Node,
        *,
        succeeds: bool = True,
        runtime_ctx: RuntimeContext | None = None,
        max_fail_count: int = 0,
        **options: Any,
    ) -> ExecutionPlan:
        plan = Planner(runtime_ctx or make_ctx(**options)).create_exec_plan(
            LogicalPlan(node.ctx, node)
        )
        scheduler = Scheduler(plan, max_fail_count=max_fail_count, backend=InProcessBackend())
        assert scheduler.run() is succeeds, scheduler.failure
        if not succeeds:
            raise AssertionError(str(scheduler.failure))
        return plan

    return run
