"""The executor inside the scheduler's own process: one thread and two queues in memory."""

from __future__ import annotations

import copy
import logging
import queue
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from smallpond.execution.backends.remote import ExecutorState, RemoteExecutor
from smallpond.execution.queue import WorkQueueInMemory
from smallpond.execution.workitem import WorkItem, WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.task import RuntimeContext

logger = logging.getLogger(__name__)


class _StopThread(WorkItem):
    """The last item of a local executor."""

    def __init__(self) -> None:
        super().__init__(".StopThread", cpu_limit=0, gpu_limit=0, memory_limit=0)


class LocalExecutor(RemoteExecutor):
    """Runs items one after another in a thread of this process."""

    def __init__(
        self, ctx: RuntimeContext, id: str, wq: WorkQueueInMemory, cq: WorkQueueInMemory
    ) -> None:
        super().__init__(ctx, id, wq, cq)
        self.work: Future[None] | None = None
        self.running = False

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("wq", "cq", "work")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.wq, self.cq = WorkQueueInMemory(), WorkQueueInMemory()
        self.work = None

    @staticmethod
    def create(  # type: ignore[override]
        ctx: RuntimeContext, id: str
    ) -> LocalExecutor:
        """An executor with fresh queues."""
        return LocalExecutor(ctx, id, WorkQueueInMemory(), WorkQueueInMemory())

    @property
    def local(self) -> bool:
        return True

    def run(self) -> None:
        """Run items until the stop item arrives; waits without polling."""
        assert isinstance(self.wq, WorkQueueInMemory)
        gpus = self.ctx.get_local_gpus()
        while self.running:
            try:
                item = self.wq.queue.get(timeout=self.ctx.secs_executor_probe_interval)
            except queue.Empty:
                continue
            if isinstance(item, _StopThread):
                break
            for work in getattr(item, "works", [item]):
                attempt = copy.copy(work)
                if attempt.gpu_limit > 0:
                    assert gpus, f"{attempt!r} needs a GPU and this machine has none"
                    attempt._local_gpu = {gpus[0]: min(1.0, attempt.gpu_limit)}
                attempt.exec()
                self.cq.push(attempt)
        logger.debug("local executor %s exits", self.id)

    def start(self, pool: ThreadPoolExecutor) -> None:
        """Begin in a thread of the pool."""
        self.running = True
        self.pop_all_running_works()
        self.last_acked_probe.exec()
        assert self.last_acked_probe.status == WorkStatus.SUCCEED
        self.work = pool.submit(self.run)
        self.state = ExecutorState.GOOD

    def stop(self) -> None:
        """Stop after the item that runs, and wait for that."""
        if not self.working or self.work is None:
            return
        self.running = False
        self.state = ExecutorState.STOPPING
        self.wq.push(_StopThread())
        self.work.result(timeout=self.ctx.secs_executor_probe_interval)
        self.state = ExecutorState.STOPPED
