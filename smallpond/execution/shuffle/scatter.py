"""One batch of rows, grouped by partition.

The partition numbers are ordered by numpy's stable sort, which for 16-bit integers is a radix sort,
and the columns are gathered once in that order. A batch is small enough for the gather to stay in
the processor's caches; that is why batches are grouped one by one and not all together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BATCH_ROWS = 122880


class GroupedBatch(NamedTuple):
    """Rows grouped by partition: those of partition p are `offsets[p]:offsets[p + 1]`."""

    rows: pa.RecordBatch
    offsets: np.ndarray[Any, Any]


def grouped_batch(
    batch: pa.RecordBatch, partitions: np.ndarray[Any, Any], npartitions: int
) -> GroupedBatch:
    """The rows of `batch` in the order of their `partitions`, each in [0, npartitions)."""
    import numpy as np
    import pyarrow as pa

    narrow = np.uint16 if npartitions <= 1 << 16 else np.uint32
    numbers = partitions.astype(narrow, copy=False)
    offsets = np.zeros(npartitions + 1, dtype=np.int64)
    np.cumsum(np.bincount(numbers, minlength=npartitions), out=offsets[1:])
    assert offsets[-1] == batch.num_rows, f"{offsets[-1]} of {batch.num_rows} rows were placed"
    if _one_partition(offsets):
        return GroupedBatch(batch, offsets)
    order = np.argsort(numbers, kind="stable")
    return GroupedBatch(batch.take(pa.array(order)), offsets)


def _one_partition(offsets: np.ndarray[Any, Any]) -> bool:
    """Whether all rows are in one partition, so that they are in order already."""
    return bool(((offsets == 0) | (offsets == offsets[-1])).all())


def checked_partitions(column: pa.Array, npartitions: int) -> np.ndarray[Any, Any]:
    """Partition numbers that a user computed, after making sure that each names a partition."""
    if column.null_count:
        raise ValueError(
            f"partition key NULL is out of range 0-{npartitions - 1} ({column.null_count} rows)"
        )
    numbers: np.ndarray[Any, Any] = column.to_numpy(zero_copy_only=False)
    if len(numbers):
        for key in (int(numbers.min()), int(numbers.max())):
            if not 0 <= key < npartitions:
                raise ValueError(f"partition key {key} is out of range 0-{npartitions - 1}")
    return numbers
