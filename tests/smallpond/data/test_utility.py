"""Reading ahead, commands, profiles, wrappers."""

from __future__ import annotations

import cProfile
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from smallpond.utility import (
    ConcurrentIter,
    ConcurrentIterError,
    Wrapper,
    cprofile_to_string,
    execute_command,
)

DEADLINE_S = 20


def read_ahead_threads() -> int:
    return sum(thread.name == "read-ahead" for thread in threading.enumerate())


def wait_for_no_threads() -> None:
    deadline = time.monotonic() + DEADLINE_S
    while read_ahead_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert read_ahead_threads() == 0


@pytest.mark.parametrize("buffer_size", [1, 3, 100])
def test_items_arrive_in_order(buffer_size: int) -> None:
    """Goal: nothing lost, nothing moved. Method: nested readers. Oracle: the same list."""
    with (
        ConcurrentIter(range(1000), buffer_size) as inner,
        ConcurrentIter(inner, buffer_size) as outer,
    ):
        assert list(outer) == list(range(1000))
    wait_for_no_threads()


def test_reads_no_further_ahead_than_asked() -> None:
    """Goal: memory stays bounded. Method: take one item, let the thread run on.
    Oracle: items produced: the taken one, two in the buffer, one waiting for room.
    """
    produced = []

    def source() -> Iterator[int]:
        for number in range(100):
            produced.append(number)
            yield number

    with ConcurrentIter(source(), 2) as items:
        next(items)
        deadline = time.monotonic() + DEADLINE_S
        while len(produced) < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert produced == [0, 1, 2, 3]


def test_failure_of_the_source_arrives() -> None:
    """Goal: an error is not an end. Method: fail after two items. Oracle: items, then the error."""

    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("broken")

    seen = []
    with pytest.raises(ConcurrentIterError) as caught, ConcurrentIter(source(), 5) as items:
        for item in items:
            seen.append(item)
    assert seen == [1, 2]
    assert isinstance(caught.value.__cause__, KeyError)
    wait_for_no_threads()


def test_failure_of_the_consumer_ends_the_thread() -> None:
    """Goal: a task that raises leaves no thread behind. Method: raise while the buffer is full.
    Oracle: the threads of the process.
    """
    with pytest.raises(ValueError, match="consumer"), ConcurrentIter(iter(int, 1)) as items:
        next(items)
        raise ValueError("consumer")
    wait_for_no_threads()


def test_an_abandoned_reader_does_not_hold_the_process() -> None:
    """Goal: a process ends although a reader was never joined (0.15 hung for ever).
    Method: abandon one whose thread waits for room. Oracle: the process ends by itself.
    """
    script = (
        "from smallpond.utility import ConcurrentIter\n"
        "items = iter(ConcurrentIter(range(10)).__enter__())\n"
        "next(items)\n"
        "raise SystemExit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=DEADLINE_S)
    assert done.returncode == 7


def test_execute_command() -> None:
    """Goal: lines as they come, failure as an error. Oracle: echo and ls."""
    assert list(execute_command("echo a b")) == ["a b"]
    assert list(execute_command("echo a; echo b", shell=True)) == ["a", "b"]
    with pytest.raises(subprocess.CalledProcessError):
        list(execute_command("ls /does/not/exist"))


def test_profile_and_wrapper() -> None:
    """Goal: the profile names functions; a wrapper stands for its object. Oracle: text, values."""

    class Thing:
        size = 3

    profile = cProfile.Profile()
    profile.enable()
    sorted(range(1000))
    assert "sorted" in cprofile_to_string(profile)
    thing = Thing()
    wrapper = Wrapper(thing)
    wrapper.size = 4
    wrapper._own = 5
    assert (thing.size, wrapper.size, hasattr(thing, "_own")) == (4, 4, False)
