"""What the tour shows: a table of measured rows and a picture of the throughput around the kill."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One measured transfer. `local` names the row of the local disk that it is compared with."""

    what: str
    size_bytes: int
    elapsed_s: float
    local: str | None = None

    @property
    def gigabytes_per_second(self) -> float:
        return self.size_bytes / self.elapsed_s / 1e9


@dataclass
class Timeline:
    """Acknowledged bytes over time around a kill. Times are seconds since the first sample."""

    samples: list[tuple[float, int]] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)

    def stall_s(self, since: float) -> float:
        """The longest time without an acknowledged byte that ends after `since`."""
        stall = 0.0
        for before, after in zip(self.samples, self.samples[1:], strict=False):
            if after[0] >= since:
                stall = max(stall, after[0] - before[0])
        return stall

    def throughput(self, bucket_s: float) -> tuple[list[float], list[float]]:
        """Centres of time buckets, and GB/s in each."""
        if not self.samples:
            return [], []
        count = int(self.samples[-1][0] / bucket_s) + 1
        totals = [0] * count
        acknowledged = 0
        for at, total in self.samples:
            totals[int(at / bucket_s)] += total - acknowledged
            acknowledged = total
        centres = [(position + 0.5) * bucket_s for position in range(count)]
        return centres, [total / bucket_s / 1e9 for total in totals]


def print_table(console: Console, rows: list[Row]) -> None:
    """What, size, time, GB/s and the ratio to the local disk."""
    by_name = {row.what: row for row in rows}
    table = Table(title="firepond on this machine, three replicas, checksums and durability on")
    for name in ("what", "size", "time", "GB/s", "ratio to the local disk"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        local = by_name.get(row.local) if row.local else None
        ratio = f"{row.gigabytes_per_second / local.gigabytes_per_second:.2f}" if local else ""
        table.add_row(
            row.what,
            f"{row.size_bytes / 1e6:,.0f} MB",
            f"{row.elapsed_s:.2f} s",
            f"{row.gigabytes_per_second:.2f}",
            ratio,
        )
    console.print(table)


def draw_timeline(timeline: Timeline, path: Path) -> None:
    """Throughput over time, with the events marked, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    centres, rates = timeline.throughput(0.1)
    figure, axes = pyplot.subplots(figsize=(10, 4), layout="constrained")
    axes.fill_between(centres, rates, step="mid", alpha=0.4, color="#d95f0e")
    axes.step(centres, rates, where="mid", color="#d95f0e")
    top = max(rates, default=1.0) * 1.25
    for position, (at, label) in enumerate(timeline.events):
        axes.axvline(at, color="#444444", linestyle="--", linewidth=1)
        axes.text(at, top * (0.97 - 0.08 * (position % 3)), f" {label}", va="top", fontsize=9)
    axes.set(
        xlabel="seconds",
        ylabel="acknowledged GB/s",
        title="Saving a checkpoint while the head of a chain is killed",
        ylim=(0, top),
        xlim=(0, max(centres, default=1.0)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
