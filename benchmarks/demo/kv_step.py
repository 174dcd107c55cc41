"""Stores and fetches the KV blocks of prompt prefixes, as a serving engine does.

A prompt is cut into blocks of 16 tokens; a block's key is the digest of its tokens and of the key
before it, so equal prefixes have equal keys. The second prompt shares half of the first.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np

import firepond
from benchmarks.demo.report import Row
from firepond.client.kv import Status

BLOCK_TOKENS = 16
BLOCK_BYTES = 1 << 20
PROMPT_BLOCKS = 192
SHARED_BLOCKS = 96


def block_keys(tokens: list[int]) -> list[bytes]:
    """One key a block, each depending on all tokens before it."""
    keys = []
    parent = b"root"
    for start in range(0, len(tokens), BLOCK_TOKENS):
        block = np.array(tokens[start : start + BLOCK_TOKENS], dtype="<u4").tobytes()
        parent = hashlib.sha256(parent + block).digest()
        keys.append(parent)
    return keys


def run(address: str) -> tuple[list[Row], str]:
    """Rows for put and get, and a sentence on what the second prompt found."""
    first = list(range(PROMPT_BLOCKS * BLOCK_TOKENS))
    shared = SHARED_BLOCKS * BLOCK_TOKENS
    second = first[:shared] + [token + 1_000_000 for token in first[shared:]]
    generator = np.random.default_rng(3)
    values = [generator.bytes(BLOCK_BYTES) for _ in range(PROMPT_BLOCKS)]
    with firepond.kv(address, "demo-model", cls="cache", capacity_bytes=1 << 30) as cache:
        started = time.monotonic()
        statuses = cache.put(block_keys(first), values)
        put = Row("KV put, 1 MiB blocks", BLOCK_BYTES * len(values), time.monotonic() - started)
        if any(status is not Status.STORED for status in statuses):
            raise SystemExit(f"a block was not stored: {statuses}")
        keys = block_keys(second)
        found = cache.match_prefix(keys)
        if found != SHARED_BLOCKS:
            raise SystemExit(f"the prefix has {SHARED_BLOCKS} blocks and {found} were found")
        buffers = [bytearray(BLOCK_BYTES) for _ in range(found)]
        started = time.monotonic()
        sizes = cache.get(keys[:found], buffers)
        get = Row("KV get, 1 MiB blocks", BLOCK_BYTES * found, time.monotonic() - started)
        if sizes != [BLOCK_BYTES] * found or any(
            bytes(buffer) != value for buffer, value in zip(buffers, values, strict=False)
        ):
            raise SystemExit("a KV block came back different")
    note = f"a prompt that shares {SHARED_BLOCKS} of {PROMPT_BLOCKS} blocks found exactly these"
    return [put, get], note
