"""The profile of a job after (or while) it runs: what each node of the plan cost.

One `NodeProfile` per node that ran tasks, and a table of them as text. `profile_line` is the
short form that `explain` and the plan's text and SVG put under a node. Wall is from the first
start to the last finish of a node's tasks, so walls of nodes overlap; CPU and busy time are sums
over tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

from smallpond.show.record import JobRecord, NodeRecord
from smallpond.show.skew import skew_ratio
from smallpond.show.units import bytes_text, count_text, plural, seconds_text

SKEW_SHOWN = 2.0
"""`profile_line` mentions skew from here on."""
SKEW_TIME_MIN_S = 0.1
"""Of shorter runs the times are noise."""


@dataclass(frozen=True)
class NodeProfile:
    """What one node cost."""

    node_id: int
    name: str
    location: str | None
    task_count: int
    done_count: int
    skipped_count: int
    failure_count: int
    retry_count: int
    wall_s: float
    busy_s: float
    cpu_s: float
    rss_max_bytes: int
    rows_in: int
    rows_out: int
    bytes_in: int
    bytes_out: int
    spilled_bytes: int
    damaged_count: int
    """Damaged rows and files that were left out."""
    time_skew: float | None
    """Longest run over the median run."""
    row_skew: float | None
    """Most rows of a task over the median."""


def node_profiles(record: JobRecord) -> dict[int, NodeProfile]:
    """Profiles by node id, in plan order, of the nodes that have tasks."""
    record.advance()
    nodes = sorted(record.nodes.values(), key=lambda node: node.node_id)
    return {node.node_id: _profile_of(node) for node in nodes if node.is_stage}


def _profile_of(node: NodeRecord) -> NodeProfile:
    wall_s = 0.0
    if node.start_s is not None and node.finish_s is not None:
        wall_s = max(0.0, node.finish_s - node.start_s)
    longest_s = max(node.elapsed_s, default=0.0)
    return NodeProfile(
        node_id=node.node_id,
        name=node.name,
        location=node.location,
        task_count=node.task_count,
        done_count=node.done_count,
        skipped_count=node.skipped_count,
        failure_count=node.failure_count,
        retry_count=node.retry_count,
        wall_s=wall_s,
        busy_s=node.busy_s,
        cpu_s=node.cpu_s,
        rss_max_bytes=node.rss_max_bytes,
        rows_in=node.rows_in,
        rows_out=node.rows_out,
        bytes_in=node.bytes_in,
        bytes_out=node.bytes_out,
        spilled_bytes=node.spilled_bytes,
        damaged_count=node.damaged_count,
        time_skew=skew_ratio(node.elapsed_s) if longest_s >= SKEW_TIME_MIN_S else None,
        row_skew=skew_ratio(node.rows_each),
    )


def profile_line(profile: NodeProfile) -> str:
    """`8 tasks, 1.2 s, CPU 2.3 s, 210.0 MiB, 1.0 M rows (96.0 MiB) in, 12 rows (1.1 KiB) out`."""
    parts = [plural(profile.task_count, "task")]
    if profile.done_count < profile.task_count:
        parts.append(f"{count_text(profile.done_count)} done")
    if profile.skipped_count:
        parts.append(f"{count_text(profile.skipped_count)} reused")
    if profile.wall_s or profile.cpu_s:
        parts += [seconds_text(profile.wall_s), f"CPU {seconds_text(profile.cpu_s)}"]
    if profile.rss_max_bytes > 0:
        parts.append(f"peak {bytes_text(profile.rss_max_bytes)}")
    for rows, size, word in (
        (profile.rows_in, profile.bytes_in, "in"),
        (profile.rows_out, profile.bytes_out, "out"),
    ):
        if rows or size:
            amount = f"{plural(rows, 'row')} ({bytes_text(size)})" if size else plural(rows, "row")
            parts.append(f"{amount} {word}")
    if profile.spilled_bytes:
        parts.append(f"{bytes_text(profile.spilled_bytes)} spilled")
    if profile.damaged_count:
        parts.append(f"{count_text(profile.damaged_count)} damaged left out")
    if profile.retry_count:
        parts.append(plural(profile.retry_count, "retry"))
    for ratio, word in ((profile.time_skew, "time"), (profile.row_skew, "row")):
        if ratio is not None and ratio >= SKEW_SHOWN:
            parts.append(f"{word} skew {ratio:.1f}x")
    return ", ".join(parts)


HEADS = (
    "node", "tasks", "wall", "CPU", "peak mem", "rows in", "bytes in",
    "rows out", "bytes out", "spilled", "skew", "retries",
)  # fmt: skip


def profile_text(record: JobRecord, now_s: float) -> str:
    """The table of all nodes, headed by the job's own line."""
    profiles = list(node_profiles(record).values())
    rows = [HEADS, *(_cells(profile) for profile in profiles)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    tasks = sum(profile.task_count for profile in profiles)
    cpu_s = sum(profile.cpu_s for profile in profiles)
    elapsed_s = record.elapsed_s(now_s)
    head = f"{plural(tasks, 'task')} in {seconds_text(elapsed_s)}, CPU {seconds_text(cpu_s)}"
    if elapsed_s > 0:
        head += f" ({cpu_s / elapsed_s:.1f} cores)"
    lines += [
        f"{one.name}: {count_text(one.damaged_count)} damaged rows or files left out; the log "
        "names them"
        for one in profiles
        if one.damaged_count
    ]
    return "\n".join([head, *lines])


def _cells(profile: NodeProfile) -> tuple[str, ...]:
    def amount(value: int, text: str) -> str:
        return text if value > 0 else "-"

    done = count_text(profile.done_count)
    total = count_text(profile.task_count)
    return (
        profile.name,
        total if done == total else f"{done}/{total}",
        seconds_text(profile.wall_s),
        seconds_text(profile.cpu_s),
        amount(profile.rss_max_bytes, bytes_text(profile.rss_max_bytes)),
        amount(profile.rows_in, count_text(profile.rows_in)),
        amount(profile.bytes_in, bytes_text(profile.bytes_in)),
        amount(profile.rows_out, count_text(profile.rows_out)),
        amount(profile.bytes_out, bytes_text(profile.bytes_out)),
        amount(profile.spilled_bytes, bytes_text(profile.spilled_bytes)),
        "-" if profile.time_skew is None else f"{profile.time_skew:.1f}x",
        count_text(profile.retry_count) if profile.retry_count else "-",
    )
