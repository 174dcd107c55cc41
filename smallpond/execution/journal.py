"""The journal of a job: which tasks are done, with what result; it survives kill -9 of everything.

One append-only file, `{job_root}/config/journal`: a magic, then records of length, CRC-32 and a
pickle. A run adds a record of its start (their number is the epoch of the run, which makes the
output folders of each run its own), then one record for each task that succeeded. A thread writes
and syncs what has gathered, so that a record is durable at most `GROUP_S` and one sync after it was
added, and thousands of records a second cost tens of syncs.

Invariants: what is read back is always a prefix of what was written: reading ends at the first
record that is torn, and the file is cut there before anything is added. A record is used only with
its output files, each there with its size. One process at a time holds the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pickle
import struct
import threading
import time
import weakref
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smallpond.common import MB, SmallpondError
from smallpond.execution.task.limits import output_files_of

if TYPE_CHECKING:
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import TaskRuntimeId

logger = logging.getLogger(__name__)

MAGIC = b"smallpond journal 1\n"
HEAD = struct.Struct("<II")
GROUP_S = 0.005
# A result larger than this is cheaper to compute again than to keep here.
RECORD_BYTES_MAX = 16 * MB
# Stands for the data set that the plan itself gives to the task.
DATASET_GIVEN = b""


@dataclass(frozen=True)
class TaskRecord:
    """A task that succeeded: who it was, what it read (run ids), and what it left."""

    identity: str
    key: str
    run_id: str
    input_run_ids: tuple[str, ...]
    folder: str | None
    files: tuple[tuple[str, int], ...]
    dataset_pickle: bytes
    metrics: dict[str, float] = field(default_factory=dict)
    elapsed_s: float = 0.0

    def dataset(self) -> Any:
        return pickle.loads(self.dataset_pickle)

    def output_is_there(self) -> bool:
        """Whether every file is where it was left, as long as it was."""
        if self.folder is not None and not os.path.isdir(self.folder):
            return False
        try:
            return all(os.stat(path).st_size == size for path, size in self.files)
        except OSError:
            return False


def record_of(
    task: Task, input_run_ids: tuple[str, ...], dataset_given: bool = False
) -> TaskRecord | None:
    """The record of a task that has succeeded; None if its result cannot be kept."""
    files = output_files_of(task)
    folder: str | None = task.final_output_abspath
    if (task.exec_on_scheduler and not files) or not os.path.isdir(folder or ""):
        folder = None
    try:
        dataset_pickle = DATASET_GIVEN if dataset_given else pickle.dumps(task.dataset, protocol=5)
    except Exception as error:
        logger.debug("the output of %s cannot be kept: %s", task.key, error)
        return None
    if len(dataset_pickle) > RECORD_BYTES_MAX:
        return None
    metrics = {name: float(value) for name, value in task.perf_metrics.items()}
    return TaskRecord(
        identity=task.identity,
        key=task.key,
        run_id=str(task.runtime_id),
        input_run_ids=input_run_ids,
        folder=folder,
        files=files,
        dataset_pickle=dataset_pickle,
        metrics=metrics,
        elapsed_s=task.elapsed_time,
    )


def _frame(value: Any) -> bytes:
    payload = pickle.dumps(value, protocol=5)
    return HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def records_read(data: bytes) -> tuple[list[Any], int]:
    """The records of a journal, and where the good part of it ends."""
    if not data.startswith(MAGIC):
        return [], 0
    records, offset = [], len(MAGIC)
    while offset + HEAD.size <= len(data):
        length, crc = HEAD.unpack_from(data, offset)
        payload = data[offset + HEAD.size : offset + HEAD.size + length]
        if len(payload) != length or zlib.crc32(payload) != crc:
            break
        try:
            records.append(pickle.loads(payload))
        except Exception as error:
            logger.warning("a journal record of another version ends the journal: %s", error)
            break
        offset += HEAD.size + length
    return records, offset


class Journal:
    """The open journal of a job; all methods but `_write_loop` are for one thread."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._lock_file()
        with open(path, "rb") as file:
            records, good_bytes = records_read(file.read())
        os.ftruncate(self._fd, good_bytes)
        os.lseek(self._fd, 0, os.SEEK_END)
        done = [record for record in records if isinstance(record, TaskRecord)]
        self.epoch = len(records) - len(done)
        self._done = {record.identity: record for record in done}
        # Attempts of this run, over all its plans: none of their names is used twice.
        self.attempts: set[TaskRuntimeId] = set()
        self._wake = threading.Condition()
        self._pending: list[bytes] = [] if good_bytes else [MAGIC]
        self._added = 0
        self._durable = 0
        self._error: OSError | None = None
        self._urgent = False
        self._closed = False
        self._writer: threading.Thread | None = None
        self._append(_frame(("run", self.epoch, os.getpid())))

    def _lock_file(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise SmallpondError(
                f"another process is running this job now: it holds {self.path}. Wait for it, "
                "end it, or use another job_id or data_root."
            ) from None
        except OSError as error:
            # Some network file systems have no locks; the job runs without this guard there.
            logger.debug("no lock on %s: %s", self.path, error)

    def find(self, identity: str) -> TaskRecord | None:
        """The latest record of this identity, whether or not its files are there."""
        return self._done.get(identity)

    def add(self, record: TaskRecord) -> None:
        """Keep a record; durable after `flush`, or a little later by itself."""
        self._done[record.identity] = record
        self._append(_frame(record))

    def _append(self, data: bytes) -> None:
        with self._wake:
            if not self._pending:
                self._wake.notify_all()
            self._pending.append(data)
            self._added += 1
            if self._writer is None and not self._closed:
                self._writer = threading.Thread(
                    target=self._write_loop, name="smallpond-journal", daemon=True
                )
                self._writer.start()

    def flush(self) -> None:
        """Return when everything added so far is on the disk."""
        with self._wake:
            goal = self._added
            self._urgent = True
            self._wake.notify_all()
            while self._durable < goal and self._error is None:
                self._wake.wait()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Flush, end the writer, give the file back."""
        if self._closed:
            return
        try:
            self.flush()
        finally:
            with self._wake:
                self._closed = True
                self._wake.notify_all()
            if self._writer is not None:
                self._writer.join()
            os.close(self._fd)

    def _write_loop(self) -> None:
        while True:
            with self._wake:
                while not self._pending and not self._closed:
                    self._wake.wait()
                if not self._pending:
                    return
                deadline = time.monotonic() + GROUP_S
                while not (self._urgent or self._closed):
                    remaining = deadline - time.monotonic()
                    if remaining <= 0 or not self._wake.wait(remaining):
                        break
                data, goal = b"".join(self._pending), self._added
                self._pending.clear()
                self._urgent = False
            try:
                self._write_all(data)
            except OSError as error:
                with self._wake:
                    self._error = error
                    self._wake.notify_all()
                return
            with self._wake:
                self._durable = goal
                self._wake.notify_all()

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fdatasync(self._fd)


# Journals open in this process: by path, with the process and the context that opened them.
_open: dict[str, tuple[int, weakref.ref[RuntimeContext], Journal]] = {}


def journal_of(ctx: RuntimeContext) -> Journal:
    """The journal of this context: opened once, so that all its plans share one epoch."""
    path = ctx.journal_path
    entry = _open.get(path)
    if entry is not None and entry[0] == os.getpid():
        if entry[1]() is ctx and not entry[2]._closed and os.path.exists(path):
            return entry[2]
        entry[2].close()
    journal = Journal(path)
    _open[path] = (os.getpid(), weakref.ref(ctx), journal)
    return journal


def journal_close(ctx: RuntimeContext) -> None:
    """Close the journal of this context if it is open; the job can be resumed elsewhere then."""
    entry = _open.get(ctx.journal_path)
    if entry is not None and entry[0] == os.getpid() and entry[1]() is ctx:
        del _open[ctx.journal_path]
        with contextlib.suppress(OSError):
            entry[2].close()
