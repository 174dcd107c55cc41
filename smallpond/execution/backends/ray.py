"""Tasks on a Ray cluster.

Ray starts processes and tells when they end; where and when tasks run is the scheduler's decision,
as with every backend. Only descriptors travel through Ray (the task, the names of its input files,
the names of its output files); the data itself is in files that all nodes can reach.

The address must be that of a running cluster. A fresh cluster on this machine is started only for
the address "local", with its dashboard bound to 127.0.0.1: it runs whatever it is sent.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import pickle
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallpond.common import (
    MissingDependency,
    NonzeroExitCode,
    OutOfMemory,
    SmallpondError,
    WorkerLost,
)
from smallpond.execution.pool import codec
from smallpond.execution.scheduler.backend import Completion, Machine
from smallpond.execution.workitem import WorkStatus

if TYPE_CHECKING:
    from smallpond.execution.task import RuntimeContext, Task
    from smallpond.platform import Platform

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
NODES_INTERVAL_S = 1.0
# A node that lost a task gets no other for so long; in this time Ray notices a dead one.
NODE_AVOIDED_S = 5.0
IDLE_PAUSE_S = 0.2
LOCAL = "local"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
AUTO = "auto"


class ClusterUnreachable(SmallpondError, ConnectionError):
    """There is no Ray cluster at the given address."""


def import_ray() -> Any:
    """The module, or an error that says how to get it."""
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(
            "running on a Ray cluster needs ray: pip install 'ray>=2.50,<3'"
        ) from error
    return ray


class RayBackend:
    """Runs tasks on the nodes of a Ray cluster; each node is a machine."""

    # Nodes may join and leave while a job runs.
    elastic = True

    def __init__(
        self, address: str, platform: Platform | None = None, worker_count: int = 0
    ) -> None:
        self.address = address
        self.platform = platform
        self.worker_count = worker_count
        self._ray: Any = None
        self._connected_here = False
        self._job_names: list[str] = []
        self._ctx_ref: Any = None
        self._run_attempt: Any = None
        self._attempts: dict[Any, tuple[Task, Machine]] = {}
        self._unsent: list[Completion] = []
        self._refs: dict[str, Any] = {}
        self._machines: list[Machine] = []
        self._node_ids: dict[str, str] = {}
        self._nodes_s = -NODES_INTERVAL_S
        self._avoided_until_s: dict[str, float] = {}

    def start(self, ctx: RuntimeContext) -> None:
        if self._ray is None:
            ray = import_ray()
            self._connected_here = connect(ray, self.address, ctx, alone=self.worker_count == 0)
            self._ray = ray
            self._run_attempt = ray.remote(max_retries=0)(_entry())
            self._workers_start(ctx)
        self._ctx_ref = self._ray.put(ctx)

    def _workers_start(self, ctx: RuntimeContext) -> None:
        """Let the platform add machines to the cluster."""
        if self.platform is None or self.worker_count <= 0:
            return
        from smallpond.execution.backends.launch import import_environment

        address = self._ray.get_runtime_context().gcs_address
        self._job_names = self.platform.start_job(
            num_nodes=self.worker_count,
            entrypoint=str(Path(__file__).parents[2] / "worker.py"),
            args=[
                f"--ray_address={address}",
                f"--log_dir={ctx.log_root}",
                *(["--bind_numa_node"] if ctx.bind_numa_node else []),
            ],
            envs=import_environment(),
            extra_opts={"job_id": ctx.job_id},
        )

    def capacity(self) -> Sequence[Machine]:
        now_s = time.monotonic()
        if now_s - self._nodes_s >= NODES_INTERVAL_S:
            self._nodes_s = now_s
            self._machines = []
            for node in self._ray.nodes():
                resources = node["Resources"]
                if not node["Alive"] or resources.get("CPU", 0) < 1:
                    continue
                name = f"{node['NodeManagerHostname']}-{node['NodeID'][:8]}"
                self._node_ids[name] = node["NodeID"]
                self._machines.append(
                    Machine(
                        name,
                        int(resources["CPU"]),
                        float(resources.get("GPU", 0)),
                        int(resources.get("memory", 0)),
                    )
                )
        # A node that died goes on being listed until Ray's heartbeats miss it.
        return [one for one in self._machines if self._avoided_until_s.get(one.name, 0) < now_s]

    def submit(self, task: Task, machine: Machine) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        try:
            data = codec.tasks_bytes([task])
        except Exception as error:
            task.status, task.exception = WorkStatus.CRASHED, codec.unpicklable(task, error)
            task.finish_time = time.time()
            self._unsent.append(Completion(task, machine.name))
            return
        node = NodeAffinitySchedulingStrategy(self._node_ids[machine.name], soft=False)
        reference = self._run_attempt.options(
            name=f"{task.node_id}.{type(task).__name__}",
            num_cpus=task.cpu_limit,
            num_gpus=task.gpu_limit or None,
            memory=int(task.memory_limit) or None,
            scheduling_strategy=node,
        ).remote(sys.path, self._ctx_ref, data)
        self._attempts[reference] = (task, machine)
        self._refs[repr(task)] = reference

    def poll(self, timeout: float | None) -> list[Completion]:
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            return unsent
        if not self._attempts:
            # Nothing runs, so only a new node can change anything.
            time.sleep(IDLE_PAUSE_S if timeout is None else min(timeout, IDLE_PAUSE_S))
            return []
        references = list(self._attempts)
        done, left = self._ray.wait(references, num_returns=1, timeout=timeout)
        if done and left:
            more, _ = self._ray.wait(left, num_returns=len(left), timeout=0)
            done += more
        return [one for reference in done for one in self._completions(reference)]

    def _completions(self, reference: Any) -> list[Completion]:
        """The end of an attempt; before it, what a failed one had done already."""
        completion = self._completed(reference)
        state = None
        if completion.task.status != WorkStatus.SUCCEED:
            state = _checkpoint_read(completion.task)
        if state is None:
            return [completion]
        checkpoint = copy.copy(completion.task)
        checkpoint.status, checkpoint.runtime_state = WorkStatus.INCOMPLETE, state
        return [Completion(checkpoint, completion.worker), completion]

    def _completed(self, reference: Any) -> Completion:
        task, machine = self._attempts.pop(reference)
        self._refs.pop(repr(task), None)
        try:
            outcome: codec.Outcome = pickle.loads(self._ray.get(reference))
        except Exception as error:
            task.status, task.exception, reason = self._judge(task, machine, error)
            task.finish_time = time.time()
            return Completion(task, machine.name, reason=reason)
        outcome.fill(task)
        return Completion(task, machine.name, outcome.cpu_s, outcome.rss_max_bytes)

    def _judge(
        self, task: Task, machine: Machine, error: Exception
    ) -> tuple[WorkStatus, Exception, str]:
        """What an error of Ray means for the task."""
        errors = self._ray.exceptions
        text = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        if isinstance(error, errors.OutOfMemoryError):
            return WorkStatus.CRASHED, OutOfMemory(f"Ray killed {task!r}: {text}"), ""
        if isinstance(error, errors.RayTaskError):
            # Not the task's own error, which comes back as its outcome: it could not be run at all.
            cause = getattr(error, "cause", None) or error
            hint = ""
            if isinstance(cause, ImportError):
                hint = "; every node of the cluster needs smallpond and what the job imports"
            message = f"{task!r} cannot be run on {machine.name}: {cause!r}{hint}"
            return WorkStatus.CRASHED, SmallpondError(message), ""
        if isinstance(error, errors.WorkerCrashedError) and self._is_alive(machine):
            message = f"the process that ran {task!r} on {machine.name} died: {text}"
            return WorkStatus.CRASHED, NonzeroExitCode(message), ""
        self._avoided_until_s[machine.name] = time.monotonic() + NODE_AVOIDED_S
        return WorkStatus.EXEC_FAILED, WorkerLost(f"{task!r} was lost: {text}"), text

    def _is_alive(self, machine: Machine) -> bool:
        self._nodes_s = -NODES_INTERVAL_S
        return any(one.name == machine.name for one in self.capacity())

    def cancel(self, task: Task) -> None:
        reference = self._refs.pop(repr(task), None)
        if reference is not None:
            del self._attempts[reference]
            self._ray.cancel(reference, force=True)

    def stop(self) -> None:
        if self._ray is None:
            return
        for task, _ in list(self._attempts.values()):
            self.cancel(task)
        for name in self._job_names:
            assert self.platform is not None
            self.platform.stop_job(name)
        self._job_names = []
        self._ctx_ref = None
        if self._connected_here:
            self._ray.shutdown()
        self._ray = None


def _checkpoint_read(task: Task) -> Any:
    """What another attempt may go on from; None if this one left nothing."""
    from smallpond.execution.backends.ray_worker import checkpoint_path
    from smallpond.io.filesystem import load

    try:
        return load(checkpoint_path(task))
    except FileNotFoundError:
        return None


def connect(ray: Any, address: str, ctx: RuntimeContext, alone: bool = True) -> bool:
    """Connect this process to the cluster; False when it is connected to it already.

    A local cluster that no other machine is to join (`alone`) listens on the loopback only.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        connected = ray.get_runtime_context().gcs_address
        if address not in (LOCAL, AUTO) and not _is_same(address, connected):
            raise ClusterUnreachable(
                f"this process is connected to the Ray cluster at {connected} and cannot use the "
                f"one at {address} as well; call ray.shutdown() first"
            )
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address == LOCAL:
        with _loopback_kept(ray, alone):
            ray.init(
                address=LOCAL,
                num_cpus=ctx.usable_cpu_count,
                _memory=ctx.usable_memory_size,
                dashboard_host="127.0.0.1",
                **quiet,
            )
        return True
    check_reachable(address)
    try:
        with _loopback_kept(ray, _is_loopback_only(ray, address)):
            ray.init(address=address, **quiet)
    except Exception as error:
        raise ClusterUnreachable(
            f"cannot connect to the Ray cluster at {address}: {error}. Start it with "
            "'ray start --head', or leave ray_address out to use this machine's processes"
        ) from error
    return True


