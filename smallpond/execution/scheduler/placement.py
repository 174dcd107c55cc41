"""Which machine an attempt runs on, and what is left of each machine.

Requests are hard: the sums of CPUs, GPUs and memory of what runs on a machine never exceed it. Tiny
tasks (measured, not declared) are charged a fraction, because a worker runs those in flight for it
one after the other; they only wait nearer to where they will run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smallpond.common import GB, UnsatisfiableRequest

if TYPE_CHECKING:
    from smallpond.execution.scheduler.backend import Machine
    from smallpond.execution.task.base import Task
    from smallpond.execution.task.ids import TaskRuntimeId

# Sums of fractions are compared with this much tolerance.
_EPSILON = 1e-6


@dataclass
class _Load:
    """What is taken of one machine."""

    cpus: float = 0
    gpus: float = 0
    memory_bytes: float = 0
    count: int = 0


@dataclass(frozen=True)
class Charge:
    """What one attempt takes of which machine."""

    machine: str
    cpus: float
    gpus: float
    memory_bytes: float


class Placement:
    """The books: machines, loads, and the charge of each running attempt."""

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self._loads: dict[str, _Load] = {}
        self._charges: dict[TaskRuntimeId, Charge] = {}

    def update(self, machines: Iterable[Machine]) -> None:
        self.machines = {machine.name: machine for machine in machines}
        for name in self.machines:
            self._loads.setdefault(name, _Load())

    def machine_of(self, runtime_id: TaskRuntimeId) -> str | None:
        charge = self._charges.get(runtime_id)
        return charge.machine if charge else None

    def available(self, machine: Machine) -> tuple[float, float]:
        """CPUs and bytes that are free."""
        load = self._loads[machine.name]
        return machine.cpus - load.cpus, machine.memory_bytes - load.memory_bytes

    def memory_share(self, task: Task, machine: Machine) -> int:
        """The memory of a task that asks for none: as large a part as that of its CPUs."""
        return int(machine.memory_bytes * min(1.0, task.cpu_limit / machine.cpus))

    def find(self, task: Task, fraction: float = 1.0, avoid: str | None = None) -> Machine | None:
        """The least loaded machine with room for the task."""
        best: tuple[float, Machine] | None = None
        for machine in self.machines.values():
            if machine.name == avoid:
                continue
            load = self._loads[machine.name]
            memory = task.memory_limit or self.memory_share(task, machine)
            if (
                load.cpus + task.cpu_limit * fraction <= machine.cpus + _EPSILON
                and load.gpus + task.gpu_limit <= machine.gpus + _EPSILON
                and load.memory_bytes + memory * fraction <= machine.memory_bytes + _EPSILON
                and task.cpu_limit <= machine.cpus
                and memory <= machine.memory_bytes
            ):
                loaded = load.cpus / machine.cpus
                if best is None or loaded < best[0]:
                    best = (loaded, machine)
        return best[1] if best else None

    def occupy(self, task: Task, machine: Machine, fraction: float = 1.0) -> None:
        memory = (task.memory_limit or self.memory_share(task, machine)) * fraction
        charge = Charge(machine.name, task.cpu_limit * fraction, task.gpu_limit, memory)
        assert task.runtime_id not in self._charges, f"{task!r} is placed twice"
        self._charges[task.runtime_id] = charge
        self._add(charge, 1)

    def release(self, runtime_id: TaskRuntimeId) -> None:
        charge = self._charges.pop(runtime_id, None)
        if charge is not None:
            self._add(charge, -1)

    def _add(self, charge: Charge, sign: int) -> None:
        load = self._loads.setdefault(charge.machine, _Load())
        load.cpus += sign * charge.cpus
        load.gpus += sign * charge.gpus
        load.memory_bytes += sign * charge.memory_bytes
        load.count += sign
        if load.count == 0:
            # No error of rounding outlives an idle moment.
            self._loads[charge.machine] = _Load()

    def memory_bytes_max(self) -> int:
        return max((machine.memory_bytes for machine in self.machines.values()), default=0)

    def complaint(self, task: Task) -> UnsatisfiableRequest | None:
        """Why no machine could ever hold this task; None when one could."""
        machines = list(self.machines.values())
        if any(
            task.cpu_limit <= machine.cpus
            and task.gpu_limit <= machine.gpus
            and task.memory_limit <= machine.memory_bytes
            for machine in machines
        ):
            return None
        largest = max(machines, key=lambda one: (one.cpus, one.memory_bytes, one.gpus))
        where = f" (made at {task.location})" if task.location else ""
        return UnsatisfiableRequest(
            f"{task.key}{where} asks for {task.cpu_limit} CPUs, {task.gpu_limit:g} GPUs and "
            f"{task.memory_limit / GB:.2f} GB of memory, and no machine has that much: the "
            f"largest, {largest.name}, has {largest.cpus} CPUs, {largest.gpus:g} GPUs and "
            f"{largest.memory_bytes / GB:.2f} GB. Lower cpu_limit, gpu_limit or memory_limit."
        )
