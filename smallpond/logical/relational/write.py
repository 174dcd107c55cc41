"""Results as CSV, JSON or Parquet files in the user's own layout.

The last query of a pipeline writes the files by itself: nothing is written twice. The files then
go to the user's folder through a sink, all at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smallpond.execution.task.sql_engine import SqlEngineTask
from smallpond.logical.node import Context, Node, SqlEngineNode
from smallpond.logical.optimizer.syntax import quoted, text_literal

if TYPE_CHECKING:
    from smallpond.logical.dataset import DataSet

SUFFIXES = {"csv": "csv", "json": "json", "parquet": "parquet"}
COMPRESSED = {"gzip": ".gz", "zstd": ".zst"}


@dataclass(frozen=True)
class FileFormat:
    """How files are written: the format, DuckDB's COPY options, and hive partition columns."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    partition_by: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """The end of file names."""
        compression = str(self.options.get("compression", "")).lower()
        extra = COMPRESSED.get(compression, "") if self.name != "parquet" else ""
        return SUFFIXES[self.name] + extra


class FileWriteNode(SqlEngineNode):
    """Writes each partition of its input as files."""

    def __init__(
        self,
        ctx: Context,
        input_deps: Sequence[Node],
        sql_query: str,
        *,
        file_format: FileFormat,
        **options: Any,
    ) -> None:
        super().__init__(ctx, input_deps, sql_query, **options)
        self.file_format = file_format

    def spawn(self, *args: Any, **kwargs: Any) -> SqlEngineTask:
        """The task, which knows the format."""
        task = FileWriteTask(*args, **kwargs)
        task.file_format = self.file_format
        return task


class FileWriteTask(SqlEngineTask):
    """A query whose result is files in the user's layout."""

    file_format: FileFormat

    @property
    def _pristine_attrs(self) -> set[str]:
        return super()._pristine_attrs | {"file_format"}

    def _copy_statement(self, query: str, filename: str, ordered: bool) -> str:
        form = self.file_format
        options = [f"FORMAT {form.name.upper()}"]
        options += [f"{name.upper()} {option_text(value)}" for name, value in form.options.items()]
        folder = self.runtime_output_abspath
        if form.name == "parquet":
            pairs = self.parquet_kv_metadata_str().items()
            named = ", ".join(f"{text_literal(k)}: {text_literal(v)}" for k, v in pairs)
            options.append(f"KV_METADATA {{{named}}}")
        if form.partition_by:
            columns = ", ".join(quoted(name) for name in form.partition_by)
            options += [
                f"PARTITION_BY ({columns})",
                f"FILENAME_PATTERN {text_literal(filename + '.{i}')}",
                f"FILE_EXTENSION {text_literal(form.suffix)}",
                "OVERWRITE_OR_IGNORE TRUE",
            ]
            target = folder
        else:
            target = os.path.join(folder, f"{filename}.{form.suffix}")
        return f"COPY (\n{query}\n) TO {text_literal(target)} ({', '.join(options)})"

    def run(self) -> bool:
        done = super().run()
        self.dataset = self.written()
        return done

    def written(self) -> DataSet:
        """The files, where they will be when the task has ended."""
        from smallpond.logical.dataset import FileSet, ParquetDataSet

        depth = "/".join(["*"] * (len(self.file_format.partition_by) + 1))
        pattern = f"{depth}.{self.file_format.suffix}"
        kind: Any = ParquetDataSet if self.file_format.name == "parquet" else FileSet
        dataset: DataSet = kind([pattern], root_dir=self.final_output_abspath)
        # Tells a sink that `key=value` folders are part of the names.
        dataset.keep_folders = bool(self.file_format.partition_by)  # type: ignore[attr-defined]
        return dataset


def option_text(value: Any) -> str:
    """A value as COPY options take it."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "(" + ", ".join(quoted(str(one)) for one in value) + ")"
    return text_literal(str(value))
