"""valsort's verdict over sorted records: their number, checksum, duplicate keys, and order.

A part of the output is summed up alone (`-o`), the summaries of all parts in order are then one
verdict (`-s`). Summaries have valsort's layout (five 128-bit counters as pairs of 64 bits, high
first; the first and the last record), so that either tool reads the other's. What is printed is
valsort's text.

    python -m benchmarks.smallpond.valsort [-q] [-o SUMMARY] [-s] FILE

Invariant: `joined` is associative, and equals summing up the concatenation.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.smallpond.crc import checksum
from benchmarks.smallpond.gensort import KEY_BYTES, RECORD_BYTES, Records

SUMMARY = struct.Struct("<10Q100s100s")
BLOCK_COUNT = 1 << 17
_HALF_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Summary:
    """What a run of records says; `first_unordered` is 0 where all are in order."""

    first_unordered: int
    unordered_count: int
    record_count: int
    duplicate_count: int
    checksum: int
    first_record: bytes
    last_record: bytes

    def packed(self) -> bytes:
        """As valsort stores it."""
        counters = (
            self.first_unordered,
            self.unordered_count,
            self.record_count,
            self.duplicate_count,
            self.checksum,
        )
        halves = [half for value in counters for half in (value >> 64, value & _HALF_MASK)]
        return SUMMARY.pack(*halves, self.first_record, self.last_record)

    @classmethod
    def unpacked(cls, data: bytes) -> Summary:
        """From what valsort stored."""
        *halves, first_record, last_record = SUMMARY.unpack(data)
        first_unordered, unordered, record_count, duplicates, total = (
            halves[at] << 64 | halves[at + 1] for at in range(0, 10, 2)
        )
        return cls(
            first_unordered, unordered, record_count, duplicates, total, first_record, last_record
        )

    def text(self) -> str:
        """valsort's lines."""
        lines = []
        if self.first_unordered:
            lines.append(f"First unordered record is record {self.first_unordered}")
        lines += [f"Records: {self.record_count}", f"Checksum: {self.checksum:x}"]
        if self.unordered_count:
            lines.append(f"ERROR - there are {self.unordered_count} unordered records")
        else:
            lines.append(f"Duplicate keys: {self.duplicate_count}")
            lines.append("SUCCESS - all records are in order")
        return "\n".join(lines)


def summarised(records: Records) -> Summary:
    """The summary of one array of records."""
    if len(records) == 0:
        raise ValueError("there must be at least one record to be validated")
    high = np.ascontiguousarray(records[:, :8]).view(">u8").ravel().astype(np.uint64)
    low = np.ascontiguousarray(records[:, 8:KEY_BYTES]).view(">u2").ravel()
    equal_high = high[1:] == high[:-1]
    unordered = (high[1:] < high[:-1]) | (equal_high & (low[1:] < low[:-1]))
    unordered_count = int(np.count_nonzero(unordered))
    return Summary(
        first_unordered=int(np.argmax(unordered)) + 1 if unordered_count else 0,
        unordered_count=unordered_count,
        record_count=len(records),
        duplicate_count=int(np.count_nonzero(equal_high & (low[1:] == low[:-1]))),
        checksum=checksum(records),
        first_record=records[0].tobytes(),
        last_record=records[-1].tobytes(),
    )


def joined(left: Summary, right: Summary) -> Summary:
    """The summary of the records of `left`, then those of `right`."""
    left_key, right_key = left.last_record[:KEY_BYTES], right.first_record[:KEY_BYTES]
    first_unordered = left.first_unordered
    if not first_unordered and right_key < left_key:
        first_unordered = left.record_count
    if not first_unordered and right.first_unordered:
        first_unordered = left.record_count + right.first_unordered
    return Summary(
        first_unordered=first_unordered,
        unordered_count=left.unordered_count + right.unordered_count + (right_key < left_key),
        record_count=left.record_count + right.record_count,
        duplicate_count=left.duplicate_count + right.duplicate_count + (right_key == left_key),
        checksum=left.checksum + right.checksum,
        first_record=left.first_record,
        last_record=right.last_record,
    )


def joined_all(summaries: Iterable[Summary]) -> Summary:
    """Of all parts in order."""
    total: Summary | None = None
    for summary in summaries:
        total = summary if total is None else joined(total, summary)
    if total is None:
        raise ValueError("there must be at least one record to be validated")
    return total


def summarised_file(path: Path) -> Summary:
    """Of a file of records, a block at a time."""
    return joined_all(summarised(block) for block in file_blocks(path))


def file_blocks(path: Path) -> Iterator[Records]:
    """The records of a file, in blocks that stay small whatever the file's size."""
    with path.open("rb") as file:
        while data := file.read(BLOCK_COUNT * RECORD_BYTES):
            if len(data) % RECORD_BYTES:
                raise ValueError(f"{path}: partial record found at end")
            yield np.frombuffer(data, dtype=np.uint8).reshape(-1, RECORD_BYTES)


def summaries_in(data: bytes) -> Iterator[Summary]:
    """The summaries of a file of concatenated ones."""
    if len(data) % SUMMARY.size:
        raise ValueError("partial partition summary found at end")
    for begin in range(0, len(data), SUMMARY.size):
        yield Summary.unpacked(data[begin : begin + SUMMARY.size])


def main(arguments: list[str] | None = None) -> int:
    """Judges a file of records or of summaries; 1 where records are out of order."""
    parser = argparse.ArgumentParser(prog="valsort", description=__doc__.splitlines()[0])
    parser.add_argument("-q", action="store_true", help="print nothing")
    parser.add_argument("-o", type=Path, metavar="SUMMARY", help="write a summary there")
    parser.add_argument("-s", action="store_true", help="the file has summaries")
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    if options.s:
        summary = joined_all(summaries_in(options.file.read_bytes()))
    else:
        summary = summarised_file(options.file)
    if options.o is not None:
        options.o.write_bytes(summary.packed())
    if not options.q:
        print(summary.text(), file=sys.stderr)
    return 1 if summary.unordered_count else 0


if __name__ == "__main__":
    sys.exit(main())
