"""The end of a branch behind a URL: output files sent to a folder of a remote file system.

Why not as on disks: object stores have neither links nor renames of folders. A file system that can
rename a folder (`firepond://`) gets the new folder beside the old one, which is then replaced in
one step. Elsewhere new files get names that nothing has, the manifest that lists them is written
last, in one request, and only then is what it replaces removed: who follows the manifest (as this
engine does) sees all of one write or none of it.

What is about to be written stands in the job's own folder first. A job that is resumed finds it: if
the manifest lists those files the work is done, else they are removed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from smallpond.common import InvalidArgument
from smallpond.execution.task.base import Task
from smallpond.execution.task.sink import (
    DataSinkTask,
    SinkMode,
    partitioned_name,
    unique_names,
)
from smallpond.execution.task.sink_files import source_files
from smallpond.execution.task.sink_intent import intent_path, intent_read, intent_write
from smallpond.io.url import filesystem_for, path_within

if TYPE_CHECKING:
    from smallpond.execution.task.context import RuntimeContext
    from smallpond.execution.task.ids import PartitionInfo

logger = logging.getLogger(__name__)

UPLOADS_PARALLEL_COUNT = 8


class UrlSinkTask(Task):
    """Sends the files of its inputs to the folder at `url`."""

    __slots__ = ("mode", "url")

    def __init__(
        self,
        ctx: RuntimeContext,
        input_deps: Sequence[Task],
        partition_infos: Iterable[PartitionInfo],
        url: str,
        mode: SinkMode = "append",
    ) -> None:
        super().__init__(ctx, input_deps, partition_infos)
        self.url = url.rstrip("/")
        self.mode = mode

    @property
    def allow_speculative_exec(self) -> bool:
        return False

    @property
    def keep_folders(self) -> bool:
        """Whether the inputs were written in `key=value` folders, which then are kept."""
        return any(getattr(one, "keep_folders", False) for one in self.input_datasets)

    def run(self) -> bool:
        with ThreadPoolExecutor(UPLOADS_PARALLEL_COUNT) as pool:
            files = source_files(self.input_datasets, self.runtime_output_abspath, pool)
            urls = _Upload(self, pool).publish(files)
        self.perf_metrics["num output files"] += len(files)
        self.perf_metrics["num output bytes"] += sum(os.path.getsize(path) for path in files)
        from smallpond.logical.dataset import FileSet

        self.dataset = FileSet(urls or [], root_dir=None)
        return True


class _Upload:
    """One write of files to a folder."""

    def __init__(self, task: UrlSinkTask, pool: ThreadPoolExecutor) -> None:
        self.task = task
        self.pool = pool
        self.files_remote: Any = filesystem_for(task.url)
        self.target = path_within(self.files_remote, task.url).rstrip("/")
        self.manifest = f"{self.target}/{DataSinkTask.manifest_filename}"
        self.intent_path = intent_path(task)

    def publish(self, files: list[str]) -> list[str]:
        """Make the files appear; their URLs."""
        remote = self.files_remote
        remote.invalidate_cache()
        done = self._recovered(len(files))
        if done is not None:
            return done
        present = self._present()
        if present and self.task.mode == "error":
            raise InvalidArgument(
                f"{self.task.url} already holds files, and the sink's mode is 'error'; remove them "
                f"or write with mode 'overwrite', 'append' or 'ignore'"
            )
        if present and self.task.mode == "ignore":
            logger.info("%s holds files already; nothing is written", self.task.url)
            return [self._url(name) for name in present]
        if hasattr(remote, "replace_directory") and (not present or self.task.mode == "overwrite"):
            return self._replace(files)
        return self._add(files, present)

    # --- a folder that is renamed ---

    def _replace(self, files: list[str]) -> list[str]:
        remote = self.files_remote
        parent, _, name = self.target.rpartition("/")
        staging = f"{parent}/.{name}.staging-{self.task.ctx.job_id}.{self.task.runtime_id}"
        if remote.exists(staging):
            remote.rm(staging, recursive=True)
        names = unique_names(files, keep_folders=self.task.keep_folders)
        urls = [self._url(one) for one in names]
        self._write_intent(names)
        self._send(files, [f"{staging}/{one}" for one in names])
        self._write_manifest(f"{staging}/{DataSinkTask.manifest_filename}", urls)
        remote.replace_directory(staging, self.target)
        return urls

    # --- names, and a manifest ---

    def _add(self, files: list[str], present: list[str]) -> list[str]:
        wanted = [self._name(path) for path in files]
        names = wanted
        if len({*wanted, *present}) != len(wanted) + len(present):
            # Also when a folder is replaced: until then readers see what was there.
            mark = uuid.uuid4().hex[:12]
            names = [_marked(name, f"{mark}-{index}") for index, name in enumerate(wanted)]
        urls = [self._url(name) for name in names]
        self._write_intent(names)
        self._send(files, [f"{self.target}/{name}" for name in names])
        overwrite = self.task.mode == "overwrite"
        kept = [] if overwrite else self._listed() or [self._url(name) for name in present]
        self._write_manifest(self.manifest, [*kept, *urls])
        for name in present if overwrite else []:
            with contextlib.suppress(FileNotFoundError):
                self.files_remote.rm_file(f"{self.target}/{name}")
        return urls

    def _name(self, path: str) -> str:
        return partitioned_name(path) if self.task.keep_folders else os.path.basename(path)

    # --- shared steps ---

    def _url(self, name: str) -> str:
        return f"{self.task.url}/{name}"

    def _present(self) -> list[str]:
        """The visible files below the folder, as names within it."""
        try:
            found = self.files_remote.find(self.target)
        except FileNotFoundError:
            return []
        names = [str(path).removeprefix(self.target).lstrip("/") for path in found]
        return [name for name in names if name and not _is_hidden(name)]

    def _send(self, files: list[str], targets: list[str]) -> None:
        for folder in {target.rpartition("/")[0] for target in targets}:
            self.files_remote.makedirs(folder, exist_ok=True)
        list(self.pool.map(self.files_remote.put_file, files, targets))

    def _write_manifest(self, path: str, urls: list[str]) -> None:
        self.files_remote.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.files_remote.pipe_file(path, "".join(f"{url}\n" for url in urls).encode())

    def _listed(self) -> list[str]:
        try:
            text = self.files_remote.cat_file(self.manifest).decode()
        except FileNotFoundError:
            return []
        return [line for line in text.splitlines() if line]

    def _write_intent(self, names: list[str]) -> None:
        intent_write(self.intent_path, {"url": self.task.url, "names": names})

    def _recovered(self, count: int) -> list[str] | None:
        """What an earlier attempt published; None if it did not, after taking back its pieces."""
        intent = intent_read(self.intent_path)
        if intent is None or intent["url"] != self.task.url:
            return None
        urls = [self._url(name) for name in intent["names"]]
        listed = set(self._listed())
        if len(urls) == count and listed.issuperset(urls):
            logger.info("%s: an earlier attempt had published %s", self.task.key, self.task.url)
            return urls
        for name, url in zip(intent["names"], urls, strict=True):
            if url not in listed:
                with contextlib.suppress(FileNotFoundError):
                    self.files_remote.rm_file(f"{self.target}/{name}")
        os.unlink(self.intent_path)
        return None


def _marked(name: str, mark: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{mark}.{suffix}" if dot else f"{name}.{mark}"


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))
