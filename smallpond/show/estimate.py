"""How long a job will still take, from how long its tasks took.

The work left is, for each node, its open tasks times the mean of its finished ones (of a node
that has none: the mean of all nodes, weighted by tasks), less what runs have already spent. It is
divided by how many tasks ran at once on average. That is right for jobs of many tasks, which are
those whose end one asks for; it says nothing before MIN_SHARE of the tasks are done, because it
would be a guess.
"""

from __future__ import annotations

from smallpond.show.record import JobRecord

MIN_SHARE = 0.02
MIN_ELAPSED_S = 1.0


def time_left_s(record: JobRecord, now_s: float) -> float | None:
    """Seconds to the end, or None while that would be a guess."""
    total, done = record.task_count, record.done_count
    elapsed_s = record.elapsed_s(now_s)
    if total == 0 or elapsed_s < MIN_ELAPSED_S or done < max(1, MIN_SHARE * total):
        return None
    if done >= total:
        return 0.0
    nodes = list(record.nodes.values())
    samples = sum(len(node.elapsed_s) for node in nodes)
    if samples == 0:
        return None
    busy_s = sum(node.busy_s for node in nodes)
    overall_mean_s = busy_s / samples
    work_s = 0.0
    means: dict[int, float] = {}
    for node in nodes:
        count = len(node.elapsed_s)
        means[node.node_id] = mean_s = node.busy_s / count if count else overall_mean_s
        work_s += mean_s * node.open_count
    for span in record.open_spans:
        spent_s = min(span.elapsed_s(now_s), means.get(span.node_id, overall_mean_s))
        work_s -= spent_s
        busy_s += spent_s
    parallel = max(1.0, busy_s / elapsed_s, float(record.running_count))
    return max(0.0, work_s) / parallel
