"""The checksum of a set of records: the sum of their CRC-32, as gensort and valsort print it.

The sum does not depend on the order, so it is equal before and after a sort. CRC-32 is linear
over xor: for records of one length it is the xor of one table entry a byte and place. numpy looks
up a place of all records at a time, which is faster than calling zlib once a record. zlib makes
the tables.
"""

from __future__ import annotations

import functools
import zlib

import numpy as np
from numpy.typing import NDArray

BLOCK_COUNT = 1 << 13


def checksum(records: NDArray[np.uint8]) -> int:
    """The sum of the CRC-32 of all rows."""
    count, width = records.shape
    tables, of_zeros = _tables(width)
    total = 0
    for begin in range(0, count, BLOCK_COUNT):
        # One row a place: the look-ups then read memory in order.
        places = np.ascontiguousarray(records[begin : begin + BLOCK_COUNT].T)
        value = np.full(places.shape[1], of_zeros, dtype=np.uint32)
        for table, place in zip(tables, places, strict=True):
            value ^= table[place]
        total += int(value.sum(dtype=np.uint64))
    return total


@functools.lru_cache(maxsize=8)
def _tables(width: int) -> tuple[NDArray[np.uint32], int]:
    """A row a place: what a byte there changes in the CRC-32 of `width` zeros; and that itself."""
    of_zeros = zlib.crc32(bytes(width))
    tables = np.zeros((width, 256), dtype=np.uint32)
    byte_values = np.arange(256)
    for place in range(width):
        for bit in range(8):
            changed = bytearray(width)
            changed[place] = 1 << bit
            difference = np.uint32(zlib.crc32(changed) ^ of_zeros)
            tables[place, (byte_values >> bit) & 1 == 1] ^= difference
    return tables, of_zeros
