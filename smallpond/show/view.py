"""The view of a job that a session or driver holds: record, live display, and files at the end.

    view = JobView(ctx.log_root, job_id=str(ctx.job_id), progress=None)
    with view.watch(scheduler):
        scheduler.run()
    view.write_files()

`progress`: True or None shows it (live on a terminal, else a line every few seconds, and never
for a job of less than half a second), False shows nothing; SP_PROGRESS=0 makes None mean False.
One view serves all plans that a session runs, one after the other or at once.

What draws and writes is imported when it is asked for: a job should begin at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from smallpond.show.progress import ProgressDisplay
from smallpond.show.record import JobRecord

if TYPE_CHECKING:
    from smallpond.logical.node import Node
    from smallpond.show.profile import NodeProfile

logger = logging.getLogger("smallpond.show")


class JobView:
    """Watches schedulers, and says and writes what it saw."""

    def __init__(
        self,
        log_root: str | Path,
        *,
        job_id: str = "",
        title: str | None = None,
        progress: bool | None = None,
        shared_log_root: str | Path | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self.log_root = Path(log_root)
        self.job_id = job_id
        self.title = title or "smallpond"
        self.progress = os.environ.get("SP_PROGRESS") != "0" if progress is None else progress
        self.shared_log_root = Path(shared_log_root) if shared_log_root else None
        self.record = JobRecord()
        """Of all plans together: for profiles and files."""
        self._stream = stream
        self._display: ProgressDisplay | None = None
        self._watching = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def watch(self, scheduler: Any) -> Iterator[None]:
        """Records and displays what `scheduler` does while the block runs."""
        scheduler.subscribe(self.record.append)
        with self._lock:
            self._watching += 1
            if self.progress and self._display is None:
                # Progress is that of what runs now; a session may have run much before.
                self._display = ProgressDisplay(JobRecord(), title=self.title, stream=self._stream)
                self._display.start()
            if self._display is not None:
                scheduler.subscribe(self._display.record.append)
        try:
            yield
        finally:
            with self._lock:
                self._watching -= 1
                if self._watching == 0 and self._display is not None:
                    self._display.stop()
                    self._display = None
            self.record.advance()

    def profiles(self) -> Mapping[int, NodeProfile]:
        """What each node cost so far, by node id: for `explain` and the drawings."""
        from smallpond.show.profile import node_profiles

        return node_profiles(self.record)

    def profile_text(self) -> str:
        """The table of all nodes."""
        from smallpond.show.profile import profile_text

        return profile_text(self.record, time.time())

    def write_timeline(self, path: str | Path | None = None) -> list[Path]:
        """Chrome traces at `{path}_exec` and `{path}_plan`, in the log folder if not said."""
        from smallpond.show.timeline_json import write_timeline_json

        return write_timeline_json(self.record, path or self.log_root / "timeline", time.time())

    def write_graph(self, nodes: Iterable[Node], path: str | Path | None = None) -> Path:
        """The plan as `{path}.svg`, in the log folder if not said."""
        from smallpond.show.plan_drawing import plan_svg

        base = str(path or self.log_root / "graph")
        target = Path(base if base.endswith(".svg") else f"{base}.svg")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(plan_svg(nodes, self.profiles()))
        return target

    def _nodes_run(self) -> list[Node]:
        """The last nodes of all plans that ran, without roots that only tie them together."""
        from smallpond.logical.node import RootNode

        nodes: list[Node] = []
        for plan in self.record.plans:
            if plan.logical_plan is not None:
                root = plan.logical_plan.root_node
                nodes += root.input_deps if isinstance(root, RootNode) else [root]
        return nodes

    def write_files(self) -> list[Path]:
        """Timelines, the plans that ran, `task_metrics.csv` and `profile.txt`, into the log folder.

        A job's result does not depend on them, so failing to write them is a warning.
        """
        from smallpond.show.metrics_csv import write_metrics_csv
        from smallpond.show.timeline_html import write_timeline_html

        written: list[Path] = []
        try:
            written += self.write_timeline()
            written += write_timeline_html(self.record, self.log_root, time.time(), self.job_id)
            metrics, profile = self.log_root / "task_metrics.csv", self.log_root / "profile.txt"
            write_metrics_csv(self.record, metrics)
            profile.write_text(self.profile_text() + "\n")
            written += [metrics, profile, self.write_graph(self._nodes_run())]
            if self.shared_log_root is not None:
                self.shared_log_root.mkdir(parents=True, exist_ok=True)
                for path in written:
                    shutil.copy(path, self.shared_log_root)
        except OSError:
            logger.warning("cannot write the job's timeline and metrics", exc_info=True)
        return written
