"""A run of consecutive rows of one Parquet file: the unit in which work is cut.

Invariant: 0 <= begin <= end <= file_num_rows.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class RowRange:
    """Rows `begin` (included) to `end` (not included) of the file at `path`."""

    path: str
    data_size: int
    """Bytes of the whole file's data before compression."""
    file_num_rows: int
    begin: int
    end: int

    def __reduce__(self) -> tuple[type[RowRange], tuple[str, int, int, int, int]]:
        # A plan may hold a million of them; this is a third of the default in bytes and time.
        return RowRange, (self.path, self.data_size, self.file_num_rows, self.begin, self.end)

    @property
    def num_rows(self) -> int:
        """The rows of the range."""
        return self.end - self.begin

    @property
    def estimated_data_size(self) -> int:
        """The range's share of the file's bytes before compression."""
        if self.file_num_rows == 0:
            return 0
        return self.data_size * self.num_rows // self.file_num_rows

    @property
    def whole_file(self) -> bool:
        """Whether the range is all rows of its file."""
        return self.num_rows == self.file_num_rows

    def take(self, num_rows: int) -> RowRange:
        """Cut the first `num_rows` rows (or what there is) off this range and return them."""
        head = copy.copy(self)
        head.end = self.begin = min(self.begin + num_rows, self.end)
        return head

    @staticmethod
    def partition_by_rows(row_ranges: Sequence[RowRange], npartition: int) -> list[list[RowRange]]:
        """Split the ranges, in their order, into parts whose rows differ by at most one.

        Parts with one row more come first. Ranges without rows are in no part.
        """
        total = sum(one.num_rows for one in row_ranges)
        short, longer_count = divmod(total, npartition)
        rest = iter([copy.copy(one) for one in row_ranges if one.num_rows])
        current = next(rest, None)
        parts: list[list[RowRange]] = []
        for index in range(npartition):
            part: list[RowRange] = []
            wanted = short + (index < longer_count)
            while wanted:
                assert current is not None
                head = current.take(wanted)
                part.append(head)
                wanted -= head.num_rows
                if current.num_rows == 0:
                    current = next(rest, None)
            parts.append(part)
        assert current is None
        return parts
