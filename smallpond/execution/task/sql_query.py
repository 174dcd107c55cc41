"""DuckDB inside a task: one connection, with the task's limits, views of its inputs, its functions.

Spilling is always on, into the task's own temporary folder. Insertion order is given up because no
partition promises one; a query that orders its result gets it back (sql_engine.py).
"""

from __future__ import annotations

import logging
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from smallpond.common import INPUT_VIEW_PREFIX, MB, OutOfMemory, round_up
from smallpond.execution.task import limits
from smallpond.execution.task.base import Task

if TYPE_CHECKING:
    import duckdb

    from smallpond.logical.dataset import DataSet
    from smallpond.logical.udf import UDFContext

logger = logging.getLogger(__name__)

# Below this DuckDB cannot even hold its own buffers.
MEMORY_LIMIT_MIN = 1 * MB


class ExecSqlQueryMixin(Task):
    """What tasks that use DuckDB have in common."""

    enable_temp_directory = False
    cpu_overcommit_ratio: float = 1.0
    memory_overcommit_ratio: float = 1.0
    input_view_index = 0
    query_udfs: Sequence[UDFContext] = ()
    parquet_compression: str | None = None
    parquet_compression_level: int | None = None

    @cached_property
    def rand_seed_float(self) -> float:
        return self.random_float()

    @cached_property
    def rand_seed_uint32(self) -> int:
        return self.random_uint32()

    @property
    def input_udfs(self) -> list[UDFContext]:
        """Functions that the inputs themselves need."""
        return [udf for dataset in self.input_datasets or () for udf in dataset.udfs]

    @property
    def udfs(self) -> set[UDFContext]:
        """All functions that the queries of this task may call."""
        return {*self.query_udfs, *self.input_udfs}

    @property
    def compression_options(self) -> str:
        """The compression as options of COPY."""
        if self.parquet_compression is None:
            return "COMPRESSION 'uncompressed'"
        options = f"COMPRESSION '{self.parquet_compression}'"
        if (
            self.parquet_compression.upper() == "ZSTD"
            and self.parquet_compression_level is not None
        ):
            options += f", COMPRESSION_LEVEL {self.parquet_compression_level}"
        return options

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A connection to an empty database, prepared for this task; close it."""
        import duckdb

        conn = duckdb.connect(":memory:", config={"allow_unsigned_extensions": "true"})
        try:
            self.prepare_connection(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def prepare_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Apply the task's limits and seed, and make its functions known."""
        threads = max(1, math.ceil(self.cpu_limit * self.cpu_overcommit_ratio))
        # After running out of all the memory there is, spilling has to begin early.
        share = self.memory_overcommit_ratio * (0.6 if self.low_memory else 1.0)
        memory = max(MEMORY_LIMIT_MIN, self.memory_limit * share)
        # DuckDB makes the folder when it spills, and removes it: most tasks need none.
        temp = os.path.join(self.ctx.temp_root, f"{self.output_filename}.duckdb").replace("'", "''")
        conn.execute(
            f"""
            SET threads TO {threads};
            SET memory_limit = '{round_up(memory, MB) // MB}MB';
            SET temp_directory = '{temp}';
            SET preserve_insertion_order = false;
            SET arrow_large_buffer_size = true;
            SET max_expression_depth = 10000;
            SELECT setseed({self.rand_seed_float});
            """
        ).fetchall()  # A result that is not fetched would block the connection.
        for udf in self.udfs:
            logger.debug("%s: bind function %s", self.key, udf)
            udf.bind(conn)

    def create_input_views(
        self,
        conn: duckdb.DuckDBPyConnection,
        input_datasets: Sequence[DataSet],
        filesystem: Any = None,
    ) -> list[str]:
        """A view for each data set; their names, in order."""
        names = []
        for dataset in input_datasets:
            self.input_view_index += 1
            name = f"{INPUT_VIEW_PREFIX}_{int(self.id):06d}_{self.input_view_index:06d}"
            fragment = dataset.sql_query_fragment(filesystem, conn)
            self.exec_query(conn, f"CREATE VIEW {name} AS {fragment}")
            names.append(name)
        return names

    def fetch(self, conn: duckdb.DuckDBPyConnection, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows; errors name the task and hold the statement."""
        import duckdb

        try:
            return conn.execute(statement).fetchall()
        except duckdb.OutOfMemoryException as error:
            raise OutOfMemory(
                f"{self.key} ran out of its {self.memory_limit // MB} MB in a query: {error}"
            ) from error
        except duckdb.Error as error:
            raise RuntimeError(f"{error}\nfailed to run query: {statement.strip()}") from error

    def exec_query(
        self,
        conn: duckdb.DuckDBPyConnection,
        query_statement: str,
        enable_profiling: bool = False,
        log_query: bool = True,
        log_output: bool = False,
    ) -> dict[str, float]:
        """Run a statement; the metrics are the rows that a COPY or an INSERT reports.

        With profiling, of the statement and in the runtime context, the profile goes to the log.
        """
        if log_query:
            logger.debug("%s: running query: %s", self.key, query_statement)
        profiled = enable_profiling and self.ctx.enable_profiling
        if profiled:
            path = os.path.join(self.temp_abspath, "profile.json")
            self.fetch(conn, f"SET enable_profiling = 'json'; SET profiling_output = '{path}'")
        rows = self.fetch(conn, query_statement)
        if profiled:
            self.fetch(conn, "RESET enable_profiling")
            with open(path) as file:
                logger.debug("%s: profile: %s", self.key, file.read())
        if log_output:
            for row in rows:
                logger.debug("%s: query output: %s", self.key, row)
        metrics: dict[str, float] = defaultdict(int)
        if rows and len(rows) == 1 and len(rows[0]) == 1 and isinstance(rows[0][0], int):
            metrics["num output rows"] = rows[0][0]
        return metrics

    def run_whole(self) -> bool:
        """run(); once more without the damaged files if it failed because of them and may."""
        from smallpond.logical.dataset.damage import leave_out_damaged

        try:
            return self.run()
        except Exception as error:
            if not leave_out_damaged(self.input_datasets, error):
                raise
        self._begin_again()
        return self.run()

    def _begin_again(self) -> None:
        """Forget a run that failed, to run again in this attempt on other files.

        Batch numbers then mean other rows, so no checkpoint counts, and none is sent.
        """
        limits.folder_remove(self.runtime_output_abspath)
        limits.folder_make(self.runtime_output_abspath)
        self.perf_metrics.clear()
        self.runtime_state = None
        self.exec_cq = None
        self._np_randgen = None
        self._py_randgen = None

    def note_skipped(
        self,
        conn: duckdb.DuckDBPyConnection | None,
        datasets: Sequence[DataSet] | None = None,
    ) -> None:
        """Report the damaged rows and files that reading the inputs left out, as was asked."""
        from smallpond.logical.dataset import report_skipped

        skipped = report_skipped(self.input_datasets if datasets is None else datasets, conn)
        if skipped:
            self.perf_metrics["num skipped rows or files"] += skipped

    def input_rows_count(self) -> int:
        """Rows of those inputs that know them without being read."""
        from smallpond.logical.dataset import ParquetDataSet

        datasets = self.input_datasets
        return sum(dataset.num_rows for dataset in datasets if isinstance(dataset, ParquetDataSet))

    def input_bytes_count(self) -> int:
        """About the bytes of the inputs: of their rows where footers were read, else of files."""
        from smallpond.logical.dataset import ParquetDataSet

        total = 0
        for dataset in self.input_datasets:
            if not isinstance(dataset, ParquetDataSet):
                continue
            if dataset._resolved_row_ranges is not None:
                total += dataset.estimated_data_size
            else:
                local = (path for path in dataset.resolved_paths if os.path.exists(path))
                total += sum(os.path.getsize(path) for path in local)
        return total
