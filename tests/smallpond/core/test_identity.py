"""The identity of tasks: what must change it, and what must not."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from smallpond.execution.task import Task
from smallpond.execution.task.identity import plan_identities
from tests.smallpond.core.plans import call_task, context, nothing, plan_of

ROOT = Path(__file__).resolve().parents[3]


def identity_of(source: str, folder: Path, name: str = "call") -> str:
    """The identity of a task that calls `call` of a module with this source, in a new process."""
    (folder / "users.py").write_text(textwrap.dedent(source))
    code = (
        "from pathlib import Path; import users\n"
        "from tests.smallpond.core.plans import call_task, context\n"
        f"ctx = context(Path({str(folder)!r}) / 'job')\n"
        f"print(call_task(ctx, users.{name}).identity)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}:{folder}"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


BASE = """
    import json
    FACTOR = 2
    class Scale:
        factor = 3
        def apply(self, value):
            return value * self.factor
    def helper(value):
        return value + 1
    def make(offset):
        def inner(task):
            return helper(offset) * FACTOR + Scale().apply(1) + len(json.dumps({}))
        return inner
    call = make(5)
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value + 1", "value + 2"),
        ("FACTOR = 2", "FACTOR = 3"),
        ("factor = 3", "factor = 4"),
        ("value * self.factor", "value / self.factor"),
        ("make(5)", "make(6)"),
        ("helper(offset) * FACTOR", "helper(offset) - FACTOR"),
        ("json.dumps({})", "json.loads('[]')"),
        ("def helper(value):", "def helper(value, more=1):"),
    ],
)
def test_edits_of_code_change_it(tmp_path: Path, old: str, new: str) -> None:
    """Goal: no result of other code. Method: edit what a function reaches: a helper, a constant,
    a class, a closure, a default. Oracle: the identity differs."""
    assert old in BASE
    assert identity_of(BASE, tmp_path) != identity_of(BASE.replace(old, new), tmp_path)


HELPERS = """
    import more
    def inner(value):
        return more.deep(value)
"""
MORE = """
    def deep(value):
        return value
"""
USES = {
    "module": "import helpers\ndef call(task): return helpers.inner(1)",
    "name": "from helpers import inner\ndef call(task): return inner(1)",
    "local": "def call(task):\n    import helpers\n    return helpers.inner(1)",
    "cached": (
        "import functools, helpers\n@functools.lru_cache\n"
        "def cached(value): return helpers.inner(value)\ndef call(task): return cached(1)"
    ),
    "wrapped": (
        "import contextlib, helpers\n@contextlib.contextmanager\n"
        "def managed(): yield helpers.inner(1)\ndef call(task): return managed()"
    ),
    "method": (
        "import helpers\nclass Model:\n    def __call__(self, task): return helpers.inner(1)\n"
        "call = Model()"
    ),
    "udf": (
        "import helpers\nfrom smallpond.logical.udf import UDFType, udf\n"
        "def value(x): return helpers.inner(x)\n"
        "function = udf(params=[UDFType.BIGINT], return_type=UDFType.BIGINT)(value)\n"
        "def call(task): return function"
    ),
}


@pytest.mark.parametrize("use", sorted(USES))
def test_edits_of_modules_change_it(tmp_path: Path, use: str) -> None:
    """Goal: code in other files of the user counts, however it is reached. Method: edit a module
    that is used by a module that the task uses. Oracle: the identity follows, and only then."""
    (tmp_path / "helpers.py").write_text(textwrap.dedent(HELPERS))
    (tmp_path / "more.py").write_text(textwrap.dedent(MORE))
    first = identity_of(USES[use], tmp_path)
    assert first == identity_of(USES[use], tmp_path)
    (tmp_path / "more.py").write_text(textwrap.dedent(MORE).replace("value\n", "value + 1\n"))
    assert first != identity_of(USES[use], tmp_path)


def test_places_and_comments_do_not_change_it(tmp_path: Path) -> None:
    """Goal: a resumed job is not redone for nothing. Method: the same source in a new process,
    with lines and an unrelated function added. Oracle: equal identities."""
    moved = "\n    # a remark\n\n    def unrelated():\n        return 0\n" + BASE
    assert identity_of(BASE, tmp_path) == identity_of(moved, tmp_path)


def test_recursion_ends(tmp_path: Path) -> None:
    """Goal: functions that call each other have an identity. Oracle: stable, and true to edits."""
    source = """
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def call(task): return even(4)
    """
    first = identity_of(source, tmp_path)
    assert first == identity_of(source, tmp_path)
    assert first != identity_of(source.replace("n != 0", "n > 0"), tmp_path)


class Valued(Task):
    """A task with parameters."""

    def __init__(self, *args: Any, value: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.value = value


def test_parameters_and_inputs_change_it(tmp_path: Path) -> None:
    """Goal: what a task is given counts, and what its inputs are given. Oracle: all differ."""
    ctx = context(tmp_path)
    from smallpond.execution.task import PartitionInfo

    def made(value: Any, part: int = 0, deps: tuple[Task, ...] = ()) -> Task:
        infos = [PartitionInfo(), PartitionInfo(part, 4, "part")]
        return Valued(ctx, deps, infos, value=value)

    values: list[Any] = [1, 1.0, "1", b"1", True, None, [1], (1,), {1}, {1: 1}, 10**20]
    values += [functools.partial(nothing), b"1" * 100, b"1" * 101]
    tasks = [made(value) for value in values] + [made(1, 1)]
    tasks += [made(1, deps=(tasks[0],)), made(1, deps=(tasks[1],))]
    assert len({task.identity for task in tasks}) == len(tasks)
    assert made({"a": {1, 2, 3}}).identity == made({"a": {3, 2, 1}}).identity


def test_limits_and_ids_do_not_change_it(tmp_path: Path) -> None:
    """Goal: more memory or an inserted task does not redo a job. Oracle: equal identities."""
    ctx = context(tmp_path)
    one = call_task(ctx, nothing)
    other = call_task(ctx, nothing, cpu_limit=2, memory_limit=1 << 30)
    other.node_id, other.retry_count = 7, 2
    assert one.identity == other.identity


def test_equal_tasks_of_a_plan_are_told_apart(tmp_path: Path) -> None:
    """Goal: two equal tasks have two results. Oracle: identities differ, and are the same in the
    same plan of another run."""
    found = []
    for job in (1, 2):
        ctx = context(tmp_path, job=job)
        tasks = [call_task(ctx, nothing) for _ in range(3)]
        plan_identities(plan_of(ctx, tasks))
        found.append([task.identity for task in tasks])
    assert len(set(found[0])) == 3
    assert found[0] == found[1]


def test_source_files_count_by_size_and_time(tmp_path: Path) -> None:
    """Goal: changed inputs redo a job. Oracle: the identity follows the file's state."""
    from smallpond.execution.task import PartitionInfo
    from smallpond.logical.dataset import FileSet

    ctx = context(tmp_path)
    path = tmp_path / "input.bin"

    def identity() -> str:
        return Valued(ctx, (), [PartitionInfo()], value=FileSet([str(path)])).identity

    path.write_bytes(b"abc")
    first = identity()
    assert first == identity()
    os.utime(path, ns=(1, 1))
    touched = identity()
    path.write_bytes(b"abcd")
    assert len({first, touched, identity()}) == 3
