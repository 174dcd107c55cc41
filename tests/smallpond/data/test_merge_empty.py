"""Outputs of tasks, merged, when some tasks wrote nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smallpond.common import DataNotFound
from smallpond.logical.dataset import ParquetDataSet


def test_a_task_that_wrote_nothing_is_merged_away(tmp_path: Path) -> None:
    """Goal: an empty partition does not fail its consumers. Method: merge the folders of two
    tasks, one empty. Oracle: the rows of the other; two empty ones have no files; a user's own
    pattern without a match is still an error.
    """
    for name in ("some", "none", "nothing"):
        (tmp_path / name).mkdir()
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "some" / "0.parquet")
    outputs = {path.name: ParquetDataSet(["*"], root_dir=str(path)) for path in tmp_path.iterdir()}
    merged = ParquetDataSet.merge([outputs["none"], outputs["some"]])
    assert merged.to_arrow_table().column("x").to_pylist() == [1, 2]
    assert ParquetDataSet.merge([outputs["none"], outputs["nothing"]]).empty
    with pytest.raises(DataNotFound):
        _ = ParquetDataSet.merge([outputs["some"], ParquetDataSet([f"{tmp_path}/x*"])]).num_rows
