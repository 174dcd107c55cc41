"""What a measurement is, and how all of them are shown.

Owns: rows, their bars, the table and the JSON. A row without something beside it is refused.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.usage import Cost, Latency, Servers


@dataclass(frozen=True)
class Beside:
    """What a value is compared with: measured in this run, or published."""

    name: str
    value: float


@dataclass(frozen=True)
class Bar:
    """What a value must reach, and why."""

    name: str
    value: float
    at_most: bool = False


@dataclass(frozen=True)
class Row:
    """One measurement."""

    family: str
    name: str
    value: float
    unit: str
    beside: tuple[Beside, ...]
    bar: Bar | None = None
    cost: Cost | None = None
    latency: Latency | None = None

    def __post_init__(self) -> None:
        if not self.beside:
            raise ValueError(f"a bare number says nothing: {self.family}, {self.name}")

    @property
    def ratio(self) -> float:
        """To the first thing beside it."""
        return self.value / self.beside[0].value

    @property
    def reached(self) -> bool | None:
        """Whether it reached its bar; None without one."""
        if self.bar is None:
            return None
        return self.value <= self.bar.value if self.bar.at_most else self.value >= self.bar.value


@dataclass
class Context:
    """What every family gets: how much to measure, and the machine's own limits."""

    quick: bool
    limits: dict[str, float] = field(default_factory=dict)
    servers: Servers = field(default_factory=Servers)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def seconds(work: Callable[[], Any]) -> float:
    """How long something took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median_rate(amount: float, rounds: int, work: Callable[[int], Any]) -> float:
    """Amount per second, the median of some rounds; `work` gets the number of the round."""
    return amount / statistics.median(seconds(partial(work, number)) for number in range(rounds))


def shown(value: float, unit: str) -> str:
    """A value as a person reads it."""
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:,.3g} {unit}"


COLUMNS = (
    "family",
    "measured",
    "value",
    "beside it",
    "ratio",
    "bar",
    "reached",
    "CPU: client + servers",
    "p50 / p90 / p99 / p99.9 µs",
)


def print_table(console: Console, rows: list[Row]) -> None:
    """All rows, by family."""
    table = Table(title="three replicas, durability and checksums on, one machine, one run")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in ("value", "ratio") else "left")
    family = None
    for row in rows:
        if family not in (None, row.family):
            table.add_section()
        beside = "; ".join(f"{one.name} {shown(one.value, row.unit)}" for one in row.beside)
        verdict = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[row.reached]
        bar = "" if row.bar is None else f"{row.bar.name}: {shown(row.bar.value, row.unit)}"
        first = row.family if row.family != family else ""
        value = shown(row.value, row.unit)
        cost = "" if row.cost is None else str(row.cost)
        latency = "" if row.latency is None else str(row.latency)
        ratio = f"{row.ratio:.2f}"
        table.add_row(first, row.name, value, beside, ratio, bar, verdict, cost, latency)
        family = row.family
    console.print(table)


def as_json(rows: list[Row], context: Context) -> dict[str, Any]:
    """The same for machines."""
    out = [{**asdict(row), "ratio": row.ratio, "reached": row.reached} for row in rows]
    return {"version": 1, "quick": context.quick, "limits": context.limits, "rows": out}