def check_reachable(address: str) -> None:
    """Fail at once where nobody listens: Ray itself would try for a long time."""
    if address == AUTO:
        return
    place = address.removeprefix("ray://")
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        raise ClusterUnreachable(
            f"ray_address={address!r}: write HOST:PORT, ray://HOST:PORT or auto"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ClusterUnreachable(
            f"no Ray cluster answers at {address} ({error}). Start it with 'ray start --head', or "
            "leave ray_address out to use this machine's processes"
        ) from error


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _is_loopback_only(ray: Any, address: str) -> bool:
    """Whether the cluster at the address listens on the loopback and nowhere else."""
    host, _, port = address.rpartition(":")
    return host in LOOPBACK_HOSTS and not _answers(ray.util.get_node_ip_address(), int(port))


@contextlib.contextmanager
def _loopback_kept(ray: Any, wanted: bool) -> Iterator[None]:
    """Let Ray use the loopback where it is `wanted`.

    Ray replaces 127.0.0.1 by the machine's own address, for the sake of other machines. Where Ray
    is for one machine only (macOS, Windows), it does not, and that is what is switched on here.
    """
    constants = ray._private.ray_constants
    if not wanted or not hasattr(constants, "ENABLE_RAY_CLUSTER"):
        yield
        return
    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _is_same(address: str, connected: str) -> bool:
    """Whether both name one cluster; a Ray client's address has a port of its own."""
    if address.startswith("ray://"):
        return True
    host, _, port = address.rpartition(":")
    connected_host, _, connected_port = connected.rpartition(":")
    if port != connected_port:
        return False
    try:
        return socket.gethostbyname(host) == socket.gethostbyname(connected_host) or (
            host in LOOPBACK_HOSTS
        )
    except OSError:
        return host == connected_host


def _entry() -> Any:
    """The function that Ray runs. Nested, so that it travels by value and needs no import first."""

    def smallpond_attempt(import_path: list[str], ctx: Any, task_bytes: bytes) -> bytes:
        import sys

        sys.path.extend(entry for entry in import_path if entry not in sys.path)
        from smallpond.execution.backends.ray_worker import run_attempt

        return run_attempt(ctx, task_bytes)

    return smallpond_attempt


def run_on_ray(task: Task) -> Any:
    """Run a task, its inputs first, without a scheduler; the reference to its output data set."""
    if task._dataset_ref is None:
        ray = import_ray()
        if not ray.is_initialized():
            raise ClusterUnreachable("run_on_ray() needs a connection: call ray.init() first")
        inputs = [run_on_ray(dep) for dep in task.input_deps.values()]
        task._dataset_ref = (
            ray.remote(_output_entry())
            .options(num_cpus=task.cpu_limit, num_gpus=task.gpu_limit or None)
            .remote(sys.path, task.ctx, codec.tasks_bytes([task]), *inputs)
        )
    return task._dataset_ref


def _output_entry() -> Any:
    def smallpond_output(import_path: list[str], ctx: Any, task_bytes: bytes, *inputs: Any) -> Any:
        import sys

        sys.path.extend(entry for entry in import_path if entry not in sys.path)
        from smallpond.execution.backends.ray_worker import run_for_output

        return run_for_output(ctx, task_bytes, list(inputs))

    return smallpond_output
