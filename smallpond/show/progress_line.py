"""Progress as one plain line, for logs and pipes.

The same sentence heads the live table, so that both say the same.
"""

from __future__ import annotations

from typing import TextIO

from smallpond.show.estimate import time_left_s
from smallpond.show.record import JobRecord
from smallpond.show.units import bytes_text, count_text, plural, seconds_text, share_text


def progress_sentence(record: JobRecord, now_s: float) -> str:
    """`12/40 tasks (30.0%), 4 running, 1.2 M rows, 3.4 GiB written, 12.0 s, about 28.1 s left`."""
    total, done = record.task_count, record.done_count
    nodes = record.nodes.values()
    parts = [f"{count_text(done)}/{count_text(total)} tasks ({share_text(done, total)})"]
    if record.running_count:
        parts.append(f"{count_text(record.running_count)} running")
    skipped = sum(node.skipped_count for node in nodes)
    if skipped:
        parts.append(f"{count_text(skipped)} reused")
    if record.retries:
        parts.append(plural(len(record.retries), "retry"))
    if record.failures:
        parts.append(f"{plural(len(record.failures), 'run')} failed")
    rows, size = sum(node.rows_out for node in nodes), sum(node.bytes_out for node in nodes)
    if rows:
        parts.append(f"{count_text(rows)} rows")
    if size:
        parts.append(f"{bytes_text(size)} written")
    parts.append(seconds_text(record.elapsed_s(now_s)))
    left_s = time_left_s(record, now_s)
    if record.success is not None and record.finish_s is not None:
        parts.append("done" if record.success else "failed")
    elif left_s is not None:
        parts.append(f"about {seconds_text(left_s)} left")
    return ", ".join(parts)


class LineRenderer:
    """Prints the sentence when it is asked to draw."""

    def __init__(self, title: str, stream: TextIO) -> None:
        self.title = title
        self.stream = stream

    def draw(self, record: JobRecord, now_s: float) -> None:
        print(f"{self.title}: {progress_sentence(record, now_s)}", file=self.stream, flush=True)

    def close(self, record: JobRecord, now_s: float) -> None:
        self.draw(record, now_s)
