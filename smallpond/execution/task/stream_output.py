"""What a stream puts out, and what it remembers so that another attempt can go on from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as arrow


class StreamOutput:
    """A table, and which batch of each input it is the last result of.

    With `batch_indices` a checkpoint may follow it; with `force_checkpoint` one does.
    """

    __slots__ = ("batch_indices", "force_checkpoint", "output_table")

    def __init__(
        self,
        output_table: arrow.Table,
        batch_indices: Sequence[int] | None = None,
        force_checkpoint: bool = False,
    ) -> None:
        from smallpond.io.arrow import cast_columns_to_large_string

        self.output_table = cast_columns_to_large_string(output_table)
        self.batch_indices = list(batch_indices or [])
        self.force_checkpoint = force_checkpoint and bool(batch_indices)


class StreamState:
    """A checkpoint: how many batches of each input are done, and the files that hold the results.

    Batch sizes belong to it, because batch numbers mean nothing with others.
    """

    __slots__ = (
        "input_batch_offsets",
        "last_batch_indices",
        "streaming_batch_count",
        "streaming_batch_size",
        "streaming_output_paths",
    )

    def __init__(self, streaming_batch_size: int, streaming_batch_count: int) -> None:
        self.last_batch_indices: list[int] | None = None
        self.input_batch_offsets: list[int] | None = None
        self.streaming_output_paths: list[str] = []
        self.streaming_batch_size = streaming_batch_size
        self.streaming_batch_count = streaming_batch_count

    def __str__(self) -> str:
        return (
            f"streaming_batch_size={self.streaming_batch_size}, "
            f"input_batch_offsets={self.input_batch_offsets}, "
            f"streaming_output_paths[{len(self.streaming_output_paths)}]="
            f"{self.streaming_output_paths[:3]}..."
        )

    @property
    def max_batch_offsets(self) -> int:
        """The furthest input."""
        return max(self.input_batch_offsets or [0])

    def update_batch_offsets(self, batch_indices: Sequence[int] | None) -> None:
        """Note that the batches up to `batch_indices` (counted in this attempt) are done."""
        if batch_indices is None:
            return
        before = self.last_batch_indices or [-1] * len(batch_indices)
        offsets = self.input_batch_offsets or [0] * len(batch_indices)
        self.input_batch_offsets = [
            offset + index - last
            for offset, index, last in zip(offsets, batch_indices, before, strict=True)
        ]
        self.last_batch_indices = list(batch_indices)

    def reset(self) -> None:
        """Forget all progress."""
        self.last_batch_indices = None
        self.input_batch_offsets = None
        self.streaming_output_paths.clear()
