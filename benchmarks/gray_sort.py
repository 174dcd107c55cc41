"""GraySort: records of gensort, sorted by key over all cores of all executors, and validated.

    python -m benchmarks.gray_sort --size 1GB
    python -m benchmarks.gray_sort --size 100GB --skewed --num_executors 10 --data_root /mnt/job
    python -m benchmarks.gray_sort -i /mnt/records/*.parquet -t 64 -V

Three jobs after each other, so that only the second is timed as the sort: generate Parquet files
with the columns `key` and `payload`; range partition, sort each partition in memory and write
100-byte records; validate as valsort does. Splits are known for uniform binary keys and sampled
for others. All options of the driver work too (--num_executors, --data_root, --output_path, mode
...).
"""

from __future__ import annotations

import functools
import os
import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from benchmarks.smallpond.gensort import RECORD_BYTES
from benchmarks.smallpond.gray_tasks import (
    DIMENSION,
    SORTERS,
    generate,
    sort_partition,
    sum_inputs,
    validate_partitions,
    validate_whole,
)
from benchmarks.smallpond.sizes import size_bytes
from smallpond.common import MB
from smallpond.execution.driver import Driver
from smallpond.logical.dataset import ArrowTableDataSet, FileSet, ParquetDataSet
from smallpond.logical.node import (
    ArrowStreamNode,
    ConsolidateNode,
    Context,
    DataSetPartitionNode,
    DataSourceNode,
    EvenlyDistributedPartitionNode,
    LogicalPlan,
    Node,
    PythonScriptNode,
    RangePartitionNode,
    SqlEngineNode,
)

RANGES_A_PARTITION = 10
KEY_BITS = 80
SAMPLE_ROWS_A_SPLIT = 100
# A partition that is sorted takes its own size about three times: loaded, sorted, written.
SORT_MEMORY_SHARE = 4


@dataclass(frozen=True)
class Options:
    """What is sorted, and how it is divided."""

    total_bytes: int
    is_ascii: bool = False
    skewed: bool = False
    batch_bytes: int = 64 * MB
    num_data_partitions: int = 2
    num_sort_partitions: int = 2
    splits: str = "auto"
    sort_engine: str = "numpy"
    shuffle_cpu_limit: int = 1
    shuffle_memory_limit: int | None = None
    sort_cpu_limit: int = 1
    sort_memory_limit: int | None = None
    parquet_compression: str | None = None
    parquet_compression_level: int | None = None

    @property
    def has_known_splits(self) -> bool:
        uniform = not self.is_ascii and not self.skewed
        return self.splits == "known" or (self.splits == "auto" and uniform)


