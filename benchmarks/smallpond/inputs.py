"""What all peers read: Parquet files, made once a size, the same bytes every time.

At 1 GB: 10 M gensort records (key of 10 bytes, payload of 90), 2 M lines of 16 words, 10 M rows
that join 2 M, 10 M samples of text. Other sizes are multiples. Words follow a Zipf law. In the
skewed join half of the 10 M rows have one key. Random records do not compress and are stored
plain; the rest is ZSTD-3.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.smallpond import gensort

READY = "ready"
FILES_PER_GB = 8
FILES_MAX = 64
BLOCK_ROWS = 1 << 18
ROW_GROUP_ROWS = 122_880
RECORDS_PER_GB = 10_000_000
LINES_PER_GB = 2_000_000
FACTS_PER_GB = 10_000_000
DIMENSIONS_PER_GB = 2_000_000
SAMPLES_PER_GB = 10_000_000
PARTITION_ROWS_PER_GB = 10_000_000
WORD_COUNT = 50_000
WORDS_A_LINE = 16
WORDS_A_SAMPLE = 12
GROUP_COUNT = 97
SKEWED_KEY = 7

Block = Callable[[int, int], pa.Table]


def made(directory: Path, work: str, scale: float) -> Path:
    """The folder with the inputs of one work; makes them where they are not."""
    target = directory / f"{work}-{scale:g}"
    if (target / READY).exists():
        return target
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    print(f"making the input of {work}", flush=True)
    for name, (rows, block) in _tables(work, scale).items():
        _write(target / name, rows, block, scale, compressed=name != "records")
    (target / READY).touch()
    return target


def _tables(work: str, scale: float) -> dict[str, tuple[int, Block]]:
    dimension_rows = max(SKEWED_KEY + 1, int(DIMENSIONS_PER_GB * scale))

    def facts(share: float) -> tuple[int, Block]:
        return int(FACTS_PER_GB * scale), lambda at, n: _facts(at, n, dimension_rows, share)

    if work == "sort":
        return {"records": (int(RECORDS_PER_GB * scale), _records)}
    if work == "wordcount":
        return {"lines": (int(LINES_PER_GB * scale), _lines)}
    if work in ("join", "join-skew"):
        share = 0.5 if work == "join-skew" else 0.0
        return {"facts": facts(share), "dimensions": (dimension_rows, _dimensions)}
    if work == "shuffle":
        return {"samples": (int(SAMPLES_PER_GB * scale), _samples)}
    if work == "partition":
        return {"rows": (int(PARTITION_ROWS_PER_GB * scale), _rows)}
    return {}


def _write(target: Path, rows: int, block: Block, scale: float, *, compressed: bool) -> None:
    target.mkdir(parents=True)
    file_count = max(1, min(FILES_MAX, round(FILES_PER_GB * scale)))
    cuts = [rows * number // file_count for number in range(file_count + 1)]
    codec = {"compression": "zstd", "compression_level": 3} if compressed else {}
    for number, (begin, end) in enumerate(pairwise(cuts)):
        tables = _blocks(begin, end, block)
        first = next(tables)
        with pq.ParquetWriter(
            target / f"{number:04}.parquet", first.schema, **({"compression": "none"} | codec)
        ) as writer:
            writer.write_table(first, row_group_size=ROW_GROUP_ROWS)
            for table in tables:
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


def _blocks(begin: int, end: int, block: Block) -> Iterator[pa.Table]:
    for at in range(begin, max(end, begin + 1), BLOCK_ROWS):
        yield block(at, min(BLOCK_ROWS, end - at))


def _random(seed: int, at: int) -> np.random.Generator:
    return np.random.default_rng((seed, at))


def _fixed(rows: NDArray[np.uint8]) -> pa.Array:
    """Rows of bytes as binary values."""
    width = rows.shape[1]
    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    fixed = pa.Array.from_buffers(pa.binary(width), len(rows), [None, buffer])
    return fixed.cast(pa.binary())


def _records(at: int, count: int) -> pa.Table:
    rows = gensort.records(at, count)
    return pa.table({"key": _fixed(rows[:, :10]), "payload": _fixed(rows[:, 10:])})


@cache
def _vocabulary() -> pa.Array:
    random = _random(1, 0)
    letters = random.integers(97, 123, (WORD_COUNT, 9), dtype=np.uint8).view("S9").ravel()
    lengths = random.integers(3, 10, WORD_COUNT)
    words = [word[:length].decode() for word, length in zip(letters, lengths, strict=True)]
    return pa.array(words)


@cache
def _popularity() -> NDArray[np.float64]:
    weight = 1.0 / np.arange(1, WORD_COUNT + 1)
    total: NDArray[np.float64] = np.cumsum(weight / weight.sum())
    return total


def _sentences(random: np.random.Generator, count: int, width: int) -> pa.Array:
    drawn = np.searchsorted(_popularity(), random.random((width, count)))
    words = [_vocabulary().take(pa.array(np.minimum(row, WORD_COUNT - 1))) for row in drawn]
    return pc.binary_join_element_wise(*words, " ")


def _lines(at: int, count: int) -> pa.Table:
    return pa.table({"line": _sentences(_random(2, at), count, WORDS_A_LINE)})


def _facts(at: int, count: int, dimension_rows: int, skewed_share: float) -> pa.Table:
    random = _random(3, at)
    key = random.integers(0, dimension_rows, count)
    key[random.random(count) < skewed_share] = SKEWED_KEY
    value = random.integers(-1_000_000, 1_000_000, count)
    weight = random.random(count)
    return pa.table({"k": key, "v": value, "w": weight})


def _dimensions(at: int, count: int) -> pa.Table:
    # A bijection would need the whole range: the keys are in order, the groups are mixed.
    key = np.arange(at, at + count)
    return pa.table({"k": key, "g": (key * 7919 % GROUP_COUNT).astype(np.int32)})


def _samples(at: int, count: int) -> pa.Table:
    random = _random(4, at)
    return pa.table(
        {
            "id": np.arange(at, at + count),
            "label": random.integers(0, 1_000, count, dtype=np.int32),
            "weight": random.random(count),
            "text": _sentences(random, count, WORDS_A_SAMPLE),
        }
    )


def _rows(at: int, count: int) -> pa.Table:
    random = _random(5, at)
    return pa.table(
        {
            "k": random.integers(0, 1 << 40, count),
            "a": random.integers(0, 1 << 20, count),
            "b": random.random(count),
            "c": _vocabulary().take(pa.array(random.integers(0, WORD_COUNT, count))),
        }
    )
