"""The journal: torn files, damaged files, two owners, and what is taken from it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smallpond.common import SmallpondError
from smallpond.execution.journal import Journal, TaskRecord, journal_close, records_read

ROOT = Path(__file__).resolve().parents[3]


def record(number: int, files: tuple[tuple[str, int], ...] = ()) -> TaskRecord:
    return TaskRecord(
        identity=f"identity {number}",
        key=f"Task-{number:06d}",
        run_id=f"{number:06d}.0.0",
        input_run_ids=(),
        folder=None,
        files=files,
        dataset_pickle=b"N.",
    )


def written(path: Path, count: int) -> bytes:
    journal = Journal(str(path))
    for number in range(count):
        journal.add(record(number))
    journal.close()
    return path.read_bytes()


def test_a_journal_torn_at_every_byte(tmp_path: Path) -> None:
    """Goal: a crash in the middle of a write loses that record at most. Method: cut the file at
    each of its bytes, open it, add a record, read it again. Oracle: a prefix of what was written,
    then the added one."""
    whole = written(tmp_path / "journal", 3)
    names = [f"identity {number}" for number in range(3)]
    torn = tmp_path / "torn"
    for size in range(len(whole) + 1):
        torn.write_bytes(whole[:size])
        journal = Journal(str(torn))
        found = [name for name in names if journal.find(name) is not None]
        assert found == names[: len(found)], size
        if size == len(whole):
            assert found == names
        journal.add(record(9))
        journal.close()
        records, good = records_read(torn.read_bytes())
        assert good == torn.stat().st_size, size
        assert records[-1] == record(9), size


def test_damage_is_found(tmp_path: Path) -> None:
    """Goal: a flipped bit is never believed. Method: flip one bit of each byte of the second
    record. Oracle: only records before it are read."""
    path = tmp_path / "journal"
    first = len(written(path, 1))
    path.unlink()
    whole = bytearray(written(path, 2))
    for place in range(first, len(whole)):
        whole[place] ^= 0x10
        records, _ = records_read(bytes(whole))
        assert [one.key for one in records if isinstance(one, TaskRecord)] == ["Task-000000"]
        whole[place] ^= 0x10


def test_each_run_has_its_epoch(tmp_path: Path) -> None:
    """Goal: attempts of two runs never share a folder. Oracle: epochs count up."""
    epochs = []
    for _ in range(3):
        journal = Journal(str(tmp_path / "journal"))
        epochs.append(journal.epoch)
        journal.close()
    assert epochs == [0, 1, 2]


def test_a_job_has_one_driver(tmp_path: Path) -> None:
    """Goal: two processes never run the same job. Method: open the journal in a second process.
    Oracle: the error says who holds it; after closing, it opens."""
    path = tmp_path / "journal"
    code = (
        "import sys; from smallpond.execution.journal import Journal\n"
        "Journal(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(SmallpondError, match="another process is running this job"):
            Journal(str(path))
        other.stdin.close()
        other.wait()
    Journal(str(path)).close()


def test_records_become_durable_by_themselves(tmp_path: Path) -> None:
    """Goal: nobody has to flush. Method: add, then look at the file. Oracle: the record is there
    within a second, before anything was flushed or closed."""
    path = tmp_path / "journal"
    journal = Journal(str(path))
    journal.add(record(1))
    deadline = time.monotonic() + 1
    while record(1) not in records_read(path.read_bytes())[0]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    journal.close()


def test_a_result_counts_only_with_its_files(tmp_path: Path) -> None:
    """Goal: lost or shortened output is made again. Oracle: the check of a record."""
    file = tmp_path / "part.parquet"
    file.write_bytes(b"x" * 10)
    kept = record(1, ((str(file), 10),))
    assert kept.output_is_there()
    file.write_bytes(b"x" * 9)
    assert not kept.output_is_there()
    file.unlink()
    assert not kept.output_is_there()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    """Goal: a session may close what a scheduler closed. Oracle: no error, no open file."""
    from tests.smallpond.core.plans import call_task, context, nothing, plan_of, watched

    ctx = context(tmp_path)
    scheduler, _ = watched(plan_of(ctx, [call_task(ctx, nothing)]))
    assert scheduler.run()
    journal_close(ctx)
    journal_close(ctx)
    assert not [
        one
        for one in Path("/proc/self/fd").iterdir()
        if one.is_symlink() and os.readlink(one) == ctx.journal_path
    ]
