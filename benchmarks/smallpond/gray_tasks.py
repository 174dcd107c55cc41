"""What the tasks of a GraySort do: generate records, sort a partition, judge the output.

Records travel as two binary columns, `key` (10 bytes) and `payload` (90); sorted partitions are
files of plain 100-byte records, as valsort wants them. A partition is sorted in memory.

Invariant: the files of the sorted partitions, in the order of their names, are the sorted whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.smallpond import gensort
from benchmarks.smallpond.crc import checksum
from benchmarks.smallpond.gensort import KEY_BYTES, RECORD_BYTES, Records
from benchmarks.smallpond.valsort import joined_all, summaries_in, summarised_file

DIMENSION = "key_range"
WRITE_COUNT = 1 << 14
READ_COUNT = 1 << 17
SCHEMA = pa.schema([("key", pa.binary()), ("payload", pa.binary())])


def table_of(rows: Records) -> pa.Table:
    """Records as columns."""
    columns = [rows[:, :KEY_BYTES], rows[:, KEY_BYTES:]]
    return pa.table([_binary_column(column) for column in columns], schema=SCHEMA)


def _binary_column(rows: Records) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    fixed = pa.Array.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, buffer])
    return fixed.cast(pa.binary())


def bytes_of(column: pa.Array) -> Records:
    """A binary column whose values have one length, as rows of bytes, not copied."""
    column = column.cast(pa.large_binary())
    offsets = np.frombuffer(column.buffers()[1], dtype=np.int64)
    offsets = offsets[column.offset : column.offset + len(column) + 1]
    if len(column) == 0:
        return np.empty((0, 0), dtype=np.uint8)
    data = np.frombuffer(column.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
    return data.reshape(len(column), -1)


def records_of(batch: pa.RecordBatch | pa.Table) -> Records:
    """Columns as records of 100 bytes."""
    columns = [bytes_of(_whole(batch[name])) for name in ("key", "payload")]
    return np.concatenate(columns, axis=1)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        joined = column.cast(pa.large_binary()).combine_chunks()
        return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
    return column


def generate(
    runtime_ctx: Any,
    readers: list[pa.RecordBatchReader],
    *,
    batch_count: int,
    is_ascii: bool,
    skewed: bool,
) -> Iterator[Any]:
    """Makes the records of the ranges that it reads: (begin_at, num_records)."""
    from smallpond.execution.task import StreamOutput

    for index, batch in enumerate(readers[0]):
        for begin, count in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            for rows in gensort.blocks(
                begin, count, block_count=batch_count, is_ascii=is_ascii, skewed=skewed
            ):
                runtime_ctx.task.add_elapsed_time("generate records (secs)")
                yield table_of(rows)
        yield StreamOutput(SCHEMA.empty_table(), batch_indices=[index])


def sort_partition(runtime_ctx: Any, datasets: list[Any], output_path: str, *, engine: str) -> bool:
    """Sorts one range of keys in memory, and writes its file."""
    task = runtime_ctx.task
    count = datasets[0].num_rows
    task.perf_metrics["num input rows"] += count
    written = 0
    with (Path(output_path) / f"{partition_index(task):06}.dat").open("wb") as file:
        reader = datasets[0].to_batch_reader(READ_COUNT)
        for rows in SORTERS[engine](reader, count):
            file.write(rows.data)
            written += len(rows)
    if written != count:
        raise RuntimeError(f"{count} records came, {written} were written")
    task.perf_metrics["num output rows"] += written
    return True


def partition_index(task: Any) -> int:
    """Which range of keys a task has."""
    return int(next(info.index for info in task.partition_infos if info.dimension == DIMENSION))


def _sorted_by_numpy(reader: pa.RecordBatchReader, count: int) -> Iterator[Records]:
    """The records are in memory once; a block is gone with the next one."""
    keys = np.empty((count, KEY_BYTES), dtype=np.uint8)
    payloads = np.empty((count, RECORD_BYTES - KEY_BYTES), dtype=np.uint8)
    at = 0
    for batch in reader:
        if batch.num_rows:
            keys[at : at + batch.num_rows] = bytes_of(batch["key"])
            payloads[at : at + batch.num_rows] = bytes_of(batch["payload"])
            at += batch.num_rows
    if at != count:
        raise RuntimeError(f"{count} records were promised, {at} came")
    order = key_order(keys)
    columns = [
        (
            column.view(f"V{column.shape[1]}").ravel(),
            np.empty((WRITE_COUNT, column.shape[1]), np.uint8),
        )
        for column in (keys, payloads)
    ]
    rows = np.empty((WRITE_COUNT, RECORD_BYTES), dtype=np.uint8)
    for begin in range(0, len(order), WRITE_COUNT):
        chosen = order[begin : begin + WRITE_COUNT]
        place = 0
        for values, taken in columns:
            width = taken.shape[1]
            block = taken[: len(chosen)]
            # As whole values, and not byte by byte: several times as fast.
            values.take(chosen, out=block.view(f"V{width}").ravel(), mode="clip")
            rows[: len(chosen), place : place + width] = block
            place += width
        yield rows[: len(chosen)]


def key_order(keys: Records) -> NDArray[np.intp]:
    """The order of 10-byte keys: by their first 64 bits, then ties by the other 16."""
    high = np.ascontiguousarray(keys[:, :8]).view(">u8").ravel().astype(np.uint64)
    order = np.argsort(high)
    in_order = high[order]
    tied_next = in_order[1:] == in_order[:-1]
    if tied_next.any():
        tied = np.zeros(len(order), dtype=bool)
        tied[1:] |= tied_next
        tied[:-1] |= tied_next
        rows = order[tied]
        low = np.ascontiguousarray(keys[rows, 8:]).view(">u2").ravel()
        order[tied] = rows[np.lexsort((low, high[rows]))]
    return order


def _blocks_of(table: pa.Table) -> Iterator[Records]:
    for batch in table.to_batches(max_chunksize=WRITE_COUNT):
        yield records_of(batch)


def _sorted_by_arrow(reader: pa.RecordBatchReader, count: int) -> Iterator[Records]:
    table = reader.read_all()
    # In pieces: Arrow's `take` of binary values does not go beyond 2 GiB at once.
    order = pc.sort_indices(table, sort_keys=[("key", "ascending")])
    for begin in range(0, len(order), WRITE_COUNT):
        yield from _blocks_of(table.take(order.slice(begin, WRITE_COUNT)))


def _sorted_by_polars(reader: pa.RecordBatchReader, count: int) -> Iterator[Records]:
    import polars as pl

    frame = pl.DataFrame(reader.read_all()).sort("key")
    for begin in range(0, len(frame), WRITE_COUNT):
        yield from _blocks_of(frame.slice(begin, WRITE_COUNT).to_arrow())


def _sorted_by_duckdb(reader: pa.RecordBatchReader, count: int) -> Iterator[Records]:
    import duckdb

    from smallpond.logical.dataset.sql import arrow_reader

    with duckdb.connect() as connection:
        connection.register("unsorted", reader)
        query = "select key, payload from unsorted order by key"
        for batch in arrow_reader(connection, query, WRITE_COUNT):
            if batch.num_rows:
                yield records_of(batch)


SORTERS = {
    "numpy": _sorted_by_numpy,
    "arrow": _sorted_by_arrow,
    "polars": _sorted_by_polars,
    "duckdb": _sorted_by_duckdb,
}


def sum_inputs(runtime_ctx: Any, datasets: list[Any], output_path: str) -> bool:
    """The number and the checksum of the records of some input files, before they were sorted."""
    count = total = 0
    for batch in datasets[0].to_batch_reader(READ_COUNT):
        if batch.num_rows:
            rows = records_of(batch)
            count += len(rows)
            total += checksum(rows)
    path = Path(output_path) / f"{runtime_ctx.task.output_filename}.count"
    path.write_text(f"{count} {total:x}")
    return True


def validate_partitions(runtime_ctx: Any, datasets: list[Any], output_path: str) -> bool:
    """A summary a sorted file, as `valsort -o` makes it; none of an empty one."""
    for path in map(Path, datasets[0].resolved_paths):
        if path.stat().st_size:
            summary = summarised_file(path)
            (Path(output_path) / f"{path.stem}.sum").write_bytes(summary.packed())
    return True


def validate_whole(runtime_ctx: Any, datasets: list[Any], output_path: str) -> bool:
    """The verdict over all summaries, as `valsort -s` gives it, and whether nothing was lost."""
    summaries, counts = (sorted(map(Path, one.resolved_paths), key=_name) for one in datasets)
    whole = joined_all(one for path in summaries for one in summaries_in(path.read_bytes()))
    read = [path.read_text().split() for path in counts]
    count = sum(int(number) for number, _ in read)
    total = sum(int(number, 16) for _, number in read)
    lines = [whole.text()]
    kept = (count, total) == (whole.record_count, whole.checksum)
    lines.append(
        "The output has the input's records"
        if kept
        else f"ERROR - the input had {count} records with checksum {total:x}"
    )
    (Path(output_path) / "verdict.txt").write_text("\n".join(lines))
    return True


def _name(path: Path) -> str:
    return path.name
