"""The files that data sets stand for, when some of them stand for parts of files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any

from smallpond.execution.shuffle.restore import is_restored, write_parquet
from smallpond.logical.dataset.sql import open_connection

if TYPE_CHECKING:
    from smallpond.io.arrow import RowRange
    from smallpond.logical.dataset import DataSet


def source_files(
    datasets: Sequence[DataSet], scratch_dir: str, pool: ThreadPoolExecutor
) -> list[str]:
    """The paths of files that hold exactly the rows of `datasets`, in their order.

    Rows of parts that do not make up whole files are written to `scratch_dir`.
    """
    restored = [is_restored(dataset) for dataset in datasets]
    plain = [one for one, again in zip(datasets, restored, strict=True) if not again]
    looked = iter(list(pool.map(_files_and_parts, plain)))
    found = [([], []) if again else next(looked) for again in restored]
    parts = [part for _, some in found for part in some]
    if not parts and not any(restored):
        return [path for paths, _ in found for path in paths]
    completed = _completed(parts)
    files: list[str] = []
    for dataset, again, (paths, some) in zip(datasets, restored, found, strict=True):
        if again and not dataset.empty:
            files.append(_written_again(dataset, scratch_dir, len(files)))
        files += paths
        pending = []
        for part in some:
            if (part.path, part.begin, part.end) not in completed:
                pending.append(part)
            elif part.begin == 0 and part.num_rows:
                # The first range of a file stands for the file; the others are in it.
                files.append(part.path)
        files += _written_parts(pending, scratch_dir, len(files))
    return files


def _written_again(dataset: DataSet, scratch_dir: str, number: int) -> str:
    """The rows as a file that has their types, which the data set's own files have not."""
    os.makedirs(scratch_dir, exist_ok=True)
    name, suffix = os.path.splitext(os.path.basename(dataset.resolved_paths[0]))
    path = os.path.join(scratch_dir, f"{name}.{number}.restored{suffix}")
    with contextlib.closing(open_connection()) as conn:
        conn.execute("SET threads TO 1").fetchall()
        query = f"SELECT * FROM {dataset.sql_query_fragment(None, conn)}"
        write_parquet(conn, query, path, COMPRESSION="'zstd'")
    return path


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


def _written_parts(parts: Sequence[RowRange], scratch_dir: str, index: int) -> list[str]:
    """The rows of parts as few files: one for all that follow each other with the same columns.

    A partition of a shuffle is a part of each producer's file, and becomes one file.
    """
    from pyarrow import parquet

    from smallpond.io.arrow import build_batch_reader_from_files

    def schema_of(part: RowRange) -> Any:
        return parquet.read_schema(part.path).remove_metadata()

    written: list[str] = []
    full = [part for part in parts if part.num_rows]
    for _, some in groupby(full, schema_of):
        group = list(some)
        os.makedirs(scratch_dir, exist_ok=True)
        name, suffix = os.path.splitext(os.path.basename(group[0].path))
        begin, end = group[0].begin, group[0].end
        number = index + len(written)
        path = os.path.join(scratch_dir, f"{name}.{number}.{begin}-{end}{suffix}")
        reader: Any = build_batch_reader_from_files(group)
        with parquet.ParquetWriter(path, reader.schema, compression="ZSTD") as writer:
            for batch in reader:
                writer.write_batch(batch)
        written.append(path)
    return written
