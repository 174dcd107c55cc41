"""Numbers as people read them: bytes, counts, durations, shares.

One place, so that the progress line, the profile and the error report agree.
"""

from __future__ import annotations

BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
COUNT_UNITS = ("", " k", " M", " G", " T")


def bytes_text(count: float) -> str:
    """`1536` as `1.5 KiB`."""
    value = float(count)
    for unit in BYTE_UNITS:
        if abs(value) < 1024 or unit == BYTE_UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes every number")


def count_text(count: float) -> str:
    """`1234` as `1,234`, `12_345_678` as `12.3 M`: exact while that is short."""
    if abs(count) < 100_000:
        return f"{count:,.0f}"
    value = float(count)
    for unit in COUNT_UNITS:
        if abs(value) < 1000 or unit == COUNT_UNITS[-1]:
            return f"{value:.1f}{unit}"
        value /= 1000
    raise AssertionError("the last unit takes every number")


def seconds_text(seconds: float) -> str:
    """`0.0123` as `12 ms`, `75` as `1:15`, `4000` as `1:06:40`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def share_text(part: float, whole: float) -> str:
    """`part` of `whole` in per cent; a whole of nothing is complete."""
    return f"{100.0 * part / whole if whole else 100.0:.1f}%"


def plural(count: int, noun: str) -> str:
    """`1 task`, `2 tasks`, `2 retries`."""
    if count == 1:
        return f"1 {noun}"
    stem = noun[:-1] + "ie" if noun.endswith("y") else noun
    return f"{count_text(count)} {stem}s"
