"""Our gensort makes the records that gensort makes.

The vectors are the tool's own output as its users published it: the first ten ASCII records,
checksums of whole data sets as valsort prints them, and prefixes of gensort 1.5's tables of skew.
"""

from __future__ import annotations

import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.smallpond.crc import checksum
from benchmarks.smallpond.gensort import main, records
from benchmarks.smallpond.lcg import BLOCK_COUNT, INCREMENT, MODULUS_MASK, MULTIPLIER, numbers

ASCII_RECORDS = r"""
AsfAGHM5om  00000000000000000000000000000000  0000222200002222000022220000222200002222000000001111
~sHd0jDv6X  00000000000000000000000000000001  77779999444488885555CCCC777755555555BBBB666644446666
uI^EYm8s=|  00000000000000000000000000000002  CCCCFFFF777799995555FFFF11112222999988884444DDDDFFFF
Q)JN)R9z-L  00000000000000000000000000000003  FFFF111100000000000066668888BBBB33333333AAAA1111CCCC
o4FoBkqERn  00000000000000000000000000000004  7777AAAABBBBBBBB22224444444499995555BBBB11118888DDDD
*}-Wz1;TD-  00000000000000000000000000000005  AAAA88883333BBBB888888884444777722227777999900002222
0fssx}~[oB  00000000000000000000000000000006  FFFF999977774444AAAA7777EEEEDDDDAAAAAAAA99998888BBBB
mz4VCN@a#"  00000000000000000000000000000007  DDDDBBBB1111FFFF2222DDDDFFFFBBBBFFFF6666444477778888
my+=5r7(N|  00000000000000000000000000000008  22226666CCCC66662222FFFF0000EEEE11118888444455559999
5HA\z%qt{%  00000000000000000000000000000009  0000AAAA8888FFFF0000888800000000222255551111FFFFEEEE
"""
# Whether ASCII, how many records, and what valsort printed for them.
CHECKSUMS = [(True, 163_840, "1400fed7bb2c2"), (False, 1_000_000, "7a0e0d4868cd4")]
# gensort's tables of skew: what stands at an index, in hexadecimal and as characters.
SKEW_BINARY = {0: "4a696d477261", 1: "95e0e48262b3", 9: "84c0992f3b94", 40: "1e58396c599a"}
SKEW_ASCII = {0: b"AsfAGH", 1: b"~sHd0j", 9: b"5HA\\z%", 37: b"1 e!og"}


def scalar_numbers(first: int, count: int) -> list[int]:
    """The generator's definition, a step at a time from zero."""
    state, out = 0, []
    for step in range(first + count):
        state = (MULTIPLIER * state + INCREMENT) & MODULUS_MASK
        if step >= first:
            out.append(state)
    return out


def test_first_ascii_records_are_the_published_ones() -> None:
    """Goal: ASCII mode. Oracle: gensort's first ten records, with the line ends it writes."""
    expected = "".join(f"{line}\r\n" for line in ASCII_RECORDS.strip().splitlines())
    assert records(0, 10, is_ascii=True).tobytes() == expected.encode()


@pytest.mark.parametrize(("is_ascii", "count", "expected"), CHECKSUMS)
def test_checksums_are_the_published_ones(is_ascii: bool, count: int, expected: str) -> None:
    """Goal: every byte of many records. Oracle: checksums that users of gensort published."""
    assert f"{checksum(records(0, count, is_ascii=is_ascii)):x}" == expected


def test_first_binary_key_is_its_authors_tribute() -> None:
    """Goal: binary mode's key. Oracle: record 0 starts with the generator's increment as text."""
    assert records(0, 1)[0, :10].tobytes() == b"JimGrayRIP"


def test_binary_parts_are_random_numbers_under_a_mask() -> None:
    """Goal: the other 90 bytes. Oracle: the definition with Python's integers, one mask by hand."""
    number = scalar_numbers(5, 10)
    record = records(5, 1)[0].tobytes()
    assert record[:10] == (number[0] >> 48).to_bytes(10, "big")
    mask = int.from_bytes(bytes.fromhex("F0E8E4E2E1D8D4D2D1CC"), "big")
    assert record[10:20] == (number[1] >> 48 ^ mask).to_bytes(10, "big")
    mask = int.from_bytes(bytes.fromhex("170F332E2D2B271E1D1B"), "big")
    assert record[90:] == (number[9] >> 48 ^ mask).to_bytes(10, "big")


