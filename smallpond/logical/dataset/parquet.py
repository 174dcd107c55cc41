"""Parquet files: whole or by row ranges, split by files, rows or bytes, with hive partitions.

Footers answer what they can: rows, sizes, bounds, schema (`io.arrow.footer`, cached). Splitting by
rows makes row ranges; reading one decodes only the row groups it touches, in Arrow as in DuckDB.

Invariants: `_resolved_row_ranges`, once known, is in the order of the files and decides what is
read; hive columns are detected once for the whole data set and go with every partition of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import DEFAULT_BATCH_SIZE
from smallpond.io.arrow.file_size import FileSize, read_file_sizes
from smallpond.io.arrow.row_range import RowRange
from smallpond.logical.dataset import parquet_partition, parquet_sql
from smallpond.logical.dataset.base import DataSet, check_partition_count, logger
from smallpond.logical.dataset.hive import HivePartitions
from smallpond.logical.dataset.skipped import Skipped
from smallpond.logical.dataset.sql import is_plain_name, quoted_name

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from smallpond.logical.dataset.statistics import DataSetStatistics

FOOTER_THREADS_MAX = 32


class ParquetDataSet(DataSet):
    """Rows of Parquet files."""

    not_identity = DataSet.not_identity | {
        "_resolved_row_ranges",
        "_hive",
        "_schema_if_empty",
        "skipped_files",
    }

    def __init__(
        self,
        paths: str | Sequence[str],
        root_dir: str | None = "",
        recursive: bool = False,
        columns: Sequence[str] | None = None,
        generated_columns: Sequence[str] | None = None,
        union_by_name: bool = False,
        *,
        hive_partitioning: bool | None = None,
        ignore_corrupt_files: bool = False,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        """Describe Parquet files.

        Args:
            paths: see `DataSet`, as all arguments not listed here.
            generated_columns: `filename` and `file_row_number`, where wanted.
            hive_partitioning: whether `key=value` directories are columns; None: if all files have
                them.
            ignore_corrupt_files: leave out damaged files; see `skipped_files`. Damage behind a
                sound footer shows while reading; see `damage.py` for who then reads again.
        """
        super().__init__(
            paths, root_dir, recursive, columns, union_by_name, storage_options=storage_options
        )
        self.generated_columns = list(generated_columns or [])
        self.hive_partitioning = hive_partitioning
        self.ignore_corrupt_files = ignore_corrupt_files
        self.skipped_files: dict[str, str] = {}
        """The files left out because they are damaged, with the reason."""
        self._resolved_row_ranges: list[RowRange] | None = None
        self._hive: HivePartitions | None = None
        # What a partition without files would have had; set when a set with files is split.
        self._schema_if_empty: pa.Schema | None = None

    def __str__(self) -> str:
        text = f"{super().__str__()}, generated_columns={self.generated_columns}"
        if self._resolved_row_ranges:
            ranges = self._resolved_row_ranges
            text += f", row_ranges[{len(ranges)}]={ranges[:3]}{'...' if len(ranges) > 3 else ''}"
        return text

    __repr__ = __str__

    def identity_parts(self) -> tuple[Any, ...]:
        """As of any data set, and the rows of the files that are meant."""
        ranges = self._resolved_row_ranges or []
        parts = [(one.path, one.begin, one.end) for one in ranges if not one.whole_file]
        return *super().identity_parts(), parts

    @property
    def _column_str(self) -> str:
        if not self.columns:
            return "*"
        names = [quoted_name(c) if is_plain_name(c) else c for c in self.columns]
        return ", ".join(names if "*" in self.columns else names + self.generated_columns)

    def skipped(self, conn: duckdb.DuckDBPyConnection | None = None) -> list[Skipped]:
        """The damaged files."""
        return [Skipped(path, reason) for path, reason in self.skipped_files.items()]

    @staticmethod
    def merge(datasets: Sequence[DataSet]) -> ParquetDataSet:
        """The files (or row ranges) of all the sets, with the columns of the first."""
        parts = [dataset for dataset in datasets if isinstance(dataset, ParquetDataSet)]
        assert len(parts) == len(datasets)
        first = parts[0]
        # "Whatever the task wrote" may be nothing, which a pattern among others may not.
        paths = [
            part.resolved_paths if part.paths == ["*"] else part.absolute_paths for part in parts
        ]
        merged = ParquetDataSet(
            [path for part_paths in paths for path in part_paths],
            None,
            any(part.recursive for part in parts),
            first.columns,
            first.generated_columns,
            any(part.union_by_name for part in parts),
            hive_partitioning=first.hive_partitioning,
            ignore_corrupt_files=any(part.ignore_corrupt_files for part in parts),
            storage_options=first.storage_options,
        )
        if all(part._resolved_paths is not None for part in parts):
            merged._resolved_paths = sorted(path for part in parts for path in part.resolved_paths)
        merged._schema_if_empty = next(
            (p._schema_if_empty for p in parts if p._schema_if_empty is not None), None
        )
        if any(part._resolved_row_ranges is not None for part in parts):
            ranges = [one for part in parts for one in part.resolved_row_ranges]
            merged._resolved_row_ranges = ranges
            merged._resolved_paths = sorted({one.path for one in ranges})
        hives = {id(part._hive): part._hive for part in parts}
        if len(hives) == 1:
            merged._hive = first._hive
        for part in parts:
            merged.skipped_files |= part.skipped_files
        return merged

    @staticmethod
    def create_from(table: pa.Table, output_dir: str, filename: str = "data") -> ParquetDataSet:
        """Write a table into Parquet files of a directory and describe those."""
        from smallpond.io.arrow.writer import dump_to_parquet_files

        dump_to_parquet_files(table, output_dir, filename)
        return ParquetDataSet([f"{output_dir.rstrip('/')}/{filename}*.parquet"])

    def reset(
        self,
        paths: Sequence[str] | None = None,
        root_dir: str | None = "",
        recursive: bool | None = None,
    ) -> None:
        """Forget what was found out, row ranges included, and describe other files."""
        super().reset(paths, root_dir, recursive)
        self._resolved_row_ranges = None
        self._hive = None
        self._schema_if_empty = None
        self.skipped_files = {}

    @property
    def resolved_row_ranges(self) -> list[RowRange]:
        """The row ranges, one for each file unless the set was split; reads the footers."""
        if self._resolved_row_ranges is None:
            self._resolved_row_ranges = self._read_row_ranges()
        return self._resolved_row_ranges

    def _read_row_ranges(self) -> list[RowRange]:
        paths = self.resolved_paths
        ranges = []
        for path, size in zip(paths, read_file_sizes(paths, self._filesystem()), strict=True):
            if isinstance(size, FileSize):
                ranges.append(RowRange(path, size.data_bytes, size.num_rows, 0, size.num_rows))
            elif not self.ignore_corrupt_files:
                raise size
            else:
                logger.warning("skipped '%s': %s", path, size.reason)
                self.skipped_files[path] = size.reason
        if self.skipped_files:
            self._resolved_paths = [one.path for one in ranges]
        return ranges

    @property
    def num_rows(self) -> int:
        """The number of rows, from the footers."""
        if self._resolved_num_rows is None:
            self._resolved_num_rows = sum(one.num_rows for one in self.resolved_row_ranges)
        return self._resolved_num_rows

    @property
    def empty(self) -> bool:
        """Whether there are no rows, if that is known; else whether there are no files."""
        if self._resolved_num_rows is not None or self._resolved_row_ranges is not None:
            return self.num_rows == 0
        return super().empty

    @property
    def estimated_data_size(self) -> int:
        """The bytes of the rows before compression, from the footers."""
        return sum(one.estimated_data_size for one in self.resolved_row_ranges)

    @property
    def hive(self) -> HivePartitions:
        """The partition columns that the paths hold; none if the set is not partitioned so."""
        if self._hive is None:
            self._hive = HivePartitions.detect(self.resolved_paths, self.hive_partitioning)
        return self._hive

    @property
    def arrow_schema(self) -> pa.Schema | None:
        """The columns as they are read; None if there is no file to tell."""
        return parquet_sql.arrow_schema(self)

    def statistics(self) -> DataSetStatistics:
        """Rows, bytes and the columns' sizes and bounds, from the footers."""
        from smallpond.logical.dataset.statistics import parquet_statistics

        return parquet_statistics(self)

    def verify(self, deep: bool = False) -> dict[str, str]:
        """The damaged files with what is wrong; with `deep`, what is read of them is decoded."""
        from smallpond.logical.dataset.statistics import damaged_files

        return damaged_files(self, deep)

    def leave_out_damaged_files(self, deep: bool = True) -> dict[str, str]:
        """Go on without the damaged files; returns what `verify` said of those not yet left out."""
        known = set(self.skipped_files)
        damaged = self.verify(deep)
        self.ignore_corrupt_files = True
        if self._schema_if_empty is None:
            self._schema_if_empty = self.arrow_schema
        self._resolved_row_ranges = [
            one for one in self.resolved_row_ranges if one.path not in damaged
        ]
        self._resolved_paths = sorted({one.path for one in self._resolved_row_ranges})
        self._resolved_num_rows = None
        self._partitions = {}
        self.skipped_files |= damaged
        return {path: reason for path, reason in damaged.items() if path not in known}

    def prune(self, condition: str) -> ParquetDataSet:
        """Only the files whose hive columns can satisfy the SQL condition."""
        return parquet_partition.pruned(self, condition)

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """Calls of `read_parquet`: one for all whole files, one for each row range."""
        self._prepare(conn, filesystem)
        return parquet_sql.query(self)

    def to_arrow_table(
        self,
        max_workers: int = 16,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.Table:
        """All rows, read by pyarrow, or by DuckDB where `conn` is given."""
        if conn is not None:
            return super().to_arrow_table(max_workers, filesystem, conn)
        return parquet_sql.read_table(self, max_workers, self._filesystem(filesystem))

    def to_batch_reader(
        self,
        batch_size: int = DEFAULT_BATCH_SIZE,
        filesystem: Any = None,
        conn: duckdb.DuckDBPyConnection | None = None,
    ) -> pa.RecordBatchReader:
        """All rows in batches, read by pyarrow, or by DuckDB where `conn` is given."""
        if conn is not None:
            return super().to_batch_reader(batch_size, filesystem, conn)
        return parquet_sql.read_batches(self, batch_size, self._filesystem(filesystem))

    def _init_file_partitions(self, npartition: int) -> list[Any]:
        hive = self.hive if self.paths else None
        parts = super()._init_file_partitions(npartition)
        for part in parts:
            part._hive = hive
        return parts

    def _split_by_files(self, npartition: int, random_shuffle: bool) -> list[Any]:
        if self._resolved_row_ranges is not None:
            return self.partition_by_rows(npartition, random_shuffle)
        hive = self.hive
        parts = super()._split_by_files(npartition, random_shuffle)
        for part in parts:
            part._hive = hive
            # All files of a part may turn out to be damaged.
            if not part.paths or self.ignore_corrupt_files:
                part._schema_if_empty = self.arrow_schema
        return parts

    def partition_by_rows(
        self, npartition: int, random_shuffle: bool = False
    ) -> list[ParquetDataSet]:
        """Split the rows evenly; with `random_shuffle`, files meet in random order."""
        check_partition_count(npartition)
        key = ("rows", npartition, random_shuffle)
        if key not in self._partitions:
            ranges = list(self.resolved_row_ranges)
            if random_shuffle:
                random.shuffle(ranges)
            self._partitions[key] = [
                self.with_row_ranges(part)
                for part in RowRange.partition_by_rows(ranges, npartition)
            ]
            # One of them tells what was left out.
            self._partitions[key][0].skipped_files = dict(self.skipped_files)
        parts: list[ParquetDataSet] = self._partitions[key]
        return parts

    def with_row_ranges(self, row_ranges: Sequence[RowRange]) -> ParquetDataSet:
        """This data set with only these rows, in the order of files."""
        hive = self.hive
        twin = self._init_file_partitions(1)[0]
        ranges = sorted(row_ranges, key=lambda one: (one.path, one.begin))
        twin.paths = [one.path for one in ranges]
        twin.root_dir = None
        twin._absolute_paths = twin._resolved_paths = twin.paths
        twin._resolved_row_ranges = ranges
        twin._hive = hive
        if not ranges:
            twin._schema_if_empty = self.arrow_schema
        result: ParquetDataSet = twin
        return result

    def partition_by_size(self, max_partition_size: int) -> list[ParquetDataSet]:
        """Split into partitions of about `max_partition_size` bytes before compression, at most."""
        if self.empty:
            return []
        return self.partition_by_rows(self.estimated_data_size // max_partition_size + 1)

    @staticmethod
    def _read_partition_key(
        path: str, data_partition_column: str, hive_partitioning: bool
    ) -> int | None:
        return parquet_partition.partition_key(path, data_partition_column, hive_partitioning)

    def load_partitioned_datasets(
        self, npartition: int, data_partition_column: str, hive_partitioning: bool = False
    ) -> list[ParquetDataSet]:
        """The partitions that an earlier job wrote, found by metadata, hive path or column."""
        check_partition_count(npartition)
        return parquet_partition.load_partitions(
            self, npartition, data_partition_column, hive_partitioning
        )

    def remove_empty_files(self) -> None:
        """Leave out files without rows, but keep one, which knows the schema."""
        ranges = [one for one in self.resolved_row_ranges if one.num_rows > 0]
        ranges = ranges or self.resolved_row_ranges[:1]
        if len(ranges) == len(self.resolved_row_ranges):
            return
        logger.info("left out empty files of %s", self)
        self._resolved_row_ranges = ranges
        self.paths = [one.path for one in ranges]
        self.root_dir = None
        self._absolute_paths = self._resolved_paths = self.paths
        self._partitions = {}
