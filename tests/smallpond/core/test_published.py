"""The published names and behaviours of tasks, contexts and work items."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import smallpond.execution.task as task_module
from smallpond.common import InjectedFault, NonzeroExitCode
from smallpond.execution.scheduler import ExecutorState, LocalExecutor, RemoteExecutor
from smallpond.execution.task import JobId, PartitionInfo, PerfStats, RuntimeContext, Task, TaskId
from smallpond.execution.workqueue import WorkBatch, WorkItem, WorkStatus
from smallpond.io.filesystem import dump, load
from tests.smallpond.core import plans
from tests.smallpond.core.plans import call_task, context, plan_of

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = [
    "JobId",
    "TaskId",
    "TaskRuntimeId",
    "PerfStats",
    "RuntimeContext",
    "Probe",
    "PartitionInfo",
    "Task",
    "ExecSqlQueryMixin",
    "DataSourceTask",
    "MergeDataSetsTask",
    "SplitDataSetTask",
    "PartitionProducerTask",
    "RepeatPartitionProducerTask",
    "UserDefinedPartitionProducerTask",
    "EvenlyDistributedPartitionProducerTask",
    "LoadPartitionedDataSetProducerTask",
    "PartitionConsumerTask",
    "RangePartitionTask",
    "PythonScriptTask",
    "ArrowComputeTask",
    "StreamOutput",
    "ArrowStreamTask",
    "ArrowBatchTask",
    "PandasComputeTask",
    "PandasBatchTask",
    "SqlEngineTask",
    "HashPartitionTask",
    "HashPartitionDuckDbTask",
    "HashPartitionArrowTask",
    "ProjectionTask",
    "DataSinkTask",
    "RootTask",
    "ExecutionPlan",
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names(name: str) -> None:
    """Goal: every task class of 0.15 is where it was. Oracle: it is there, a star-import has it."""
    assert isinstance(getattr(task_module, name), type)
    assert name in task_module.__all__


def test_nothing_heavy_is_imported_for_a_task() -> None:
    """Goal: metadata costs no import. Oracle: the modules of a process that made a task."""
    code = (
        "import sys; from smallpond.execution.task import RuntimeContext, Task\n"
        "from smallpond.execution.scheduler import Scheduler\n"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'duckdb', 'psutil'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_folders_of_a_job(tmp_path: Path) -> None:
    """Goal: 0.15's layout. Oracle: the names."""
    ctx = RuntimeContext(JobId(int=5), datetime(2025, 2, 3, 4, 5, 6), str(tmp_path))
    ctx.initialize("host")
    root = tmp_path / "2025-02-03-04-05-06.00000000-0000-0000-0000-000000000005"
    folders = {path.name for path in root.iterdir()}
    assert folders == {"config", "log", "output", "queue", "staging", "temp"}
    task = Task(ctx, [], [PartitionInfo()], output_name="named")
    assert task.output_dirname == f"named/{ctx.job_id}.000001.0.0"
    assert task.final_output_abspath == str(root / "output" / task.output_dirname)
    assert task.runtime_output_abspath == str(root / "staging" / task.output_dirname)
    assert task.output_filename == f"named-{ctx.job_id}.000001.0.0"
    unnamed = Task(ctx, [task], [PartitionInfo()])
    unnamed.node_id = 3
    assert unnamed.output_dirname == f"Task.3/{ctx.job_id}.000002.0.0"
    assert unnamed.final_output_abspath.startswith(str(root / "staging"))
    metadata = task.parquet_kv_metadata_str([PartitionInfo(2, 4, "hosts")])
    assert metadata["SMALLPOND:__task_key__"] == "Task-000001"
    assert metadata["SMALLPOND:hosts"] == "2" and metadata["SMALLPOND:@toplevel@"] == "0"


def test_exec_never_raises(tmp_path: Path) -> None:
    """Goal: a status instead of an exception. Oracle: status and exception of each end."""
    ctx = context(tmp_path)

    def ended(call: object) -> Task:
        task = call_task(ctx, call)  # type: ignore[arg-type]
        task.input_datasets = []
        task.exec()
        return task

    assert ended(plans.nothing).status == WorkStatus.SUCCEED
    assert ended(plans.false_once).status == WorkStatus.FAILED
    crashed = ended(plans.fail_always)
    assert crashed.status == WorkStatus.CRASHED and isinstance(crashed.exception, KeyError)
    left = ended(plans.leave_once)
    assert isinstance(left.exception, NonzeroExitCode)
    assert left.oom(nonzero_exitcode_as_oom=True) and not left.oom()


