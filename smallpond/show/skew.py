"""How unevenly something is spread over the tasks of a node.

Skew is the largest value over the median: 1 is even, 10 says that one task had ten times the
usual. Below MIN_SAMPLES the word means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

MIN_SAMPLES = 3


def skew_ratio(values: Sequence[float]) -> float | None:
    """Largest over median; None for few samples or a median of zero."""
    if len(values) < MIN_SAMPLES:
        return None
    ordered = sorted(values)
    half = len(ordered) // 2
    # The statistics module would take longer to import than a small job may take to show.
    middle = (ordered[half] + ordered[-half - 1]) / 2
    return max(values) / middle if middle > 0 else None
