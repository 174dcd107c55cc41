"""Small tools for scripts: reading ahead in a thread, running commands, profiles, two-phase
statistics.

`ConcurrentIter` is what user code of stream tasks wraps around its inputs. Its thread is a daemon
and never blocks for ever: it waits for room in the buffer or for the end of the consumer, whichever
comes first, so a task that fails in the middle leaves nothing behind that would keep its process
alive.
"""

from __future__ import annotations

import collections
import io
import logging
import subprocess
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import cProfile

logger = logging.getLogger("smallpond.utility")

T = TypeVar("T")


def overall_stats(
    ctx: Any,
    inp: Any,
    sql_per_part: str,
    sql_on_merged: str,
    output_name: str,
    output_dir: str | None = None,
    cpu_limit: int = 2,
    memory_limit: int = 30 << 30,
) -> Any:
    """A plan that queries each partition, then all the results together."""
    from smallpond.logical.node import DataSetPartitionNode, DataSinkNode, SqlEngineNode

    limits: dict[str, Any] = {"cpu_limit": cpu_limit, "memory_limit": memory_limit}
    per_part = SqlEngineNode(ctx, inp, sql_per_part, **limits)
    merged = DataSetPartitionNode(ctx, (per_part,), npartitions=1)
    overall = SqlEngineNode(ctx, (merged,), sql_on_merged, output_name=output_name, **limits)
    return overall if output_dir is None else DataSinkNode(ctx, (overall,), output_dir)


def execute_command(
    cmd: str, env: dict[str, str] | None = None, shell: bool = False
) -> Iterator[str]:
    """Run a command and yield the lines it prints (both streams); a failure raises at the end."""
    with subprocess.Popen(
        cmd if shell else cmd.split(),
        env=env,
        shell=shell,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield line.rstrip()
        code = process.wait()
    if code != 0:
        raise subprocess.CalledProcessError(code, cmd)


def cprofile_to_string(
    perf_profile: cProfile.Profile, order_by: Any = None, top_k: int = 20
) -> str:
    """The most expensive functions of a profile as text; by own time unless told otherwise."""
    import pstats

    perf_profile.disable()
    text = io.StringIO()
    stats = pstats.Stats(perf_profile, stream=text).strip_dirs()
    stats.sort_stats(pstats.SortKey.TIME if order_by is None else order_by).print_stats(top_k)
    return text.getvalue()


class Wrapper:
    """Stands for another object; only attributes with a leading underscore are its own."""

    def __init__(self, base_obj: Any) -> None:
        self._base_obj = base_obj

    def __str__(self) -> str:
        return str(self._base_obj)

    def __repr__(self) -> str:
        return repr(self._base_obj)

    def __getattr__(self, name: str) -> Any:
        if name == "_base_obj":
            # While being unpickled there is no base object yet.
            raise AttributeError(name)
        return getattr(self._base_obj, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            setattr(self._base_obj, name, value)


class ConcurrentIterError(Exception):
    """The iterable failed in its thread; the cause is chained."""


class ConcurrentIter(Generic[T]):
    """Iterates over something in a thread of its own, at most `max_buffer_size` items ahead.

    >>> with ConcurrentIter(range(3)) as numbers:
    ...     list(numbers)
    [0, 1, 2]
    """

    def __init__(self, iterable: Iterable[T], max_buffer_size: int = 1) -> None:
        assert isinstance(iterable, Iterable), f"cannot iterate over {iterable!r}"
        self._iterable = iterable
        self._room = max(1, max_buffer_size)
        self._items: collections.deque[T] = collections.deque()
        self._changed = threading.Condition()
        self._ended = False
        self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._produce, name="read-ahead", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return iter(self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.join()

    def __iter__(self) -> Iterator[T]:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._items or self._ended)
                    if not self._items:
                        break
                    item = self._items.popleft()
                    self._changed.notify_all()
                yield item
            if self._error is not None:
                raise ConcurrentIterError(self._error) from self._error
        finally:
            self.join()

    def join(self) -> None:
        """End the thread: it stops at the item it is working on."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _produce(self) -> None:
        try:
            for item in self._iterable:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or len(self._items) < self._room)
                    if self._stopped:
                        return
                    self._items.append(item)
                    self._changed.notify_all()
        except BaseException as error:
            # Whatever it was, the consumer must hear of it.
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()


class InterceptHandler(logging.Handler):
    """Sends what the standard logging module gets to loguru, for scripts that log with loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on, with the place in the code that it came from."""
        try:
            from loguru import logger as sink
        except ImportError as error:
            from smallpond.common import MissingDependency

            raise MissingDependency("InterceptHandler needs loguru: pip install loguru") from error
        level: str | int = record.levelno
        if record.levelname in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            level = record.levelname

        def place(entry: Any) -> None:
            entry.update(name=record.name, function=record.funcName, line=record.lineno)

        sink.patch(place).opt(exception=record.exc_info).log(level, record.getMessage())
