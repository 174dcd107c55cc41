"""`GET /metrics`: the process in Prometheus' text format.

Why by hand: the few lines of the format are all that is needed, and nothing is global.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from firepond.fs.manager.model import PublicState, State

Sample = tuple[str, Mapping[str, Any], float]


def process_samples(started_s: float) -> list[Sample]:
    """Samples that every process has."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with Path("/proc/self/statm").open(encoding="ascii") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return [
        ("firepond_process_uptime_seconds", {}, time.monotonic() - started_s),
        ("firepond_process_cpu_seconds_total", {}, usage.ru_utime + usage.ru_stime),
        ("firepond_process_resident_bytes", {}, resident),
    ]


def storage_samples(report: Mapping[str, Any]) -> list[Sample]:
    """Samples of a storage engine's status."""
    samples: list[Sample] = []
    for target in report.get("targets", ()):
        labels = {"target": target["target"], "chain": target["chain"]}
        samples.append(("firepond_target_used_bytes", labels, target["used_bytes"]))
        samples.append(("firepond_target_chunks", labels, target["chunk_count"]))
        state = {**labels, "state": target["local_state"]}
        samples.append(("firepond_target_local_state", state, 1))
        samples += _resync_samples(labels, target.get("resync"))
        samples += _scrub_samples(labels, target.get("scrub"))
    for name in ("repaired_blocks", "evicted_values"):
        if name in report:
            samples.append((f"firepond_storage_{name}_total", {}, report[name]))
    for disk in report.get("disks", ()):
        labels = {"disk": disk["path"]}
        samples.append(("firepond_disk_total_bytes", labels, disk["total_bytes"]))
        samples.append(("firepond_disk_free_bytes", labels, disk["free_bytes"]))
        samples.append(("firepond_disk_failed", labels, float(bool(disk.get("failed")))))
    return samples


def _resync_samples(labels: Mapping[str, Any], row: Mapping[str, Any] | None) -> list[Sample]:
    """A resync that this target sends, as long as it runs."""
    if not row:
        return []
    labels = {**labels, "successor": row["successor"]}
    return [
        (f"firepond_resync_{name}", labels, row[name])
        for name in ("chunks_done", "chunks_total", "bytes_moved")
    ]


def _scrub_samples(labels: Mapping[str, Any], row: Mapping[str, Any] | None) -> list[Sample]:
    """What the scrubber and reads found in this target since the process began."""
    if not row:
        return []
    return [
        ("firepond_scrub_chunks_checked_total", labels, row["chunks_checked"]),
        ("firepond_scrub_bytes_checked_total", labels, row["bytes_checked"]),
        ("firepond_scrub_bad_chunks_total", labels, row["bad_count"]),
        ("firepond_scrub_repaired_chunks_total", labels, row["repaired_count"]),
        ("firepond_scrub_unrepairable_chunks", labels, row["unrepairable_count"]),
        ("firepond_scrub_last_pass_unix_seconds", labels, row["last_pass_unix_s"]),
    ]


def meta_samples(report: Mapping[str, Any]) -> list[Sample]:
    """Every number of a metadata engine's status, and its operations by name."""
    status = report.get("meta", {})
    samples: list[Sample] = [
        (f"firepond_meta_{name}", {}, float(value))
        for name, value in status.items()
        if isinstance(value, int | float)
    ]
    for name, row in status.get("operations", {}).items():
        labels = {"operation": name}
        samples.append(("firepond_meta_operations_total", labels, row["count"]))
        samples.append(("firepond_meta_operations_failed_total", labels, row["failed"]))
        seconds = row["total_us"] / 1e6
        samples.append(("firepond_meta_operation_seconds_total", labels, seconds))
    return samples


def manager_samples(state: State, term: int) -> list[Sample]:
    """Samples of the cluster as the manager sees it."""
    samples: list[Sample] = [
        ("firepond_manager_term", {}, term),
        ("firepond_routing_version", {}, state.version),
    ]
    for node in state.nodes.values():
        labels = {"node": node.id, "role": ",".join(node.roles)}
        samples.append(("firepond_node_alive", labels, float(node.alive)))
    changing = sum(bool(one.leaving or one.reordering) for one in state.chains.values())
    samples.append(("firepond_chains_changing", {}, changing))
    counts = dict.fromkeys(PublicState, 0)
    for chain in state.chains.values():
        for member in chain.members:
            counts[member.state] += 1
    samples += [("firepond_targets", {"state": state}, count) for state, count in counts.items()]
    return samples


def render(samples: Iterable[Sample]) -> str:
    """The text format; samples of one name stand together, as it demands."""
    by_name: dict[str, list[str]] = {}
    for name, labels, value in samples:
        pairs = ",".join(f'{key}="{_escape(str(text))}"' for key, text in labels.items())
        line = f"{name}{{{pairs}}} {value:.17g}" if pairs else f"{name} {value:.17g}"
        by_name.setdefault(name, []).append(line)
    lines = []
    for name, group in by_name.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# TYPE {name} {kind}", *group]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
