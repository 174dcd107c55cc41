"""Names and small records of tasks: ids, partition infos, statistics."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from smallpond.common import DATA_PARTITION_COLUMN_NAME


class JobId(uuid.UUID):
    """The name of a job, unique in the world."""

    @staticmethod
    def new() -> JobId:
        return JobId(int=uuid.uuid4().int)


class TaskId(int):
    """The number of a task, unique within its job."""

    def __str__(self) -> str:
        return f"{int(self):06d}"


@dataclass(frozen=True)
class TaskRuntimeId:
    """One attempt of a task: the epoch counts restarts of the scheduler, the retry attempts."""

    id: TaskId
    epoch: int
    retry: int

    def __str__(self) -> str:
        return f"{self.id}.{self.epoch}.{self.retry}"


class PerfStats(NamedTuple):
    """A distribution of one metric over the tasks of a node."""

    cnt: int
    sum: float
    min: float
    max: float
    avg: float
    p50: float
    p75: float
    p95: float
    p99: float

    def __str__(self) -> str:
        return ", ".join(f"{name}={value:,.1f}" for name, value in self._asdict().items())

    def __repr__(self) -> str:
        return str(self)


class PartitionInfo:
    """Which part of a data set: the index-th of npartitions along a dimension.

    Two infos are equal when dimension and index are; partitions sort by dimension, then index.
    """

    toplevel_dimension: ClassVar[str] = "@toplevel@"
    default_dimension: ClassVar[str] = DATA_PARTITION_COLUMN_NAME

    __slots__ = ("dimension", "index", "npartitions")

    def __init__(
        self, index: int = 0, npartitions: int = 1, dimension: str = toplevel_dimension
    ) -> None:
        self.index = index
        self.npartitions = npartitions
        self.dimension = dimension

    def __str__(self) -> str:
        return f"{self.dimension}[{self.index}/{self.npartitions}]"

    __repr__ = __str__

    def __lt__(self, other: Any) -> bool:
        return (self.dimension, self.index) < (other.dimension, other.index)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PartitionInfo):
            return NotImplemented
        return (self.dimension, self.index) == (other.dimension, other.index)

    def __hash__(self) -> int:
        return hash((self.dimension, self.index))

    def identity_parts(self) -> str:
        """What of it counts for the identity of a task."""
        return str(self)
