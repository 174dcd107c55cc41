"""Spans that overlap in time, put into as few lanes as they need.

Greedy by start: a span goes to the lane that has been free longest. That many lanes are needed,
because at some moment so many spans ran at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from smallpond.show.record import Span


def lanes_of(spans: Iterable[Span], now_s: float) -> list[list[Span]]:
    """Lanes of spans that follow each other, earliest first."""
    lanes: list[list[Span]] = []
    free: list[tuple[float, int]] = []
    for span in sorted(spans, key=lambda one: one.start_s):
        if free and free[0][0] <= span.start_s:
            _, index = heapq.heappop(free)
        else:
            index = len(lanes)
            lanes.append([])
        lanes[index].append(span)
        heapq.heappush(free, (span.start_s + span.elapsed_s(now_s), index))
    return lanes
