"""Work items: anything a scheduler hands to an executor.

A work item carries its resource limits, its state and `exec()`, which runs it and never lets one
of its exceptions out: what went wrong is in `status` and `exception`. Only KeyboardInterrupt
passes, so that a person can stop a job that runs in the driver. The limits are multiplied by
boosts, which the scheduler raises after running out of memory and lowers when a task has to spill.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from smallpond.common import NonzeroExitCode, OutOfMemory

if TYPE_CHECKING:
    from smallpond.execution.workqueue import WorkQueue

logger = logging.getLogger(__name__)


class WorkStatus(Enum):
    """What became of a work item."""

    INCOMPLETE = 1
    SUCCEED = 2
    FAILED = 3
    CRASHED = 4
    EXEC_FAILED = 5


class WorkItem:
    """Something that can be run on an executor, with the resources it asks for."""

    __slots__ = (
        "_cpu_boost",
        "_cpu_limit",
        "_gpu_limit",
        "_local_gpu",
        "_memory_boost",
        "_memory_limit",
        "_numa_node",
        "exception",
        "exec_cq",
        "exec_id",
        "fail_count",
        "finish_time",
        "key",
        "location",
        "retry_count",
        "start_time",
        "status",
    )

    def __init__(
        self,
        key: str,
        cpu_limit: int | None = None,
        gpu_limit: float | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self._cpu_limit = cpu_limit
        self._gpu_limit = gpu_limit
        self._memory_limit = int(memory_limit) if memory_limit is not None else None
        self._cpu_boost: float = 1
        self._memory_boost: float = 1
        self._numa_node: int | None = None
        self._local_gpu: dict[Any, float] = {}
        self.key = key
        self.status = WorkStatus.INCOMPLETE
        self.start_time: float | None = None
        self.finish_time: float | None = None
        self.retry_count = 0
        self.fail_count = 0
        self.exception: BaseException | None = None
        self.exec_id = "unknown"
        self.exec_cq: WorkQueue | None = None
        self.location: str | None = None

    def __repr__(self) -> str:
        return self.key

    def __str__(self) -> str:
        return repr(self)

    @property
    def cpu_limit(self) -> int:
        """CPUs (threads) granted; at least one where any was asked for."""
        asked = self._cpu_limit or 0
        granted = int(self._cpu_boost * asked)
        return max(1, granted) if asked > 0 else granted

    @property
    def gpu_limit(self) -> float:
        return self._gpu_limit or 0

    @gpu_limit.setter
    def gpu_limit(self, gpu_limit: float) -> None:
        self._gpu_limit = gpu_limit

    @property
    def memory_limit(self) -> int:
        """Bytes granted; 0 while nobody has set a limit."""
        return int(self._memory_boost * self._memory_limit) if self._memory_limit else 0

    @property
    def elapsed_time(self) -> float:
        if self.start_time is None:
            return 0
        return (self.finish_time or time.time()) - self.start_time

    @property
    def exec_on_scheduler(self) -> bool:
        """Whether the item only handles metadata and runs in the scheduler's thread."""
        return False

    @property
    def local_gpu(self) -> Any | None:
        """The first GPU granted, or None."""
        return next(iter(self._local_gpu), None)

    @property
    def local_rank(self) -> int | None:
        """The index of the first GPU granted; `local_gpu_ranks` has all of them."""
        if self.gpu_limit > 1:
            logger.warning("%s has more than one GPU: use local_gpu_ranks", self.key)
        gpu = self.local_gpu
        return None if gpu is None else int(gpu.id)

    @property
    def local_gpu_ranks(self) -> list[int]:
        """The indices of all GPUs granted."""
        return [gpu.id for gpu in self._local_gpu]

    @property
    def numa_node(self) -> int | None:
        return self._numa_node

    def oom(self, nonzero_exitcode_as_oom: bool = False) -> bool:
        """Whether the item ran out of memory (a dead process counts when asked to)."""
        if self._memory_limit is None or self.status != WorkStatus.CRASHED:
            return False
        if isinstance(self.exception, NonzeroExitCode):
            return nonzero_exitcode_as_oom
        return isinstance(self.exception, (OutOfMemory, MemoryError))

    def run(self) -> bool:
        """The work itself; False means that it failed."""
        return True

    def run_whole(self) -> bool:
        """run(), and what a kind of work does when it fails but need not."""
        return self.run()

    def initialize(self) -> None:
        """Called before run()."""

    def finalize(self) -> None:
        """Called after a run() that succeeded."""

    def cleanup(self) -> None:
        """Called last, whatever happened."""

    def exec(self, cq: WorkQueue | None = None) -> WorkStatus:
        """Initialize, run, finalize and clean up, once. Never raises for what the work does."""
        if self.status != WorkStatus.INCOMPLETE:
            return self.status
        self.start_time = time.time()
        self.exec_cq = cq
        try:
            self.initialize()
            if self.run_whole():
                self.status = WorkStatus.SUCCEED
                self.finalize()
            else:
                self.status = WorkStatus.FAILED
        except Exception as error:
            self._crashed(error)
        except SystemExit as error:
            # A worker outlives its tasks, so leaving the process is only a way to fail.
            self._crashed(NonzeroExitCode(f"{self.key} called sys.exit({error.code!r})"))
        except KeyboardInterrupt as error:
            self._crashed(error)
            raise
        finally:
            self._cleanup_safely()
            self.exec_cq = None
            self.finish_time = time.time()
        return self.status

    def _crashed(self, error: BaseException) -> None:
        self.status = WorkStatus.CRASHED
        self.exception = error
        if isinstance(error, Exception) and not hasattr(error, "task_traceback"):
            # Tracebacks do not travel between processes; their text does.
            error.task_traceback = traceback.format_exc()  # type: ignore[attr-defined]
        logger.error(
            "%r crashed: %s: %s (node at %s)",
            self,
            type(error).__name__,
            error,
            self.location or "an unknown line",
            exc_info=error,
        )

    def _cleanup_safely(self) -> None:
        try:
            self.cleanup()
        except Exception as error:
            if self.status == WorkStatus.SUCCEED:
                logger.warning("%r succeeded, but its cleanup failed", self, exc_info=error)
            elif self.exception is None:
                self._crashed(error)


class StopExecutor(WorkItem):
    """Asks an executor to leave."""

    def __init__(self, key: str, ack: bool = True) -> None:
        super().__init__(key, cpu_limit=0, gpu_limit=0, memory_limit=0)
        self.ack = ack


class StopWorkItem(WorkItem):
    """Asks an executor to stop one of its running items."""

    def __init__(self, key: str, work_to_stop: str) -> None:
        super().__init__(key, cpu_limit=0, gpu_limit=0, memory_limit=0)
        self.work_to_stop = work_to_stop


class WorkBatch(WorkItem):
    """Several items that travel as one."""

    def __init__(self, key: str, works: Sequence[WorkItem]) -> None:
        super().__init__(
            f"{self.__class__.__name__}-{key}",
            cpu_limit=max(work.cpu_limit for work in works),
            gpu_limit=max(work.gpu_limit for work in works),
            memory_limit=max(work.memory_limit for work in works),
        )
        self.works = list(works)

    def __str__(self) -> str:
        return f"{self!r}, works[{len(self.works)}]={self.works[:1]}...{self.works[-1:]}"

    def run(self) -> bool:
        for index, work in enumerate(self.works, 1):
            work.exec_id = self.exec_id
            if work.exec(self.exec_cq) != WorkStatus.SUCCEED:
                logger.error("item %d/%d of %s failed: %s", index, len(self.works), self.key, work)
                return False
        return True
