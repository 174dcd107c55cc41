"""Rows and bytes of files: DuckDB, where Arrow is not loaded, says what Arrow says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from smallpond.common import CorruptFile, DataNotFound
from smallpond.io.arrow import file_size
from smallpond.io.arrow.file_size import FileSize, read_file_sizes

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Nested and flat columns, many row groups, no rows, an awkward name."""
    rows = [
        {"number": i, "text": "x" * (i % 7), "list": list(range(i % 3)), "struct": {"a": i}}
        for i in range(1000)
    ]
    table = pa.Table.from_pylist(rows)
    paths = [str(tmp_path / name) for name in ("b.parquet", "it's a.parquet", "empty.parquet")]
    parquet.write_table(table, paths[0], row_group_size=100)
    parquet.write_table(table.slice(0, 10), paths[1], compression="zstd")
    parquet.write_table(table.slice(0, 0), paths[2])
    return paths


def test_both_readers_agree(files: list[str]) -> None:
    """Goal: it does not matter which library reads the footers. Oracle: Arrow's, file by file, in
    the order of the question."""
    for asked in (files, files[::-1], files[:1], files[:2] * 2):
        assert file_size._sizes_by_duckdb(asked) == [
            file_size._size_by_arrow(path, None) for path in asked
        ]


def test_files_that_duckdb_refuses_are_left_to_arrow(files: list[str], tmp_path: Path) -> None:
    """Goal: a damaged or missing file gets its own error, a name with a wild card its own file.
    Oracle: no answer of DuckDB; the error of Arrow for that file alone."""
    damaged, starred = tmp_path / "damaged.parquet", tmp_path / "b*.parquet"
    damaged.write_bytes(b"PAR1 this is none PAR1")
    starred.write_bytes(Path(files[1]).read_bytes())
    for bad in (damaged, tmp_path / "missing.parquet", starred):
        assert file_size._sizes_by_duckdb([files[0], str(bad)]) is None
    sound, error, other = read_file_sizes([files[0], str(damaged), str(starred)])
    assert isinstance(sound, FileSize) and sound.num_rows == 1000
    assert isinstance(error, CorruptFile) and str(damaged) in str(error)
    assert isinstance(other, FileSize) and other.num_rows == 10
    with pytest.raises(DataNotFound, match="missing"):
        read_file_sizes([str(tmp_path / "missing.parquet")])


def test_arrow_is_not_loaded_for_it(files: list[str]) -> None:
    """Goal: a small job in SQL does not pay for Arrow's import. Oracle: `sys.modules` of a fresh
    process, and the right numbers."""
    code = (
        "import sys\n"
        "from smallpond.logical.dataset import ParquetDataSet\n"
        "print(ParquetDataSet(sys.argv[1:]).num_rows, 'pyarrow' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1010", "False"]


def test_a_driver_plans_without_arrow(files: list[str], tmp_path: Path) -> None:
    """Goal: planning a job stays as quick as it is. Method: join, aggregate and write in a fresh
    process. Oracle: its `sys.modules`, and the rows that were written."""
    code = (
        "import sys, smallpond\n"
        "source, target, root = sys.argv[1:]\n"
        "sp = smallpond.init(data_root=root, progress=False)\n"
        "rows = sp.read_parquet(source).join(sp.read_parquet(source), on='number')\n"
        "rows.group_by('number % 7 as g').agg(n='count(*)').write_parquet(target)\n"
        "sp.shutdown()\n"
        "print('pyarrow' in sys.modules, 'numpy' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    target = tmp_path / "out"
    command = [sys.executable, "-c", code, files[0], str(target), str(tmp_path / "root")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert parquet.read_table(target).num_rows == 7
