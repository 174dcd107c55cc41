"""Many seeds on all cores: worker processes that each run one seed after the other.

Why not a pool of the standard library: a seed may hang or take its process down, and that is a
result of the seed, too. Invariants: seeds are handed out in order; a worker that is silent for
`SILENCE_MAX_S` is ended, its seed counts as failed, and another one takes its place.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from tests.sim.replay import Run, run

SILENCE_MAX_S = 60.0
"""How long one seed may take."""

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    seed: int | None = None
    since: float = 0.0


def run_all(seeds: Iterable[int], mistake: str | None = None, workers: int = 0) -> Generator[Run]:
    """Runs seeds in parallel; yields each as it ends, without its trace."""
    todo = iter(seeds)
    count = workers or len(os.sched_getaffinity(0))
    crew = [_start(mistake) for _ in range(count)]
    try:
        busy = [worker for worker in crew if _give(worker, todo)]
        while busy:
            wait([worker.pipe for worker in busy], timeout=1.0)
            for worker in list(busy):
                found = _collect(worker)
                if found is None:
                    continue
                yield found
                if not worker.process.is_alive():
                    crew.remove(worker)
                    fresh = _start(mistake)
                    crew.append(fresh)
                    busy[busy.index(worker)] = worker = fresh
                if not _give(worker, todo):
                    busy.remove(worker)
    finally:
        for worker in crew:
            worker.process.kill()
            worker.process.join()


def _start(mistake: str | None) -> _Worker:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_work, args=(theirs, mistake), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker, todo: Iterator[int]) -> bool:
    worker.seed = next(todo, None)
    worker.since = time.monotonic()
    if worker.seed is None:
        return False
    worker.pipe.send(worker.seed)
    return True


def _collect(worker: _Worker) -> Run | None:
    """What a worker has to say; a failed run when it says nothing any more."""
    assert worker.seed is not None
    try:
        if worker.pipe.poll():
            found: Run = worker.pipe.recv()
            return found
        if time.monotonic() - worker.since < SILENCE_MAX_S:
            return None
        problem = f"hang: no end within {SILENCE_MAX_S:.0f} s"
    except (EOFError, ConnectionResetError):
        worker.process.join()
        problem = f"death: the process ended with {worker.process.exitcode}"
    worker.process.kill()
    worker.process.join()
    return Run(worker.seed, (), (problem,), (), 0, time.monotonic() - worker.since)


def _work(pipe: Connection, mistake: str | None) -> None:
    while True:
        seed = pipe.recv()
        found = run(seed, (), mistake)
        problems, trace_hash, seconds = found.problems, found.trace_hash, found.seconds
        pipe.send(Run(seed, (), problems, (), trace_hash, seconds))
