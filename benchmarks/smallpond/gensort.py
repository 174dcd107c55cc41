"""gensort's 100-byte records, byte for byte: binary or ASCII, uniform or skewed.

A record is a 10-byte key and 90 bytes. Binary: ten random numbers in a row give ten bytes each,
all but the first xor-ed with a constant of their place. ASCII: a printable key, the record's
number in hexadecimal, 52 characters of filler. Skewed: the key's first bits (or characters) are
replaced by those of an early record's key: of record b, where b is the bit length of the record's
number, so that popular prefixes stay popular at any size.

    python -m benchmarks.smallpond.gensort [-a] [-c] [-s] [-bFIRST] COUNT FILE

The options are gensort 1.5's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.smallpond.crc import checksum
from benchmarks.smallpond.lcg import BLOCK_COUNT, Words, numbers

RECORD_BYTES = 100
KEY_BYTES = 10
PART_BYTES = 10
SKEW_BYTES = 6
RECORD_NUMBER_MAX = 1 << 60
# The 80 bits that each part of a binary record but the first is xor-ed with.
PART_MASKS = (
    "F0E8E4E2E1D8D4D2D1CC",
    "CAC9C6C5C3B8B4B2B1AC",
    "AAA9A6A5A39C9A999695",
    "938E8D8B87787472716C",
    "6A696665635C5A595655",
    "534E4D4B473C3A393635",
    "332E2D2B271E1D1B170F",
    "C8C4C2C1989492918CE0",
    "170F332E2D2B271E1D1B",
)
PRINTABLE_COUNT = 95

Records = NDArray[np.uint8]

_MASKS = [np.frombuffer(bytes.fromhex(mask), dtype=np.uint8) for mask in PART_MASKS]
_HEX_DIGITS = np.frombuffer(b"0123456789ABCDEF", dtype=np.uint8)


def records(first: int, count: int, *, is_ascii: bool = False, skewed: bool = False) -> Records:
    """Records `first` to `first + count - 1` as an array of `count` rows of 100 bytes."""
    if first < 0 or count < 0 or first + count > RECORD_NUMBER_MAX:
        raise ValueError(f"records {first} to {first + count}: numbers are 0 to 2**60")
    out = np.empty((count, RECORD_BYTES), dtype=np.uint8)
    for begin in range(0, count, BLOCK_COUNT):
        width = min(BLOCK_COUNT, count - begin)
        make = _ascii if is_ascii else _binary
        make(out[begin : begin + width], first + begin, skewed)
    return out


def blocks(
    first: int, count: int, *, block_count: int = 1 << 17, is_ascii: bool, skewed: bool
) -> Iterator[Records]:
    """The same, a block at a time."""
    for begin in range(first, first + count, block_count):
        width = min(block_count, first + count - begin)
        yield records(begin, width, is_ascii=is_ascii, skewed=skewed)


def _binary(out: Records, first: int, skewed: bool) -> None:
    count = len(out)
    high, low = numbers(first, count + len(PART_MASKS))
    parts = np.empty((len(high), PART_BYTES), dtype=np.uint8)
    parts[:, :8] = _big_endian(high)
    parts[:, 8:] = _big_endian(low)[:, :2]
    for place, mask in enumerate(_MASKS, 1):
        begin = place * PART_BYTES
        out[:, begin : begin + PART_BYTES] = parts[place : place + count] ^ mask
    out[:, :KEY_BYTES] = parts[:count]
    if skewed:
        bits = (low[:count] >> np.uint64(32)) & np.uint64(0x3F)
        bits[bits > 8 * SKEW_BYTES] = 0
        top = np.uint64((1 << 64) - 1)
        kept = np.where(bits == 0, top, top >> np.maximum(bits, np.uint64(1)))
        prefix = np.zeros((count, 8), dtype=np.uint8)
        prefix[:, :SKEW_BYTES] = _prefixes(first, count, is_ascii=False)
        popular = prefix.view(">u8").ravel().astype(np.uint64)
        out[:, :8] = _big_endian((high[:count] & kept) | (popular & ~kept))


def _ascii(out: Records, first: int, skewed: bool) -> None:
    count = len(out)
    high, low = numbers(first, count)
    _write_printable(out[:, 0:8], high)
    _write_printable(out[:, 8:10], low)
    out[:, 10:12] = out[:, 44:46] = ord(" ")
    out[:, 12:28] = ord("0")
    number = np.arange(first, first + count, dtype=np.uint64)
    for digit in range(16):
        out[:, 28 + digit] = _hex_digit(number, 60 - 4 * digit)
    for group in range(13):
        begin = 46 + 4 * group
        out[:, begin : begin + 4] = _hex_digit(low, 48 - 4 * group)[:, None]
    out[:, 98:] = np.frombuffer(b"\r\n", dtype=np.uint8)
    if skewed:
        replaced = (low >> np.uint64(32)) & np.uint64(0x7)
        replaced[replaced > SKEW_BYTES] = 0
        taken = np.arange(SKEW_BYTES, dtype=np.uint64) < replaced[:, None]
        prefix = _prefixes(first, count, is_ascii=True)
        out[:, :SKEW_BYTES] = np.where(taken, prefix, out[:, :SKEW_BYTES])


def _prefixes(first: int, count: int, *, is_ascii: bool) -> Records:
    """For each record the first bytes of the key that may replace its own."""
    early = records(0, 64, is_ascii=is_ascii)[:, :SKEW_BYTES]
    number = np.arange(first, first + count, dtype=np.uint64)
    bit_length = np.searchsorted(np.uint64(1) << np.arange(63, dtype=np.uint64), number, "right")
    return early[bit_length]


def _write_printable(out: Records, value: Words) -> None:
    """Digits of base 95, the lowest first."""
    base = np.uint64(PRINTABLE_COUNT)
    for place in range(out.shape[1]):
        quotient = value // base
        out[:, place] = (value - quotient * base).astype(np.uint8) + np.uint8(ord(" "))
        value = quotient


def _hex_digit(value: Words, shift: int) -> Records:
    digits: Records = _HEX_DIGITS[((value >> np.uint64(shift)) & np.uint64(0xF)).astype(np.intp)]
    return digits


def _big_endian(value: Words) -> Records:
    return value.astype(">u8").view(np.uint8).reshape(-1, 8)


def main(arguments: list[str] | None = None) -> int:
    """Writes a file of records; with -c their checksum goes to standard error."""
    parser = argparse.ArgumentParser(prog="gensort", description=__doc__.splitlines()[0])
    parser.add_argument("-a", action="store_true", help="ASCII records")
    parser.add_argument("-c", action="store_true", help="print the sum of the records' CRC-32")
    parser.add_argument("-s", action="store_true", help="skewed keys")
    parser.add_argument(
        "-b", type=int, default=0, metavar="FIRST", help="the first record's number"
    )
    parser.add_argument("count", type=int)
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    total = 0
    with options.file.open("wb") as out:
        for block in blocks(options.b, options.count, is_ascii=options.a, skewed=options.s):
            out.write(block.data)
            if options.c:
                total += checksum(block)
    if options.c:
        print(f"{total:x}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
