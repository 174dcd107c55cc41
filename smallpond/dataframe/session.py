"""The session of data frames: where they come from, and the jobs that compute them."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from smallpond.common import InvalidArgument
from smallpond.dataframe.frame import DataFrame
from smallpond.execution.journal import journal_close
from smallpond.execution.task.logs import logs_stop
from smallpond.logical.node import DataSourceNode, Node, SqlEngineNode
from smallpond.session import MEMORY_SHARE, SessionBase

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as arrow

    from smallpond.execution.task import Task
    from smallpond.logical.dataset import DataSet
    from smallpond.logical.optimizer import OptimizerSettings

Paths = str | Sequence[str]
PREPARE_BYTES_MIN = 4 << 20


class Session(SessionBase):
    """Makes data frames and runs them."""

    def __init__(self, **kwargs: Any) -> None:
        from smallpond.logical.optimizer.schema import SchemaFinder

        super().__init__(**kwargs)
        self._nodes: list[Node] = []
        self._node_to_tasks: dict[Node, list[Task]] = {}
        # The node whose tasks hold the result of a plan, by the id of the plan's node.
        self._results: dict[int, Node] = {}
        self._schemas = SchemaFinder()
        # How often each folder was written to.
        self._writes: Counter[str] = Counter()
        self._run_lock = threading.RLock()
        self._failed = False
        self._prepared = False
        self._shutdown_called = False

    def _settings(self) -> OptimizerSettings:
        from smallpond.logical.optimizer.settings import OptimizerSettings

        context, config = self._runtime_ctx, self.config
        memory = config.memory_limit or int(context.usable_memory_size * MEMORY_SHARE)
        machines, cpus = 1, context.usable_cpu_count
        if config.num_executors > 0:
            machines = config.num_executors
        elif config.executor == "ray":
            capacity = self._get_backend().capacity()
            machines = max(1, len(capacity))
            cpus = max((machine.cpus for machine in capacity), default=cpus)
            # Ray gives less of a machine than the machine has: a task that asked for more waited.
            memory = min(memory, max((one.memory_bytes for one in capacity), default=memory))
        return OptimizerSettings(
            cpus=cpus,
            memory_bytes=memory,
            machines=machines,
            mode=config.lowering,  # type: ignore[arg-type]
            npartitions=config.npartitions,
        )

    def _source(self, dataset: DataSet) -> DataFrame:
        self._prepare(dataset)
        return DataFrame(self, DataSourceNode(self._ctx, dataset))

    def _prepare(self, dataset: DataSet) -> None:
        """Files that are not small will need a worker: it gets ready while the plan is made."""
        if self._prepared or self.config.executor != "local" or self.config.num_executors:
            return
        paths = getattr(dataset, "_resolved_paths", None) or []
        sizes = (os.path.getsize(path) for path in paths[:64] if os.path.exists(path))
        if sum(sizes) < PREPARE_BYTES_MIN:
            return
        self._prepared = True
        needed = ("duckdb", "smallpond.logical.dataset")
        self._get_backend().prepare(needed)  # type: ignore[attr-defined]

    def read_csv(
        self,
        paths: Paths,
        schema: Mapping[str, str] | None = None,
        delim: str | None = None,
        *,
        header: bool | None = None,
        ignore_errors: bool = False,
        recursive: bool = False,
        columns: Sequence[str] | None = None,
        union_by_name: bool = False,
        storage_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> DataFrame:
        """CSV files. With `schema` (SQL types by column name) they have no header and commas,
        unless told; without, delimiter, header and types are found out."""
        from smallpond.logical.dataset import CsvDataSet

        given = schema is not None
        dataset = CsvDataSet(
            paths,
            dict(schema) if schema is not None else None,
            delim=delim if delim is not None or not given else ",",
            header=header if header is not None or not given else False,
            recursive=recursive,
            columns=columns,
            union_by_name=union_by_name,
            ignore_errors=ignore_errors,
            options=options,
            storage_options=storage_options,
        )
        return self._source(existing(dataset))

    def read_parquet(
        self,
        paths: Paths,
        recursive: bool = False,
        columns: Sequence[str] | None = None,
        union_by_name: bool = False,
        *,
        hive_partitioning: bool | None = None,
        ignore_corrupt_files: bool = False,
        storage_options: dict[str, Any] | None = None,
    ) -> DataFrame:
        """Parquet files; `key=value` folders are columns if all files have them.

        A damaged file fails the job; with `ignore_corrupt_files` it is left out and reported.
        """
        from smallpond.logical.dataset import ParquetDataSet

        dataset = ParquetDataSet(
            paths,
            columns=columns,
            union_by_name=union_by_name,
            recursive=recursive,
            hive_partitioning=hive_partitioning,
            ignore_corrupt_files=ignore_corrupt_files,
            storage_options=storage_options,
        )
        return self._source(existing(dataset))

    def read_json(
        self,
        paths: Paths,
        schema: Mapping[str, str] | None = None,
        *,
        format: str = "newline_delimited",
        ignore_errors: bool = False,
        recursive: bool = False,
        columns: Sequence[str] | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> DataFrame:
        """JSON files; without `schema` the types are found out."""
        from smallpond.logical.dataset import JsonDataSet

        dataset = JsonDataSet(
            paths,
            dict(schema) if schema is not None else None,
            format=format,
            recursive=recursive,
            columns=columns,
            ignore_errors=ignore_errors,
            storage_options=storage_options,
        )
        return self._source(existing(dataset))

    def read_text(
        self,
        paths: Paths,
        column: str = "text",
        *,
        recursive: bool = False,
        storage_options: dict[str, Any] | None = None,
    ) -> DataFrame:
        """Text files, one row a line."""
        from smallpond.logical.dataset import TextDataSet

        dataset = TextDataSet(
            paths,
            column,
            recursive=recursive,
            storage_options=storage_options,
        )
        return self._source(existing(dataset))

    def read_warc(
        self,
        paths: Paths,
        *,
        recursive: bool = False,
        ignore_corrupt_files: bool = False,
        storage_options: dict[str, Any] | None = None,
    ) -> DataFrame:
        """Web archives: url, domain, date and content of each response."""
        from smallpond.logical.dataset import WarcDataSet

        dataset = WarcDataSet(
            paths,
            recursive=recursive,
            ignore_corrupt_files=ignore_corrupt_files,
            storage_options=storage_options,
        )
        return self._source(existing(dataset))

    def from_items(self, items: list[Any]) -> DataFrame:
        """Python objects: dicts are rows, anything else is the column `item`."""
        from smallpond.dataframe.items import table_of_items

        if not isinstance(items, list) or not items:
            raise InvalidArgument("items must be a list that is not empty")
        return self.from_arrow(table_of_items(items))

    def from_pandas(self, df: pd.DataFrame) -> DataFrame:
        """A pandas frame."""
        from smallpond.logical.dataset import PandasDataSet

        return self._source(PandasDataSet(df))

    def from_arrow(self, table: arrow.Table) -> DataFrame:
        """An Arrow table."""
        from smallpond.logical.dataset import ArrowTableDataSet

        return self._source(ArrowTableDataSet(table))

    def from_polars(self, df: pl.DataFrame) -> DataFrame:
        """A polars frame."""
        return self.from_arrow(df.to_arrow())

    def from_dataset(self, dataset: DataSet) -> DataFrame:
        """Any data set of `smallpond.logical.dataset`."""
        return self._source(dataset)

    def partial_sql(self, query: str, *inputs: DataFrame, **kwargs: Any) -> DataFrame:
        """A query over each partition of the inputs, `{0}`, `{1}`, ...

        All inputs need the same partitions; one of a single partition is seen by all. For a query
        over whole tables see `sql`.
        """
        from smallpond.logical.optimizer.template import Sql

        text = Sql.of_template(query.strip().rstrip(";")).render()
        plan = SqlEngineNode(self._ctx, tuple(one.plan for one in inputs), text, **kwargs)
        return DataFrame(self, plan, recompute=any(one.need_recompute for one in inputs))

    def sql(self, query: str, *inputs: DataFrame, **kwargs: Any) -> DataFrame:
        """A query over whole tables: `{0}`, `{1}`, ... or named ones, `{orders}` with orders=df.

        Aggregates and windows see all rows, whatever the partitions. Keyword arguments that are
        not frames are options of the node.
        """
        from smallpond.dataframe.queries import query_node

        return query_node(self, query, inputs, kwargs)

    def wait(self, *dfs: DataFrame | None) -> None:
        """Compute all the frames in one job; what they share is computed once.

        What `write_parquet` and its kin return, None, is done already and may be given as well.
        """
        from smallpond.dataframe.run import computed

        computed(self, [one for one in dfs if one is not None])

    def graph(self) -> Any:
        """The plans of the session as a `graphviz.Digraph`."""
        from smallpond.show import plan_digraph

        return plan_digraph(self._nodes_shown())

    def _nodes_shown(self) -> list[Node]:
        from smallpond.logical.optimizer.graph import nodes_of

        return nodes_of(self._nodes)

    def shutdown(self) -> None:
        """End the session; its working files go unless something failed. May be called again."""
        if self._shutdown_called:
            return
        self._shutdown_called = True
        finished = self._all_tasks_finished()
        context = self._runtime_ctx
        super().shutdown()
        with open(context.job_status_path, "a") as file:
            status = "success" if finished else "failure"
            file.write(f"{status}@{datetime.now():%Y-%m-%d-%H-%M-%S}\n")
        if finished:
            context.cleanup(remove_output_root=self.config.remove_output_root)
        # An open file would keep the file system of the job's folder from being unmounted.
        journal_close(context)
        logs_stop(str(context.job_id))

    def _all_tasks_finished(self) -> bool:
        """Whether everything that was started ended well."""
        return not self._failed

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


def existing(dataset: DataSet) -> DataSet:
    """The data set, after making sure that its paths lead to files: an error now, not zero rows."""
    from smallpond.common import DataNotFound

    if not dataset.resolved_paths:
        raise DataNotFound(f"no files at {', '.join(map(str, dataset.paths)) or 'an empty list'}")
    for path in dataset.resolved_paths:
        if "://" not in path and not os.path.exists(path):
            raise DataNotFound(f"there is no file {path}")
    return dataset
