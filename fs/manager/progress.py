"""How far a resync is, and when it will be done: from what its predecessor reports.

For people only. The rate and the time left assume that it goes on as it did so far, and the total
of bytes that the chunks still to come are as large as those that came; clocks of two machines may
disagree by some seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def resync_progress(row: Mapping[str, Any], unix_time_ms: int) -> dict[str, Any]:
    """The row of a target's `resync` with `bytes_total`, `bytes_per_second`, `seconds_left`."""
    done, total, moved = row["chunks_done"], row["chunks_total"], row["bytes_moved"]
    elapsed_s = max((unix_time_ms - row["started_ms"]) / 1000, 0.001)
    known = 0 < done <= total
    return {
        **row,
        "bytes_total": moved * total // done if known else None,
        "bytes_per_second": int(moved / elapsed_s),
        "seconds_left": round(elapsed_s * (total - done) / done, 1) if known else None,
    }
