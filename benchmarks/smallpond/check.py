"""Whether a peer's output is right: the count and a checksum that does not depend on order.

Sorted records get valsort's verdict over all files in order. A shuffle must have every row once
and must not have kept the order. All other outputs are compared with what the first peer gave:
their columns are cast to common types, as peers choose widths differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.smallpond.valsort import Summary, joined_all, summarised

COLUMNS = {
    "wordcount": "word::varchar, n::bigint",
    "join": "g::bigint, n::bigint, s::bigint",
    "join-skew": "g::bigint, n::bigint, s::bigint",
    "shuffle": "id::bigint, label::bigint, weight::double, text::varchar",
    "partition": "k::bigint, a::bigint, b::double, c::varchar",
    "startup": "a::bigint",
}
NEIGHBOURS_SHARE_MAX = 0.01


@dataclass(frozen=True)
class Output:
    """What a peer wrote."""

    row_count: int
    checksum: str
    file_count: int
    size_bytes: int
    # What is wrong with the output by itself; empty where nothing is.
    fault: str = ""


def output_files(directory: Path) -> list[Path]:
    """The Parquet files of an output, in the order of their names."""
    return sorted(path for path in directory.rglob("*.parquet") if path.is_file())


def looked_at(work: str, directory: Path) -> Output:
    """Reads a whole output."""
    files = output_files(directory)
    size_bytes = sum(path.stat().st_size for path in files)
    if not files:
        return Output(0, "", 0, 0, "no output")
    if work == "sort":
        summary = sorted_summary(files)
        fault = f"{summary.unordered_count} out of order" if summary.unordered_count else ""
        checksum = f"{summary.checksum:x}"
        return Output(summary.record_count, checksum, len(files), size_bytes, fault)
    row_count, checksum = table_checksum(files, COLUMNS[work])
    fault = "in the input's order" if work == "shuffle" and kept_order(files) else ""
    return Output(row_count, checksum, len(files), size_bytes, fault)


def table_checksum(files: list[Path], columns: str) -> tuple[int, str]:
    """The number of rows, and the sum of the hashes of all rows."""
    names = [str(path) for path in files]
    query = (
        f"select count(*), sum(hash({columns})::hugeint)::varchar "
        "from read_parquet($1, hive_partitioning = false)"
    )
    with duckdb.connect() as connection:
        found = connection.execute(query, [names]).fetchone()
    assert found is not None
    return int(found[0]), str(found[1])


def kept_order(files: list[Path]) -> bool:
    """Whether more ids than chance allows stand behind the one before them."""
    followed = total = 0
    for path in files:
        ids: NDArray[np.int64] = pq.read_table(path, columns=["id"])["id"].to_numpy()
        followed += int(np.count_nonzero(np.diff(ids) == 1))
        total += len(ids)
    return followed > max(3, total * NEIGHBOURS_SHARE_MAX)


def sorted_summary(files: list[Path]) -> Summary:
    """valsort's verdict over files in the order of their names, or else of their first records.

    Not every peer's names say the order of its files.
    """
    summaries = [summary for path in files if (summary := _file_summary(path)) is not None]
    by_name = joined_all(summaries)
    if by_name.unordered_count == 0:
        return by_name
    return joined_all(sorted(summaries, key=lambda summary: summary.first_record))


def _file_summary(path: Path) -> Summary | None:
    batches = pq.ParquetFile(path).iter_batches(1 << 17, columns=["key", "payload"])
    summaries = [
        summarised(np.concatenate([_bytes_of(batch, "key"), _bytes_of(batch, "payload")], axis=1))
        for batch in batches
        if batch.num_rows
    ]
    return joined_all(summaries) if summaries else None


def _bytes_of(batch: pa.RecordBatch, name: str) -> NDArray[np.uint8]:
    column = batch.column(name).cast(pa.large_binary())
    offsets = np.frombuffer(column.buffers()[1], dtype=np.int64)
    offsets = offsets[column.offset : column.offset + len(column) + 1]
    data = np.frombuffer(column.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
    return data.reshape(len(column), -1)
