"""The two sides of every partition node: producers divide, consumers collect.

A producer's output is one data set with a data set for each partition; its consumer with index i
takes the i-th of every producer. A partition without any file gets an empty one with the schema of
the others, so that whoever reads it finds columns.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallpond.common import GENERATED_COLUMNS
from smallpond.execution.task import limits
from smallpond.execution.task.base import Task
from smallpond.execution.task.ids import PartitionInfo

if TYPE_CHECKING:
    import pyarrow as pa

    from smallpond.execution.task.context import RuntimeContext
    from smallpond.logical.dataset import DataSet

logger = logging.getLogger(__name__)


class PartitionProducerTask(Task):
    """The base class: `run` sets `partitioned_datasets`, one for each partition."""

    __slots__ = ("dimension", "npartitions", "partitioned_datasets")

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        npartitions: int,
        dimension: str,
        output_name: str | None = None,
        output_path: str | None = None,
        cpu_limit: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        assert len(input_deps) >= 1, f"wrong number of inputs: {input_deps}"
        assert isinstance(npartitions, int), f"npartitions is not an integer: {npartitions}"
        super().__init__(
            ctx,
            input_deps,
            partition_infos,
            output_name,
            output_path,
            cpu_limit,
            memory_limit=memory_limit,
        )
        self.npartitions = npartitions
        self.dimension = dimension
        self.partitioned_datasets: list[DataSet] = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return super().__str__() + f", npartitions={self.npartitions}, dimension={self.dimension}"

    def partition_kv_infos(self, partition_idx: int) -> list[PartitionInfo]:
        """What the metadata of a partition's own file says beyond the task's partition."""
        return [PartitionInfo(partition_idx, self.npartitions, self.dimension)]

    def empty_file_dir(self, partition_idx: int) -> str:
        """Where the empty file of a partition belongs, below the output folder."""
        return ""

    def finalize(self) -> None:
        from smallpond.logical.dataset import PartitionedDataSet

        datasets = self.partitioned_datasets
        assert len(datasets) == self.npartitions, (
            f"number of partitions {len(datasets)} not equal to {self.npartitions}"
        )
        empty = [idx for idx, dataset in enumerate(datasets) if dataset.empty]
        # One producer's empty files are enough for all consumers, and it is the one with input.
        if empty and self.get_partition_info(PartitionInfo.toplevel_dimension).index == 0:
            self._fill_empty_partitions(empty)
        runtime_dir, final_dir = self.runtime_output_abspath, self.final_output_abspath
        if runtime_dir != final_dir:
            for dataset in datasets:
                if dataset.root_dir == runtime_dir:
                    dataset.reset(dataset.paths, final_dir, dataset.recursive)
        self.dataset = PartitionedDataSet(datasets)
        super().finalize()

    def _fill_empty_partitions(self, empty: list[int]) -> None:
        from smallpond.logical.dataset import CsvDataSet, JsonDataSet, ParquetDataSet

        datasets = self.partitioned_datasets
        inputs = self.input_datasets[:1]
        models = [d for i, d in enumerate(datasets) if i not in set(empty)] + inputs
        model = next((d for d in models if d.num_files > 0), None)
        if model is None:
            for dataset in datasets:
                dataset.paths.clear()
            return
        if isinstance(model, CsvDataSet):
            suffix = ".csv"
        elif isinstance(model, JsonDataSet):
            suffix = ".json"
        elif isinstance(model, ParquetDataSet):
            suffix = ".parquet"
        else:
            raise ValueError(f"a partition of {type(model).__name__} would be empty: {self}")
        schema = _file_schema(model.resolved_paths[0]) if suffix == ".parquet" else None
        for idx in empty:
            path = self._write_empty_file(idx, suffix, schema)
            # A new one: the old may be shared with whoever asked the input for the same parts.
            datasets[idx] = model._init_file_partitions(1)[0]
            datasets[idx].reset([path], self.runtime_output_abspath)
        logger.debug("%s: %d of %d partitions are empty", self.key, len(empty), self.npartitions)

    def _write_empty_file(self, idx: int, suffix: str, schema: pa.Schema | None) -> str:
        """A file without rows for a partition; its path relative to the output folder."""
        folder = os.path.join(self.runtime_output_abspath, self.empty_file_dir(idx))
        limits.folder_make(folder)
        path = os.path.join(folder, f"{self.output_filename}-{idx}-empty{suffix}")
        if schema is None:
            Path(path).touch()
        else:
            from pyarrow import parquet

            metadata = self.parquet_kv_metadata_bytes(self.partition_kv_infos(idx))
            parquet.write_table(schema.empty_table().replace_schema_metadata(metadata), path)
        return os.path.relpath(path, self.runtime_output_abspath)

    def run(self) -> bool:
        raise NotImplementedError(f"{type(self).__name__} does not say how to partition")


def _file_schema(path: str) -> pa.Schema:
    from smallpond.io.arrow import filter_schema
    from smallpond.io.arrow.reader import open_parquet

    with open_parquet(path) as file:
        schema: Any = file.schema_arrow
    return filter_schema(schema, excluded_cols=list(GENERATED_COLUMNS))


class PartitionConsumerTask(Task):
    """Collects one partition from all producers; only lists of files change."""

    __slots__ = ("last_partition",)

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Sequence[PartitionInfo],
    ) -> None:
        assert all(isinstance(task, PartitionProducerTask) for task in input_deps), (
            f"not every input is a producer: {input_deps}"
        )
        super().__init__(ctx, input_deps, partition_infos)
        self.last_partition = partition_infos[-1]

    def __str__(self) -> str:
        return super().__str__() + f", dataset=<{self.dataset}>"

    @property
    def exec_on_scheduler(self) -> bool:
        return not self.ctx.remove_empty_parquet

    @property
    def self_contained_output(self) -> bool:
        return False

    def initialize(self) -> None:
        """Needs no folder."""

    def finalize(self) -> None:
        """Has no files to move."""

    def run(self) -> bool:
        from smallpond.logical.dataset import ParquetDataSet, PartitionedDataSet

        datasets = []
        for dataset in self.input_datasets:
            assert isinstance(dataset, PartitionedDataSet), f"not partitioned: {dataset}"
            datasets.append(dataset[self.last_partition.index])
        # Parts without rows add nothing but work for the readers; one has to stay, for its schema.
        filled = [dataset for dataset in datasets if not dataset.empty] or datasets[:1]
        self.dataset = filled[0].merge(filled)
        if self.ctx.remove_empty_parquet and isinstance(self.dataset, ParquetDataSet):
            self.dataset.remove_empty_files()
        return True