def test_scratch_folders_come_and_go(tmp_path: Path) -> None:
    """Goal: a temporary folder exists while a task that wants it runs. Oracle: the file system."""
    ctx = context(tmp_path)
    seen: list[bool] = []

    def look(task: Task) -> None:
        seen.append(os.path.isdir(task.temp_abspath))

    task = call_task(ctx, look)
    task.input_datasets = []
    assert not os.path.exists(task.temp_abspath)
    assert task.exec() == WorkStatus.SUCCEED
    assert seen == [True] and not os.path.exists(task.temp_abspath)


def test_random_numbers_are_the_tasks_own(tmp_path: Path) -> None:
    """Goal: a task in the driver draws its own numbers and leaves the driver's alone. Oracle: the
    same numbers at each attempt, and the driver's sequence goes on undisturbed."""
    import random

    drawn: list[float] = []

    def draw(_task: Task) -> None:
        drawn.append(random.random())

    random.seed(5)
    expected = [random.random() for _ in range(2)]
    random.seed(5)
    first = random.random()
    for _ in range(2):
        ctx = context(tmp_path)
        task = call_task(ctx, draw)
        task.input_datasets = []
        task.retry_count = len(drawn)
        assert task.exec() == WorkStatus.SUCCEED
    assert [first, random.random()] == expected
    assert drawn[0] == drawn[1] not in expected


def test_faults_are_injected_into_first_attempts(tmp_path: Path) -> None:
    """Goal: 0.15's fault injection. Oracle: some tasks crash, none after a failure."""
    ctx = context(tmp_path, fault_inject_prob=1.0)
    tasks = [call_task(ctx, plans.nothing) for _ in range(50)]
    for task in tasks:
        task.input_datasets = []
        task.exec()
    errors = [task.exception for task in tasks if task.exception is not None]
    assert errors and all(isinstance(error, InjectedFault) for error in errors)
    again = call_task(ctx, plans.nothing)
    again.input_datasets, again.fail_count = [], 2
    assert again.exec() == WorkStatus.SUCCEED


def test_small_records() -> None:
    """Goal: texts and comparisons as published. Oracle: 0.15's."""
    assert str(TaskId(7)) == "000007"
    assert PartitionInfo(1, 4, "a") == PartitionInfo(1, 8, "a") != PartitionInfo(2, 4, "a")
    assert sorted([PartitionInfo(1, 2, "b"), PartitionInfo(0, 2, "b"), PartitionInfo()])[0] == (
        PartitionInfo()
    )
    assert str(PartitionInfo(1, 4, "a")) == "a[1/4]"
    assert str(PerfStats(1, 2, 3, 4, 5, 6, 7, 8, 9)).startswith("cnt=1.0, sum=2.0")
    assert [state.name for state in ExecutorState][:2] == ["GOOD", "FAIL"]
    assert issubclass(LocalExecutor, RemoteExecutor)


def test_batches_stop_at_the_first_failure() -> None:
    """Goal: a batch is one item. Oracle: its limits, and the states of its parts."""

    class Failing(WorkItem):
        def run(self) -> bool:
            return False

    works = [WorkItem("a", 1, 0, 10), Failing("b", 4, 0, 5), WorkItem("c", 1, 0, 5)]
    batch = WorkBatch("x", works)
    assert (batch.cpu_limit, batch.memory_limit) == (4, 10)
    assert batch.exec() == WorkStatus.FAILED
    states = [work.status for work in works]
    assert states == [WorkStatus.SUCCEED, WorkStatus.FAILED, WorkStatus.INCOMPLETE]


def test_everything_can_be_pickled(tmp_path: Path) -> None:
    """Goal: contexts and deep plans travel as files. Oracle: what comes back is the same plan."""
    ctx = context(tmp_path)
    chain: list[Task] = [call_task(ctx, plans.nothing)]
    for _ in range(300):
        chain.append(call_task(ctx, plans.nothing, chain[-1:]))
    plan = plan_of(ctx, chain[-1:])
    dump(plan, str(tmp_path / "plan"))
    again = load(str(tmp_path / "plan"))
    assert list(again.tasks) == list(plan.tasks)
    assert len(again.tasks_inputs_first()) == 302
    assert again.ctx.job_root == ctx.job_root
