"""The files that data sets stand for, when some of them stand for parts of files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smallpond.io.arrow import RowRange
    from smallpond.logical.dataset import DataSet


def source_files(
    datasets: Sequence[DataSet], scratch_dir: str, pool: ThreadPoolExecutor
) -> list[str]:
    """The paths of files that hold exactly the rows of `datasets`, in their order.

    Rows of parts that do not make up whole files are written to `scratch_dir`.
    """
    found = list(pool.map(_files_and_parts, datasets))
    parts = [part for _, some in found for part in some]
    if not parts:
        return [path for paths, _ in found for path in paths]
    completed = _completed(parts)
    files: list[str] = []
    for paths, some in found:
        files += paths
        for part in some:
            key = (part.path, part.begin, part.end)
            if key in completed:
                # The first range of a file stands for the file; the others are in it.
                if part.begin == 0 and part.num_rows:
                    files.append(part.path)
            elif part.num_rows:
                files.append(_written_part(part, scratch_dir, len(files)))
    return files


def _files_and_parts(dataset: DataSet) -> tuple[list[str], list[RowRange]]:
    ranges: list[RowRange] | None = getattr(dataset, "_resolved_row_ranges", None)
    if ranges is None:
        return list(dataset.resolved_paths), []
    paths = [one.path for one in ranges if one.num_rows == one.file_num_rows]
    return paths, [one for one in ranges if one.num_rows != one.file_num_rows]


def _completed(parts: list[RowRange]) -> set[tuple[str, int, int]]:
    """The ranges of those files whose ranges follow one another from the first row to the last."""
    by_path: dict[str, list[RowRange]] = {}
    for part in parts:
        if part.num_rows:
            by_path.setdefault(part.path, []).append(part)
    completed = set()
    for path, some in by_path.items():
        position = 0
        for part in sorted(some, key=lambda one: one.begin):
            if part.begin != position:
                break
            position = part.end
        else:
            if position == some[0].file_num_rows:
                completed |= {(path, part.begin, part.end) for part in some}
    return completed


def _written_part(part: RowRange, scratch_dir: str, index: int) -> str:
    from pyarrow import parquet

    from smallpond.io.arrow import build_batch_reader_from_files

    os.makedirs(scratch_dir, exist_ok=True)
    name, suffix = os.path.splitext(os.path.basename(part.path))
    path = os.path.join(scratch_dir, f"{name}.{index}.{part.begin}-{part.end}{suffix}")
    reader: Any = build_batch_reader_from_files([part])
    with parquet.ParquetWriter(path, reader.schema, compression="ZSTD") as writer:
        for batch in reader:
            writer.write_batch(batch)
    return path
