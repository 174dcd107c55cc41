"""The end of a branch: output files collected in a folder of the user's.

Phase one (`copy`, `link_or_copy`; a task an input) brings files near: copies or hard links in a
staging folder. Phase two (`link_manifest`; one task) names them without collisions and makes the
folder appear (sink_commit.py). `manifest` only writes the list of files.

Several partitions may be ranges of one file. Ranges that make up a whole file are that file, once;
others are written out as files of their own.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

from smallpond.execution.task.base import Task
from smallpond.execution.task.sink_commit import Placement, SinkCommit, place_file
from smallpond.execution.task.sink_files import source_files
from smallpond.execution.task.sql_engine import INLINE_ROWS_MAX, small_rows

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo

logger = logging.getLogger(__name__)

SinkTaskType = Literal["link_manifest", "copy", "link_or_copy", "manifest"]
SinkMode = Literal["append", "overwrite", "error", "ignore"]
SINK_MODES = ("append", "overwrite", "error", "ignore")
THREADS_MAX = 32


class DataSinkTask(Task):
    """Brings the files of its inputs to `output_path`."""

    __slots__ = ("is_final_node", "mode", "type")

    manifest_filename = ".MANIFEST.txt"

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        output_path: str,
        type: SinkTaskType = "link_manifest",
        manifest_only: bool = False,
        is_final_node: bool = False,
        *,
        mode: SinkMode = "append",
    ) -> None:
        assert type in ("link_manifest", "copy", "link_or_copy", "manifest"), (
            f"invalid sink type: {type}"
        )
        assert output_path is not None, "output path is required for a data sink"
        super().__init__(ctx, input_deps, partition_infos, output_path=output_path)
        self.type: SinkTaskType = "manifest" if manifest_only else type
        self.mode = mode
        # Whether these are the results of the whole plan; one sink of a plan is.
        self.is_final_node = is_final_node
        self.temp_output = False

    @property
    def allow_speculative_exec(self) -> bool:
        return False

    @property
    def exec_inline(self) -> bool:
        """A little data: not worth a process."""
        inputs = self.input_datasets or []
        if not inputs or self.retry_count:
            return False
        return sum(small_rows(dataset) for dataset in inputs) <= INLINE_ROWS_MAX

    @property
    def self_contained_output(self) -> bool:
        return self.type != "manifest"

    @property
    def keep_folders(self) -> bool:
        """Whether the inputs were written in `key=value` folders, which then are kept."""
        return any(getattr(one, "keep_folders", False) for one in self.input_datasets)

    @property
    def target_dir(self) -> str:
        """The user's folder."""
        assert self.output_root is not None
        return os.path.abspath(self.output_root)

    @property
    def staging_root(self) -> str:
        """Beside the user's folder, so that it need not exist until it is complete.

        Inside it when it is a mount point or its parent cannot be written: a rename cannot cross.
        """
        parent, name = os.path.split(self.target_dir)
        if os.path.ismount(self.target_dir) or (
            os.path.isdir(parent) and not os.access(parent, os.W_OK)
        ):
            return os.path.join(self.target_dir, ".staging")
        return os.path.join(parent, f".{name}.staging")

    @property
    def final_output_abspath(self) -> str:
        if self.type in ("copy", "link_or_copy"):
            return os.path.join(self.staging_root, self.output_dirname)
        return self.target_dir

    @property
    def runtime_output_abspath(self) -> str:
        return os.path.join(self.staging_root, self.output_dirname)

    def initialize(self) -> None:
        self.inject_fault()
        if self._memory_limit is None:
            self._memory_limit = 0
        if self.type in ("copy", "link_or_copy"):
            os.makedirs(self.runtime_output_abspath, exist_ok=True)

    def finalize(self) -> None:
        # Everything is where it belongs already; moving folders is what `run` did.
        self.inject_fault()

    def clean_output(self, force: bool = False) -> None:
        """The output is the user's; nothing of it is temporary."""

    def run(self) -> bool:
        with ThreadPoolExecutor(min(THREADS_MAX, max(1, len(self.input_datasets)))) as pool:
            return self.collect_output_files(pool)

    def collect_output_files(self, pool: ThreadPoolExecutor) -> bool:
        """Do the work of this phase."""
        files = source_files(self.input_datasets, self.runtime_output_abspath, pool)
        self.perf_metrics["num output files"] += len(files)
        if self.type in ("copy", "link_or_copy"):
            return self._bring_near(files, pool)
        commit = SinkCommit(self, pool)
        paths = commit.write_manifest(files) if self.type == "manifest" else commit.publish(files)
        self._set_dataset(paths)
        return True

    def _bring_near(self, files: list[str], pool: ThreadPoolExecutor) -> bool:
        names = unique_names(files, keep_folders=self.keep_folders)
        targets = [os.path.join(self.runtime_output_abspath, name) for name in names]
        for folder in {os.path.dirname(target) for target in targets}:
            os.makedirs(folder, exist_ok=True)
        how: Placement = "copy" if self.type == "copy" else "link_or_copy"
        # Rows of a part of a file have been written where they belong.
        away = [pair for pair in zip(files, targets, strict=True) if pair[0] != pair[1]]
        list(pool.map(lambda pair: place_file(pair[0], pair[1], how), away))
        self._set_dataset(targets)
        return True

    def _set_dataset(self, paths: list[str]) -> None:
        from smallpond.logical.dataset import CsvDataSet, JsonDataSet, ParquetDataSet

        kinds = {type(dataset) for dataset in self.input_datasets}
        self.dataset = ParquetDataSet([], root_dir=None)
        if len(kinds) == 1 and kinds <= {CsvDataSet, JsonDataSet}:
            self.dataset = self.input_datasets[0]._init_file_partitions(1)[0]
        self.dataset.reset(paths, None)
        if self.keep_folders:
            self.dataset.keep_folders = True  # type: ignore[attr-defined]
        # These are files: a name that looks like a pattern is not to be expanded.
        self.dataset._absolute_paths = self.dataset._resolved_paths = sorted(paths)


def unique_names(
    paths: Sequence[str], taken: Iterable[str] = (), keep_folders: bool = False
) -> list[str]:
    """A file name for each path: its own, or with an index when names would collide."""
    names = [partitioned_name(path) if keep_folders else os.path.basename(path) for path in paths]
    if len({*names, *taken}) == len(names) + len(set(taken)):
        return names
    pures = [PurePath(name) for name in names]
    used = set(taken)
    indexed = []
    shift = 0
    for index, pure in enumerate(pures):
        while (name := str(pure.with_stem(f"{pure.stem}.{index + shift}"))) in used:
            shift += len(paths)
        used.add(name)
        indexed.append(name)
    return indexed


def partitioned_name(path: str) -> str:
    """The name of a file with the `key=value` folders that it lies in."""
    pure = PurePath(path)
    folders = list(itertools.takewhile(lambda name: "=" in name, reversed(pure.parts[:-1])))
    return os.path.join(*reversed(folders), pure.name)


def manifest_lines(path: str) -> list[str]:
    """The paths in a manifest; none without one."""
    try:
        with open(path) as file:
            return [line.rstrip("\n") for line in file if line.strip()]
    except FileNotFoundError:
        return []
