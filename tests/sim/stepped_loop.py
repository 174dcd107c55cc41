"""An asyncio event loop whose time is given from outside, and which never waits.

Why a loop of its own: the manager is asyncio code; driven by this loop, all that is due at a time
runs to its end inside one call, in an order that depends on nothing but the calls before.
Invariants: no threads, no sockets, no clock; timers of the same instant run in the order in which
they were set.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_NANOSECONDS = 1_000_000_000


class SteppedLoop(asyncio.AbstractEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._now_ns = 0
        self._ready: deque[events.Handle] = deque()
        self._timers: list[tuple[int, int, events.TimerHandle]] = []
        self._timer_count = 0
        self._closed = False
        self.failures: list[dict[str, Any]] = []
        """What tasks raised that nobody waited for."""

    def advance(self, now_ns: int) -> None:
        """Sets the time, which never runs backwards, and runs all that is due."""
        target_ns = max(now_ns, self._now_ns)
        with self.running():
            while True:
                self._run_ready()
                if not self._timers or self._timers[0][0] > target_ns:
                    break
                when_ns, _, timer = heapq.heappop(self._timers)
                self._now_ns = max(self._now_ns, when_ns)
                if not timer.cancelled():
                    timer._run()
            self._now_ns = target_ns

    def jump(self, now_ns: int) -> None:
        """Sets the time and runs nothing: timers that are overdue now run late, at this time."""
        self._now_ns = max(now_ns, self._now_ns)

    def next_timer_ns(self) -> int | None:
        """When something is due next."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, this is the running loop: tasks can be made."""
        outer = events._get_running_loop()
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(outer)

    def time_ns(self) -> int:
        """Now."""
        return self._now_ns

    def _run_ready(self) -> None:
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()

    # What asyncio needs of a loop.

    def time(self) -> float:
        return self._now_ns / _NANOSECONDS

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Any = None,
    ) -> events.TimerHandle:
        when_ns = self._now_ns + max(round(delay * _NANOSECONDS), 0)
        return self._set_timer(when_ns, callback, args, context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Any = None,
    ) -> events.TimerHandle:
        return self._set_timer(round(when * _NANOSECONDS), callback, args, context)

    def _set_timer(
        self, when_ns: int, callback: Callable[..., object], args: Any, context: Any
    ) -> events.TimerHandle:
        timer = events.TimerHandle(when_ns / _NANOSECONDS, callback, args, self, context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when_ns, self._timer_count, timer))
        return timer

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """Cancelled timers are dropped when they come up."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Any:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)
