"""The live progress of a job: a thread that draws what the job's record says.

On a terminal a table of stages that redraws itself (`progress_live.py`); otherwise one plain line
every few seconds (`progress_line.py`), for logs. A job that ends within FIRST_DRAW_S shows
nothing and pays nothing: rich is imported only when the first table is drawn.

Invariants: the thread only reads the record, so a job never waits for its display; an error in
drawing ends the display, not the job; `stop()` draws the final state once and joins the thread.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from smallpond.show.record import JobRecord

FIRST_DRAW_S = 0.5
LIVE_INTERVAL_S = 0.5
LINE_INTERVAL_S = 5.0
logger = logging.getLogger("smallpond.show")


class Renderer(Protocol):
    """Draws the state of a job, again and again."""

    def draw(self, record: JobRecord, now_s: float) -> None: ...

    def close(self, record: JobRecord, now_s: float) -> None: ...


class ProgressDisplay:
    """Shows the progress of `record` on `stream` from `start()` to `stop()`."""

    def __init__(
        self,
        record: JobRecord,
        *,
        title: str = "smallpond",
        stream: TextIO | None = None,
        first_draw_s: float | None = None,
        interval_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.record = record
        self.title = title
        self.stream = stream
        self.first_draw_s = first_draw_s
        self.interval_s = interval_s
        self._clock = clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to watch; calls while it runs do nothing."""
        if self._thread is not None:
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="smallpond-progress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Draws the last state, if anything was drawn, and ends the thread."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None

    def _watch(self) -> None:
        try:
            stream = self.stream or sys.stderr
            live = stream.isatty()
            first_s = self.first_draw_s
            if first_s is None:
                first_s = FIRST_DRAW_S if live else LINE_INTERVAL_S
            if not self._stop.wait(first_s):
                self._draw_until_stopped(stream, live)
        except Exception:
            logger.warning("the progress display ended; the job goes on", exc_info=True)

    def _draw_until_stopped(self, stream: TextIO, live: bool) -> None:
        interval_s = self.interval_s or (LIVE_INTERVAL_S if live else LINE_INTERVAL_S)
        renderer = _renderer(self.title, stream, live=live)
        try:
            while True:
                self.record.advance()
                renderer.draw(self.record, self._clock())
                if self._stop.wait(interval_s):
                    break
        finally:
            self.record.advance()
            renderer.close(self.record, self._clock())


def _renderer(title: str, stream: TextIO, *, live: bool) -> Renderer:
    if live:
        from smallpond.show.progress_live import LiveRenderer

        return LiveRenderer(title, stream)
    from smallpond.show.progress_line import LineRenderer

    return LineRenderer(title, stream)
