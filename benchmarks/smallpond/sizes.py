"""Sizes as people write them."""

from __future__ import annotations

import argparse
import re

UNITS = {
    "": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}


def size_bytes(text: str) -> int:
    """1GB, 2GiB, 500MB, or a plain number of bytes."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2] not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write it like 1GB or 2GiB")
    return int(float(match[1]) * UNITS[match[2]])
