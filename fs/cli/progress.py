"""Progress of resyncs and findings of the scrubber in words."""

from __future__ import annotations

from typing import Any


def resync_text(row: dict[str, Any]) -> str:
    """One resync: chunks, bytes, rate, time left."""
    parts = [f"to {row['successor']}: {row['chunks_done']} of {row['chunks_total']} chunks"]
    size = human_bytes(row["bytes_moved"])
    if row["bytes_total"] is not None:
        size += f" of {human_bytes(row['bytes_total'])}"
    parts.append(f"{size} at {human_bytes(row['bytes_per_second'])}/s")
    if row["seconds_left"] is not None:
        parts.append(f"{human_seconds(row['seconds_left'])} left")
    return ", ".join(parts)


def human_bytes(count: int | None) -> str:
    """A size for people."""
    if count is None:
        return ""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("the loop returns")


def human_seconds(seconds: float) -> str:
    """A time for people."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
