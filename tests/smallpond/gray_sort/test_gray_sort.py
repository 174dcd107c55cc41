"""GraySort from end to end on the engine, and that its verdict can be bad."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from benchmarks.gray_sort import Options, options_of
from benchmarks.smallpond.crc import checksum
from benchmarks.smallpond.gensort import records
from benchmarks.smallpond.gray_tasks import key_order, table_of, validate_whole
from benchmarks.smallpond.valsort import summarised

ROOT = Path(__file__).resolve().parents[3]


def sorted_by_command(place: Path, *arguments: str) -> tuple[str, list[Path]]:
    """Runs the benchmark: what it printed, and the files of sorted records in order."""
    command = [sys.executable, "-m", "benchmarks.gray_sort", "--data_root", str(place), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(place.rglob("output/sorted_records/**/*.dat"), key=lambda path: path.name)
    return done.stdout, files


@pytest.mark.parametrize(
    ("arguments", "is_ascii", "skewed"),
    [
        (["-t", "3"], False, False),
        (["--skewed", "-t", "4", "-n", "3"], False, True),
        (["--ascii", "--skewed", "-s", "duckdb", "-t", "5"], True, True),
        (["--splits", "sampled", "-s", "polars"], False, False),
    ],
)
def test_one_megabyte_is_sorted(
    tmp_path: Path, arguments: list[str], is_ascii: bool, skewed: bool
) -> None:
    """Goal: generate, divide, sort, validate. Oracle: the records themselves, sorted in memory."""
    printed, files = sorted_by_command(tmp_path, "--size", "1MB", *arguments)
    expected = records(0, 10_000, is_ascii=is_ascii, skewed=skewed)
    found = b"".join(path.read_bytes() for path in files)
    rows = [found[at : at + 100] for at in range(0, len(found), 100)]
    assert [row[:10] for row in rows] == sorted(row[:10] for row in rows)
    assert sorted(rows) == sorted(row.tobytes() for row in expected)
    assert f"Checksum: {checksum(expected):x}\n" in printed
    assert "SUCCESS - all records are in order" in printed


def test_given_files_are_sorted(tmp_path: Path) -> None:
    """Goal: input that exists. Oracle: its count and checksum in the verdict."""
    rows = records(77, 3_000)
    pq.write_table(table_of(rows), tmp_path / "records.parquet")
    printed, _ = sorted_by_command(tmp_path, "-i", str(tmp_path / "records.parquet"))
    assert f"Records: 3000\nChecksum: {checksum(rows):x}\n" in printed


@pytest.mark.parametrize("fault", ["", "lost", "order"])
def test_verdict_finds_planted_faults(tmp_path: Path, fault: str) -> None:
    """Goal: a bad sort does not pass. Oracle: an ERROR for each fault, none without."""
    rows = records(0, 1_000)
    rows = rows[key_order(rows[:, :10])]
    (tmp_path / "in.count").write_text(f"1000 {checksum(rows):x}")
    parts = [rows[:500], rows[500:]]
    if fault == "lost":
        parts[1] = parts[1][1:]
    for name, part in zip("01" if fault != "order" else "10", parts, strict=True):
        (tmp_path / f"{name}.sum").write_bytes(summarised(part).packed())
    datasets = [
        SimpleNamespace(resolved_paths=[str(path) for path in tmp_path.glob(pattern)])
        for pattern in ("*.sum", "*.count")
    ]
    assert validate_whole(None, datasets, str(tmp_path))
    assert ("ERROR" in (tmp_path / "verdict.txt").read_text()) == bool(fault)


def test_partitions_fit_the_memory_of_a_sort() -> None:
    """Goal: any size. Oracle: a partition is at most a quarter of its memory."""
    given = Namespace(
        **{name: getattr(Options(0), name) for name in Options.__dataclass_fields__},
        input_paths=[],
        cpus_per_node=2,
        memory_per_node=16 << 30,
    )
    given.total_bytes, given.num_data_partitions, given.num_sort_partitions = 10**11, None, None
    given.sort_memory_limit = 1 << 30
    options = options_of(given, 4)
    assert options.num_data_partitions == 8
    assert options.total_bytes / options.num_sort_partitions <= (1 << 30) / 4