@pytest.mark.parametrize("first", [0, 1, BLOCK_COUNT - 1, BLOCK_COUNT + 7])
def test_numbers_equal_the_definition(first: int) -> None:
    """Goal: 128-bit products from 32-bit ones, jumps, blocks. Oracle: Python's integers."""
    high, low = numbers(first, 3 * BLOCK_COUNT + 11)
    expected = scalar_numbers(first, 3 * BLOCK_COUNT + 11)
    assert [int(a) << 64 | int(b) for a, b in zip(high, low, strict=True)] == expected


@pytest.mark.parametrize("is_ascii", [False, True])
@pytest.mark.parametrize("skewed", [False, True])
def test_parts_concatenate_to_the_whole(is_ascii: bool, skewed: bool) -> None:
    """Goal: partitions made alone. Oracle: gensort's documented identity of parts and whole."""
    whole = records(0, 2 * BLOCK_COUNT + 100, is_ascii=is_ascii, skewed=skewed)
    cuts = [0, 1, 999, BLOCK_COUNT, BLOCK_COUNT + 1, len(whole)]
    parts = [
        records(begin, end - begin, is_ascii=is_ascii, skewed=skewed)
        for begin, end in pairwise(cuts)
    ]
    assert np.array_equal(np.concatenate(parts), whole)


def test_skew_takes_prefixes_from_early_records() -> None:
    """Goal: skewed keys. Method: records with every bit replaced, by the record's own random bits.

    Oracle: the tables that gensort 1.5 has, at the index of the record number's bit length.
    """
    for index, prefix in SKEW_BINARY.items():
        assert records(index, 1)[0, :6].tobytes().hex() == prefix
    for index, text in SKEW_ASCII.items():
        assert records(index, 1, is_ascii=True)[0, :6].tobytes() == text
    plain, skewed = records(512, 512), records(512, 512, skewed=True)
    assert np.array_equal(plain[:, 6:], skewed[:, 6:])
    popular = bytes.fromhex("b3e9689de16b")  # index 10, the bit length of 512 to 1023
    for place, number in enumerate(scalar_numbers(512, 512)):
        bits = number >> 32 & 0x3F
        bits = 0 if bits > 48 else bits
        own = int.from_bytes(plain[place, :6].tobytes(), "big")
        kept = own & ((1 << (48 - bits)) - 1)
        replaced = int.from_bytes(popular, "big") >> (48 - bits) << (48 - bits)
        assert skewed[place, :6].tobytes() == (kept | replaced).to_bytes(6, "big")


def test_ascii_skew_replaces_whole_characters() -> None:
    """Goal: skewed ASCII keys. Oracle: gensort 1.5's rule with Python's integers."""
    plain = records(512, 512, is_ascii=True)
    skewed = records(512, 512, is_ascii=True, skewed=True)
    popular = b"`PkXQ<"  # index 10
    for place, number in enumerate(scalar_numbers(512, 512)):
        replaced = number >> 32 & 7
        replaced = 0 if replaced > 6 else replaced
        expected = popular[:replaced] + plain[place].tobytes()[replaced:]
        assert skewed[place].tobytes() == expected


@pytest.mark.parametrize("width", [1, 10, 100])
def test_checksum_is_the_sum_of_crc32(width: int) -> None:
    """Goal: the vectorised checksum. Oracle: zlib, a row at a time."""
    rows = np.random.default_rng(7).integers(0, 256, (9_000, width), dtype=np.uint8)
    assert checksum(rows) == sum(zlib.crc32(row.tobytes()) for row in rows)


def test_command_writes_what_gensort_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Goal: the command and its options. Oracle: the records themselves, and their checksum."""
    path = tmp_path / "part"
    assert main(["-a", "-c", "-b3", "4", str(path)]) == 0
    assert path.read_bytes() == records(3, 4, is_ascii=True).tobytes()
    assert capsys.readouterr().err.strip() == f"{checksum(records(3, 4, is_ascii=True)):x}"
