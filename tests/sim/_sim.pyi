"""The native half of the simulator: the world, the plans and the checkers."""

from collections.abc import Callable, Sequence
from typing import Any

class Outcome:
    """What one run gave."""

    trace: list[str]
    trace_hash: int
    problems: list[str]

def run(
    seed: int,
    dropped: Sequence[int],
    mistake: str | None,
    managers: Callable[..., Any],
) -> Outcome:
    """Runs the plan of a seed without the entries that are dropped."""

def describe(seed: int, dropped: Sequence[int]) -> list[str]:
    """The plan for people: the machines, then an entry a line."""

def entry_count(seed: int) -> int:
    """How many entries the plan of a seed has."""

def mistakes() -> list[str]:
    """The names of the mistakes that can be planted."""

def transitions() -> list[tuple[str, str]]:
    """The changes of a public state that the checker lets pass."""
