"""A work queue that is a directory, on any file system that producers and consumers share.

    {root}/temp/       items that are being written
    {root}/enqueued/   {key}-{time_ns:x}-ENQ{uuid}
    {root}/dequeued/   {key}-{time_ns:x}-ENQ{uuid}-DEQ{uuid}

Why files: the shared file system is there anyway, it outlives every process, and a queue can be
looked at with `ls`. Both moves are renames. A rename has one winner, so that a claim is exclusive
without locks, and a reader never sees a half-written item.

Invariants: a file in `enqueued` is complete; each is claimed once; a claimed file stays in
`dequeued` for whoever wants to know what happened. An item that cannot be read is handed out as
`UnreadableWork`: dropping it would leave its sender waiting for ever.
"""

from __future__ import annotations

import logging
import os
import random
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from smallpond.common import MB
from smallpond.execution.queue.base import WorkQueue
from smallpond.execution.workitem import WorkBatch, WorkItem, WorkStatus
from smallpond.io.filesystem import dump, load

logger = logging.getLogger(__name__)

ENTRY_KEY = re.compile(r"^(?P<key>.*)-[0-9a-f]+-ENQ[0-9a-f]{32}")


class UnreadableWork(WorkItem):
    """Stands for an item that could not be unpickled here; `key` is that of the file."""

    def __init__(self, key: str, exception: BaseException) -> None:
        super().__init__(key, cpu_limit=0, gpu_limit=0, memory_limit=0)
        self.status = WorkStatus.CRASHED
        self.exception = exception


class WorkQueueOnFilesystem(WorkQueue):
    """A work queue in the directory `workq_root`; `sort` pops by name, `random` in any order."""

    buffer_size = 16 * MB

    def __init__(self, workq_root: str, sort: bool = True, random: bool = False) -> None:
        super().__init__()
        self.workq_root = workq_root
        self.sort = sort
        self.random = random
        self.buffered_works: list[WorkItem] = []
        self.temp_dir = str(Path(workq_root, "temp"))
        self.enqueue_dir = str(Path(workq_root, "enqueued"))
        self.dequeue_dir = str(Path(workq_root, "dequeued"))
        for folder in (self.temp_dir, self.enqueue_dir, self.dequeue_dir):
            Path(folder).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return f"{type(self).__name__}@{self.workq_root}"

    def size(self) -> int:
        """The number of entries that wait; a batch is one."""
        return len(os.listdir(self.enqueue_dir))

    def list_enqueued(self, expand_batch: bool = True) -> Iterator[WorkItem]:
        """The items that wait, without taking them."""
        yield from self._list_works(self.enqueue_dir, expand_batch)

    def list_dequeued(self, expand_batch: bool = True) -> Iterator[WorkItem]:
        """The items that were taken."""
        yield from self._list_works(self.dequeue_dir, expand_batch)

    def list_works(self, expand_batch: bool = True) -> Iterator[WorkItem]:
        """All items that ever were in the queue."""
        yield from self.list_enqueued(expand_batch)
        yield from self.list_dequeued(expand_batch)

    def _list_works(self, folder: str, expand_batch: bool) -> Iterator[WorkItem]:
        for name in self._ordered(os.listdir(folder)):
            try:
                item = self._read(Path(folder, name))
            except FileNotFoundError:
                # Claimed between listing and reading; it is in the other directory now.
                continue
            yield from item.works if expand_batch and isinstance(item, WorkBatch) else [item]

    def _ordered(self, names: list[str]) -> Iterable[str]:
        if self.sort:
            return sorted(names)
        if self.random:
            random.shuffle(names)
        return names

    def _read(self, path: Path) -> WorkItem:
        try:
            item = load(str(path), self.buffer_size)
            if isinstance(item, WorkItem):
                return item
            error: BaseException = TypeError(f"{path} holds no work item but a {type(item)}")
        except FileNotFoundError as missing:
            if missing.filename == str(path):
                raise
            error = missing
        except Exception as unreadable:
            error = unreadable
        logger.error("cannot read the work item %s: %s", path, error)
        match = ENTRY_KEY.match(path.name)
        return UnreadableWork(match["key"] if match else path.name, error)

    def _pop_unbuffered(self, count: int) -> list[WorkItem]:
        works: list[WorkItem] = []
        for name in self._ordered(os.listdir(self.enqueue_dir)):
            claimed = Path(self.dequeue_dir, f"{name}-DEQ{uuid.uuid4().hex}")
            try:
                Path(self.enqueue_dir, name).rename(claimed)
            except FileNotFoundError:
                if not Path(self.dequeue_dir).is_dir():
                    raise
                logger.debug("another consumer was faster with %s", name)
                continue
            works.append(self._read(claimed))
            if len(works) >= count:
                break
        return works

    def _push_unbuffered(self, item: WorkItem) -> bool:
        key = item.key.replace(os.sep, "_")
        name = f"{key}-{time.time_ns():x}-ENQ{uuid.uuid4().hex}"
        written = Path(self.temp_dir, name)
        dump(item, str(written), self.buffer_size)
        try:
            written.rename(Path(self.enqueue_dir, name))
        except OSError as error:
            logger.critical("cannot put %s into %s: %s", written, self.enqueue_dir, error)
            return False
        return True
