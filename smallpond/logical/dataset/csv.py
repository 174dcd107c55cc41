"""CSV files: with the columns given, as in 0.15, or with header and types found by DuckDB's
sniffer.

What the sniffer finds is found once for the whole data set and goes with every partition of it;
partitions that sniffed for themselves could take the same column for a number here and for text
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import SmallpondError
from smallpond.logical.dataset.base import DataSet
from smallpond.logical.dataset.skipped import Skipped
from smallpond.logical.dataset.sql import (
    dicts_of,
    line_buffer_bytes,
    open_connection,
    query_of_nothing,
    quoted_string,
    rows_of,
    string_list,
    struct_of_strings,
)

if TYPE_CHECKING:
    import duckdb

SNIFFED_FILES_MAX = 32
# Bad rows of one file that are remembered; all of them are left out.
REJECTS_MAX = 10_000


class CsvDataSet(DataSet):
    """Rows of delimited text."""

    not_identity = DataSet.not_identity | {"_sniffed"}
    reader_knows_skipped = True

    def __init__(
        self,
        paths: str | Sequence[str],
        schema: Mapping[str, str] | None = None,
        delim: str | None = ",",
        max_line_size: int | None = None,
        parallel: bool = True,
        header: bool | None = False,
        root_dir: str | None = "",
        recursive: bool = False,
        columns: Sequence[str] | None = None,
        union_by_name: bool = False,
        *,
        ignore_errors: bool = False,
        options: Mapping[str, Any] | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        """Describe CSV files.

        Args:
            paths: see `DataSet`, as all arguments not listed here.
            schema: SQL types by column name, in the order of the file; None to find them out.
            delim: what separates fields; None to find it out.
            max_line_size: the longest line in bytes.
            parallel: whether one file may be read by several threads.
            header: whether the first line holds names; None to find it out.
            ignore_errors: leave out rows that do not fit, and report them (`rejected_rows`).
            options: further arguments of DuckDB's `read_csv`, such as `quote` or `nullstr`.
        """
        super().__init__(
            paths, root_dir, recursive, columns, union_by_name, storage_options=storage_options
        )
        assert schema is None or isinstance(schema, Mapping), (
            f"schema must map column names to SQL types, not be a {type(schema).__name__}"
        )
        self.schema = None if schema is None else dict(schema)
        self.delim = delim
        self.max_line_size = max_line_size
        self.parallel = parallel
        self.header = header
        self.ignore_errors = ignore_errors
        self.options = dict(options or {})
        self._sniffed: dict[str, Any] | None = None

    @staticmethod
    def merge(datasets: Sequence[DataSet]) -> CsvDataSet:
        """The files of all the sets, read as the first says."""
        parts = [dataset for dataset in datasets if isinstance(dataset, CsvDataSet)]
        assert len(parts) == len(datasets)
        first = parts[0]
        merged = CsvDataSet(
            [path for part in parts for path in part.absolute_paths],
            first.schema,
            first.delim,
            first.max_line_size,
            first.parallel,
            first.header,
            None,
            any(part.recursive for part in parts),
            first.columns,
            any(part.union_by_name for part in parts),
            ignore_errors=first.ignore_errors,
            options=first.options,
            storage_options=first.storage_options,
        )
        merged._sniffed = first._sniffed
        return merged

    def skipped(self, conn: duckdb.DuckDBPyConnection | None = None) -> list[Skipped]:
        """The rows that did not fit; each once, however often the query scanned the files."""
        conn = conn or self._reader
        if not self.ignore_errors or conn is None:
            return []
        mine = set(self.resolved_paths)
        found = {
            (row["file_path"], row["line"]): Skipped(
                row["file_path"],
                f"{row['error_message']} (the row: {row['csv_line']})",
                row["line"],
            )
            for row in rejected_rows(conn)
            if row["file_path"] in mine
        }
        return [found[place] for place in sorted(found)]

    def sniff(self, conn: duckdb.DuckDBPyConnection | None = None) -> dict[str, Any]:
        """Names, types, header and delimiter, as given or as found in the first files."""
        if self._sniffed is None:
            if self.schema is not None:
                self._sniffed = {"columns": self.schema, "header": self.header, "delim": self.delim}
            else:
                self._sniffed = self._sniff(conn or open_connection())
        return self._sniffed

    def _sniff(self, conn: duckdb.DuckDBPyConnection) -> dict[str, Any]:
        if not self.resolved_paths:
            raise SmallpondError(f"{self} has no files to find the columns in; give a schema")
        self._prepare(conn, None)
        given = dict(self.options)
        if self.delim is not None:
            given["delim"] = self.delim
        if self.header is not None:
            given["header"] = self.header
        extra = "".join(f", {name}={_literal(value)}" for name, value in given.items())
        files = self.resolved_paths[:SNIFFED_FILES_MAX]
        found = dicts_of(conn, f"from sniff_csv({quoted_string(files[0])}{extra})")[0]
        described = rows_of(
            conn,
            f"describe select * from read_csv({string_list(files)}, "
            f"union_by_name={self.union_by_name or len(files) > 1}{extra})",
        )
        return {
            "columns": {row[0]: row[1] for row in described},
            "header": bool(found["HasHeader"]),
            "delim": found["Delimiter"],
        }

    def _init_file_partitions(self, npartition: int) -> list[Any]:
        sniffed = self.sniff() if self.paths else None
        parts = super()._init_file_partitions(npartition)
        for part in parts:
            part._sniffed = sniffed
        return parts

    def reset(
        self,
        paths: Sequence[str] | None = None,
        root_dir: str | None = "",
        recursive: bool | None = None,
    ) -> None:
        """Describe other files; what was sniffed from the old ones is forgotten."""
        kept = self._sniffed if paths is not None and root_dir is None else None
        super().reset(paths, root_dir, recursive)
        self._sniffed = kept
        self._reader = None

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """A call of `read_csv` with everything spelled out; nothing is guessed while reading."""
        self._prepare(conn, filesystem)
        found = self.sniff(conn)
        if not self.resolved_paths:
            return query_of_nothing(found["columns"], self.columns)
        arguments = {
            "delim": found["delim"],
            "header": bool(found["header"]),
            "parallel": self.parallel,
            "union_by_name": self.union_by_name,
        }
        if self.max_line_size is not None:
            arguments["max_line_size"] = self.max_line_size
            arguments["buffer_size"] = line_buffer_bytes(self.max_line_size)
        if self.ignore_errors:
            arguments |= {"store_rejects": True, "rejects_limit": REJECTS_MAX}
        arguments |= self.options
        rest = ", ".join(f"{name}={_literal(value)}" for name, value in arguments.items())
        schema = struct_of_strings(found["columns"])
        # A row that does not fit is left out where its values are looked at: all are, so that the
        # same rows are left out whatever a query reads.
        chosen = " where hash(given) is not null" if self.ignore_errors else ""
        return (
            f"( select {self._column_str} from read_csv({self._path_list}, "
            f"columns={schema}, {rest}) given{chosen} )"
        )


def rejected_rows(conn: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """What `ignore_errors` left out of the CSV files read by this connection so far.

    Call it after the query that read them, on the same connection.
    """
    known = "select count(*) from duckdb_tables() where table_name = 'reject_errors'"
    if rows_of(conn, known)[0][0] == 0:
        return []
    return dicts_of(
        conn,
        "select file_path, line, column_name, error_type::VARCHAR as error_type, csv_line, "
        "error_message from reject_errors join reject_scans using (scan_id, file_id)",
    )


def _literal(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, Mapping):
        return struct_of_strings(value)
    if isinstance(value, list | tuple):
        return string_list(value)
    return quoted_string(value)
