"""The simulator's command line: `python -m tests.sim --seed 7`, `--seeds 2000`, `--mistakes`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim import _sim
from tests.sim.crew import run_all
from tests.sim.minimise import minimise
from tests.sim.mistakes import KNOWN, SEEDS_MAX, search
from tests.sim.replay import Run, run

FAILING_SHOWN_MAX = 20


def main() -> int:
    """Does what was asked; the exit status is 1 if a seed failed that should not have."""
    arguments = _parse()
    if arguments.mistakes:
        return _prove(arguments.count or SEEDS_MAX, arguments.mistake)
    if arguments.seed is not None:
        return _replay(arguments.seed, arguments.drop, arguments.mistake)
    return _soak(arguments.first, arguments.count or 1000, arguments.mistake)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one seed and print its trace")
    parser.add_argument("--drop", type=_numbers, default=(), help="entries to leave out: 3,4,9")
    parser.add_argument("--seeds", dest="count", type=int, help="run this many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--mistake", choices=_sim.mistakes(), help="plant a mistake")
    parser.add_argument("--mistakes", action="store_true", help="find each planted mistake")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _print(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _replay(seed: int, dropped: tuple[int, ...], mistake: str | None) -> int:
    found = run(seed, dropped, mistake)
    _print(*_story(found), "", _verdict(found))
    if not found.failed:
        return 0
    if not dropped:
        small = minimise(found, mistake)
        _print("", "made smaller:", *_story(small))
        _print("", _verdict(small), f"again: {_command(small, mistake)}")
    return 1


def _story(found: Run) -> tuple[str, ...]:
    """The trace, which begins with the plan; the plan alone of a run that left none."""
    return found.trace or tuple(_sim.describe(found.seed, list(found.dropped)))


def _command(found: Run, mistake: str | None) -> str:
    planted = f" --mistake {mistake}" if mistake else ""
    drop = ",".join(map(str, found.dropped))
    return f"python -m tests.sim --seed {found.seed} --drop {drop}{planted}"


def _verdict(found: Run) -> str:
    head = f"seed {found.seed}: trace {found.trace_hash:016x}, {found.seconds * 1000:.0f} ms"
    if not found.failed:
        return f"{head}, all rules hold"
    return "\n".join([f"{head}, FAILED", *(f"  {problem}" for problem in found.problems)])


def _soak(first: int, count: int, mistake: str | None) -> int:
    start, shown_at = time.perf_counter(), 0.0
    failed: list[Run] = []
    for done, found in enumerate(run_all(range(first, first + count), mistake), start=1):
        if found.failed:
            failed.append(found)
            _clear()
            _print(f"seed {found.seed} FAILED: {found.problems[0][:300]}")
        passed_s = time.perf_counter() - start
        if passed_s - shown_at > 0.5 or done == count:
            shown_at = passed_s
            _progress(done, count, passed_s, len(failed))
    _clear()
    seconds = time.perf_counter() - start
    rate = count / seconds
    _print(f"{count} seeds in {seconds:.1f} s ({rate:.1f} a second), {len(failed)} failed")
    shown = sorted(run.seed for run in failed)[:FAILING_SHOWN_MAX]
    if shown:
        _print(f"failing seeds: {' '.join(map(str, shown))}; replay one: make sim SEED={shown[0]}")
    return 1 if failed else 0


def _progress(done: int, count: int, seconds: float, failed: int) -> None:
    if sys.stdout.isatty():
        line = f"{done}/{count} seeds, {done / seconds:.1f} a second, {failed} failed"
        sys.stdout.write(f"\r{line:<70}")
        sys.stdout.flush()


def _clear() -> None:
    if sys.stdout.isatty():
        sys.stdout.write(f"\r{'':<70}\r")


def _prove(count: int, only: str | None) -> int:
    missed = 0
    for mistake in [only] if only else _sim.mistakes():
        known = [KNOWN[mistake]] if mistake in KNOWN else []
        others = (seed for seed in range(1, count + 1) if seed not in known)
        verdict = search(mistake, [*known, *others])
        missed += verdict.found is None
        _print(str(verdict))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
