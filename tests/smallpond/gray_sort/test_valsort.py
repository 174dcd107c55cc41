"""Our valsort says what valsort says, and finds what is wrong with sorted output."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.smallpond.crc import checksum
from benchmarks.smallpond.gensort import Records, records
from benchmarks.smallpond.valsort import (
    SUMMARY,
    Summary,
    joined_all,
    main,
    summaries_in,
    summarised,
    summarised_file,
)


def sorted_records(count: int) -> Records:
    """Records in the order of their keys, by Python's comparison of bytes."""
    rows = records(0, count)
    order = sorted(range(count), key=lambda row: rows[row, :10].tobytes())
    return rows[order]


def counted(rows: Records) -> Summary:
    """The rules of valsort, one record after the other."""
    keys = [row[:10].tobytes() for row in rows]
    pairs = list(pairwise(keys))
    unordered = [place for place, (left, right) in enumerate(pairs, 1) if right < left]
    return Summary(
        first_unordered=unordered[0] if unordered else 0,
        unordered_count=len(unordered),
        record_count=len(rows),
        duplicate_count=sum(left == right for left, right in pairs),
        checksum=checksum(rows),
        first_record=rows[0].tobytes(),
        last_record=rows[-1].tobytes(),
    )


def test_sorted_records_pass() -> None:
    """Goal: the good case. Oracle: valsort's text; the checksum of gensort -c (zlib, summed)."""
    rows = records(0, 10, is_ascii=True)
    rows = rows[sorted(range(10), key=lambda row: rows[row, :10].tobytes())]
    expected = [
        "Records: 10",
        "Checksum: 469302dca",
        "Duplicate keys: 0",
        "SUCCESS - all records are in order",
    ]
    assert summarised(rows).text().splitlines() == expected


def planted(rows: Records, fault: str) -> Records:
    """A copy with one fault."""
    rows = rows.copy()
    if fault == "swapped neighbours":
        rows[[700, 701]] = rows[[701, 700]]
    elif fault == "order differs in the last key byte only":
        rows[501, :10] = rows[500, :10]
        rows[500, 9], rows[501, 9] = 9, 8
    elif fault == "lost record":
        rows = np.delete(rows, 400, axis=0)
    elif fault == "record twice":
        rows = np.insert(rows, 400, rows[400], axis=0)
    elif fault == "changed payload":
        rows[300, 99] ^= 1
    elif fault == "record replaced by its neighbour":
        rows[400] = rows[401]
    return rows


FAULTS = {
    "swapped neighbours": "order",
    "order differs in the last key byte only": "order",
    "lost record": "count",
    "record twice": "count",
    "changed payload": "checksum",
    "record replaced by its neighbour": "checksum",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault: str) -> None:
    """Goal: a wrong output does not pass. Oracle: the field that must differ; plain counting."""
    good = sorted_records(1_000)
    bad = planted(good, fault)
    before, after = summarised(good), summarised(bad)
    assert after == counted(bad)
    assert (after.unordered_count > 0) == (FAULTS[fault] == "order")
    assert (after.record_count != before.record_count) == (FAULTS[fault] == "count")
    if FAULTS[fault] == "checksum":
        assert after.checksum != before.checksum


@pytest.mark.parametrize("seed", range(8))
def test_parts_join_to_the_whole(seed: int) -> None:
    """Goal: partitioned validation, also of wrong output. Oracle: one summary of everything.

    Method: few distinct keys, mostly sorted, cut anywhere: faults fall inside and between parts.
    """
    random = np.random.default_rng(seed)
    rows = records(0, 500)
    rows[:, :10] = 0
    rows[:, 9] = np.sort(random.integers(0, 40, 500))
    for place in random.integers(0, 500, random.integers(0, 4)):
        rows[place, 9] = random.integers(0, 40)
    cuts = [0, *sorted(random.choice(np.arange(1, 500), 6, replace=False).tolist()), 500]
    parts = [rows[begin:end] for begin, end in pairwise(cuts)]
    stored = b"".join(summarised(part).packed() for part in parts)
    assert joined_all(summaries_in(stored)) == summarised(rows) == counted(rows)


def test_summary_has_valsorts_layout() -> None:
    """Goal: summaries that valsort reads. Oracle: its structure: ten 64-bit halves, two records."""
    assert SUMMARY.size == 280
    summary = Summary(1, 2, (5 << 64) + 3, 4, 7, b"a" * 100, b"z" * 100)
    packed = summary.packed()
    assert packed[32:40] == (5).to_bytes(8, "little")
    assert packed[40:48] == (3).to_bytes(8, "little")
    assert packed[80:] == b"a" * 100 + b"z" * 100
    assert Summary.unpacked(packed) == summary


def test_command_validates_parts_and_their_summaries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Goal: the documented way for partitioned outputs. Oracle: exit statuses and text."""
    rows = sorted_records(1_000)
    for name, part in (("0", rows[:300]), ("1", rows[300:])):
        (tmp_path / name).write_bytes(part.tobytes())
        assert main(["-q", "-o", str(tmp_path / f"{name}.sum"), str(tmp_path / name)]) == 0
    right = (tmp_path / "0.sum").read_bytes() + (tmp_path / "1.sum").read_bytes()
    (tmp_path / "all.sum").write_bytes(right)
    assert main(["-s", str(tmp_path / "all.sum")]) == 0
    assert capsys.readouterr().err.strip() == summarised(rows).text()
    wrong = (tmp_path / "1.sum").read_bytes() + (tmp_path / "0.sum").read_bytes()
    (tmp_path / "all.sum").write_bytes(wrong)
    assert main(["-s", str(tmp_path / "all.sum")]) == 1
    expected = "First unordered record is record 700\nRecords: 1000\n"
    assert capsys.readouterr().err.startswith(expected)


def test_partial_and_empty_files_are_refused(tmp_path: Path) -> None:
    """Goal: a cut file never passes. Oracle: the error."""
    path = tmp_path / "cut"
    path.write_bytes(sorted_records(10).tobytes()[:-1])
    with pytest.raises(ValueError, match="partial record"):
        summarised_file(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="at least one record"):
        summarised_file(path)