def uniform_splits(partition_count: int) -> list[bytes]:
    """Keys that divide uniform binary keys into equal parts."""
    return [
        ((number << KEY_BITS) // partition_count).to_bytes(KEY_BITS // 8, "big")
        for number in range(1, partition_count)
    ]


def generate_plan(options: Options) -> LogicalPlan:
    """Makes the records: Parquet files with the columns key and payload."""
    ctx = Context()
    total = options.total_bytes // RECORD_BYTES
    range_count = options.num_data_partitions * RANGES_A_PARTITION
    width = max(1, -(-total // range_count))
    begins = list(range(0, total, width))
    counts = [min(width, total - begin) for begin in begins]
    ranges = pa.table({"begin_at": begins, "num_records": counts})
    parts = DataSetPartitionNode(
        ctx,
        (DataSourceNode(ctx, ArrowTableDataSet(ranges)),),
        npartitions=options.num_data_partitions,
        partition_by_rows=True,
    )
    records = ArrowStreamNode(
        ctx,
        (parts,),
        process_func=functools.partial(
            generate,
            batch_count=options.batch_bytes // RECORD_BYTES,
            is_ascii=options.is_ascii,
            skewed=options.skewed,
        ),
        streaming_batch_size=RANGES_A_PARTITION,
        parquet_compression=options.parquet_compression,
        parquet_compression_level=options.parquet_compression_level,
        output_name="random_records",
    )
    return LogicalPlan(ctx, records)


def sort_plan(options: Options, input_paths: list[str]) -> LogicalPlan:
    """Divides the records by ranges of the key, and sorts each range."""
    ctx = Context()
    records = DataSourceNode(ctx, ParquetDataSet(input_paths))
    sorted_records = PythonScriptNode(
        ctx,
        (_ranges(ctx, records, options),),
        process_func=functools.partial(sort_partition, engine=options.sort_engine),
        output_name="sorted_records",
        cpu_limit=options.sort_cpu_limit,
        memory_limit=options.sort_memory_limit,
    )
    return LogicalPlan(ctx, sorted_records)


def _ranges(ctx: Context, records: Node, options: Options) -> Node:
    count = options.num_sort_partitions
    parts = EvenlyDistributedPartitionNode(
        ctx, (records,), npartitions=options.num_data_partitions, partition_by_rows=True
    )
    limits: dict[str, Any] = {
        "cpu_limit": options.shuffle_cpu_limit,
        "memory_limit": options.shuffle_memory_limit,
    }
    if options.has_known_splits:
        splits = uniform_splits(count)
        return RangePartitionNode(ctx, (parts,), splits, DIMENSION, order_by="key", **limits)
    from smallpond.execution.shuffle.ranges import sort_key_sample_query, split_points_query
    from smallpond.logical.node.exchange import ExchangeNode

    rows = -(-SAMPLE_ROWS_A_SPLIT * count // options.num_data_partitions)
    sample = SqlEngineNode(ctx, (parts,), sort_key_sample_query(["key"], rows=rows))
    whole = ConsolidateNode(ctx, sample, [])
    points = SqlEngineNode(ctx, (whole,), split_points_query(count))
    return ExchangeNode(
        ctx, (parts,), count, order_by=["key"], split_points=points, dimension=DIMENSION, **limits
    )


def validate_plan(options: Options, input_paths: list[str], paths: list[str]) -> LogicalPlan:
    """Judges the sorted files as valsort does, and compares their records with the input's."""
    ctx = Context()
    inputs = DataSetPartitionNode(
        ctx,
        (DataSourceNode(ctx, ParquetDataSet(input_paths)),),
        npartitions=options.num_data_partitions,
        partition_by_rows=True,
    )
    counts = PythonScriptNode(ctx, (inputs,), process_func=sum_inputs)
    outputs = DataSetPartitionNode(
        ctx,
        (DataSourceNode(ctx, FileSet(paths)),),
        npartitions=min(len(paths), options.num_data_partitions),
    )
    summaries = PythonScriptNode(ctx, (outputs,), process_func=validate_partitions)
    final = PythonScriptNode(
        ctx,
        (ConsolidateNode(ctx, summaries, []), ConsolidateNode(ctx, counts, [])),
        process_func=validate_whole,
        output_name="verdict",
    )
    return LogicalPlan(ctx, final)


def arguments_added(driver: Driver) -> None:
    """The options of 0.15's benchmark that have a meaning here, and ours."""
    add = driver.add_argument
    add("-T", "--total_data_nbytes", "--size", dest="total_bytes", type=size_bytes, default=None)
    add("-B", "--gensort_batch_nbytes", dest="batch_bytes", type=size_bytes, default=64 * MB)
    add("-n", "--num_data_partitions", type=int, default=None)
    add("-t", "--num_sort_partitions", type=int, default=None)
    add("-i", "--input_paths", nargs="+", default=[], help="sort these files instead")
    add("-a", "--ascii", dest="is_ascii", action="store_true", help="ASCII records")
    add("--skewed", action="store_true", help="gensort -s")
    add("--splits", choices=("auto", "known", "sampled"), default="auto")
    add("-s", "--sort_engine", default="numpy", choices=tuple(SORTERS))
    add("-V", "--validate_results", action="store_true", default=True)
    add("--no_validation", dest="validate_results", action="store_false")
    add("-C", "--shuffle_cpu_limit", type=int, default=1)
    add("-M", "--shuffle_memory_limit", type=size_bytes, default=None)
    add("-TC", "--sort_cpu_limit", type=int, default=1)
    add("-TM", "--sort_memory_limit", type=size_bytes, default=None)
    add("-NC", "--cpus_per_node", type=int, default=os.cpu_count())
    add("-NM", "--memory_per_node", type=size_bytes, default=psutil.virtual_memory().total)
    add("-CP", "--parquet_compression", default=None)
    add("-LV", "--parquet_compression_level", type=int, default=None)


def options_of(given: Namespace, num_executors: int) -> Options:
    """Options with what was not given worked out from the machines."""
    cpu_count = max(1, num_executors) * given.cpus_per_node
    memory_per_cpu = given.memory_per_node // given.cpus_per_node
    if given.input_paths:
        total = ParquetDataSet(given.input_paths).num_rows * RECORD_BYTES
    else:
        total = given.total_bytes or max(1, num_executors) * given.memory_per_node
    per_sort = (given.sort_memory_limit or given.sort_cpu_limit * memory_per_cpu * 4 // 5) or 1
    sort_count = max(cpu_count // given.sort_cpu_limit, -(-total * SORT_MEMORY_SHARE // per_sort))
    known = {name: getattr(given, name) for name in Options.__dataclass_fields__}
    known["total_bytes"] = total
    known["num_data_partitions"] = given.num_data_partitions or cpu_count
    known["num_sort_partitions"] = given.num_sort_partitions or sort_count
    if given.input_paths and given.splits == "auto":
        known["splits"] = "sampled"
    return Options(**known)


def run_job(driver: Driver, plan: LogicalPlan, name: str) -> tuple[list[str], float]:
    """Runs one plan: the paths of its output, and the time it took."""
    started = time.perf_counter()
    executed = driver.run(plan, stop_process_on_done=False, tags=[name])
    taken_s = time.perf_counter() - started
    if executed is None or isinstance(executed, bool):
        raise SystemExit(f"{name} failed: see the log above")
    return list(executed.final_output.resolved_paths), taken_s


def main() -> int:
    """Generates, sorts, validates; 1 where the output is wrong."""
    driver = Driver()
    arguments_added(driver)
    given, job = driver.parse_arguments()
    if job.mode == "executor":
        driver.run(None)
    options = options_of(given, job.num_executors)
    inputs = list(given.input_paths)
    if not inputs:
        inputs, taken_s = run_job(driver, generate_plan(options), "generate")
        report("generated", options.total_bytes, taken_s)
    paths, taken_s = run_job(driver, sort_plan(options, inputs), "sort")
    report("sorted", options.total_bytes, taken_s)
    if not given.validate_results:
        return 0
    (verdict,), taken_s = run_job(driver, validate_plan(options, inputs, paths), "validate")
    report("validated", options.total_bytes, taken_s)
    text = Path(verdict).read_text()
    print(text)
    return 1 if "ERROR" in text else 0


def report(done: str, size: int, taken_s: float) -> None:
    """One line a job."""
    print(
        f"{done} {size / 1e9:g} GB in {taken_s:.1f} s: {size / 1e6 / taken_s:,.0f} MB/s", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
