"""How a sink's folder appears: all at once, or not at all.

Files are prepared in a staging folder beside the target. A target that does not exist, or is empty,
or is to be overwritten, is replaced by one rename (two where the system cannot exchange folders).
Into a folder that keeps its files, new files are moved one by one and the manifest is written last;
readers who follow the manifest see all of them or none.

Before the first file moves, the intent (which names will appear) is written to the job's own
folder. A job that is resumed finds it: if everything had appeared the work is done, else what had
appeared is taken back first. So a crash leaves nothing half, and resuming duplicates nothing.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from smallpond.common import MB, InvalidArgument
from smallpond.execution.task.sink_intent import intent_path, intent_read, intent_write

if TYPE_CHECKING:
    from smallpond.execution.task.sink import DataSinkTask

logger = logging.getLogger(__name__)

COPY_BLOCK_BYTES = 16 * MB
# What says that a file cannot be linked there, and that another way has to be taken.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES, errno.ENOSYS}

Placement = Literal["copy", "link_or_copy", "link_or_symlink"]


def place_file(source: str, target: str, how: Placement) -> None:
    """Make `source` appear at `target`, replacing what is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(target)
    if how != "copy":
        try:
            os.link(source, target)
            return
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
    if how == "link_or_symlink":
        os.symlink(os.path.abspath(source), target)
        return
    # Not shutil.copy: it asks the kernel for small pieces, which is slow over a network.
    with open(source, "rb") as reader, open(target, "wb") as writer:
        shutil.copyfileobj(reader, writer, COPY_BLOCK_BYTES)


class SinkCommit:
    """The last step of `task`, which has `files` to publish."""

    def __init__(self, task: DataSinkTask, pool: ThreadPoolExecutor) -> None:
        self.task = task
        self.pool = pool
        self.target = task.target_dir
        self.staging = os.path.join(task.staging_root, f"{task.key}.commit")
        self.intent_path = intent_path(task)

    def write_manifest(self, files: list[str]) -> list[str]:
        """Write only the list of files."""
        os.makedirs(self.target, exist_ok=True)
        self._replace_manifest(files)
        return files

    def publish(self, files: list[str]) -> list[str]:
        """Make the files appear in the target; their paths there."""
        published = self._recovered(files)
        if published is None:
            entries = self._entries()
            # Hidden ones are staging folders of tasks that write below the same folder.
            exists = any(not name.startswith(".") for name in entries)
            if exists and self.task.mode == "error":
                raise InvalidArgument(
                    f"{self.target} already holds files, and the sink's mode is 'error'; remove "
                    f"them or write with mode 'overwrite', 'append' or 'ignore'"
                )
            if exists and self.task.mode == "ignore":
                logger.info("%s holds files already; nothing is written", self.target)
                published = self._present_files()
            elif entries and self.task.mode != "overwrite":
                published = self._append(files)
            else:
                published = self._replace(files)
        self._check(published)
        self._clean(files)
        return published

    # --- a folder that appears as a whole ---

    def _replace(self, files: list[str]) -> list[str]:
        from smallpond.execution.task.sink import unique_names

        names = unique_names(files, keep_folders=self.task.keep_folders)
        paths = [os.path.join(self.target, name) for name in names]
        self._stage(files, names)
        manifest = os.path.join(self.staging, self.task.manifest_filename)
        with open(manifest, "w", buffering=2 * MB) as file:
            file.writelines(f"{path}\n" for path in paths)
        self._write_intent(names, "replace")
        _folder_swap(self.staging, self.target)
        return paths

    # --- files that are added to a folder ---

    def _append(self, files: list[str]) -> list[str]:
        from smallpond.execution.task.sink import manifest_lines, unique_names

        present = set(self._entries())
        names = unique_names(files, present, keep_folders=self.task.keep_folders)
        paths = [os.path.join(self.target, name) for name in names]
        self._stage(files, names)
        listed = manifest_lines(os.path.join(self.target, self.task.manifest_filename))
        if not listed:
            listed = self._present_files()
        self._write_intent(names, "append")
        for name, path in zip(names, paths, strict=True):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.rename(os.path.join(self.staging, name), path)
        self._replace_manifest([*listed, *paths])
        return paths

    # --- shared steps ---

    def _stage(self, files: list[str], names: list[str]) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)
        os.makedirs(self.staging)
        targets = [os.path.join(self.staging, name) for name in names]
        for folder in {os.path.dirname(target) for target in targets}:
            os.makedirs(folder, exist_ok=True)
        list(self.pool.map(lambda a, b: place_file(a, b, "link_or_symlink"), files, targets))

    def _replace_manifest(self, paths: list[str]) -> None:
        manifest = os.path.join(self.target, self.task.manifest_filename)
        temporary = f"{manifest}.{self.task.runtime_id}.tmp"
        with open(temporary, "w", buffering=2 * MB) as file:
            file.writelines(f"{path}\n" for path in paths)
        os.rename(temporary, manifest)

    def _present_files(self) -> list[str]:
        """The visible files of the target: what no manifest speaks of was there before it."""
        with os.scandir(self.target) as entries:
            return sorted(e.path for e in entries if not e.name.startswith(".") and e.is_file())

    def _entries(self) -> list[str]:
        try:
            return os.listdir(self.target)
        except FileNotFoundError:
            return []

    def _write_intent(self, names: list[str], how: str) -> None:
        intent_write(self.intent_path, {"target": self.target, "how": how, "names": names})

    def _recovered(self, files: list[str]) -> list[str] | None:
        """What an earlier attempt published; None if it did not, after taking back its pieces."""
        from smallpond.execution.task.sink import manifest_lines

        intent = intent_read(self.intent_path)
        if intent is None or intent["target"] != self.target:
            return None
        paths = [os.path.join(self.target, name) for name in intent["names"]]
        listed = set(manifest_lines(os.path.join(self.target, self.task.manifest_filename)))
        if (
            len(paths) == len(files)
            and listed.issuperset(paths)
            and all(map(os.path.exists, paths))
        ):
            logger.info("%s: an earlier attempt had published %s", self.task.key, self.target)
            return paths
        if intent["how"] == "append":
            for path in paths:
                if path not in listed:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
        os.unlink(self.intent_path)
        return None

    def _check(self, paths: list[str]) -> None:
        """Read the footers: a broken file must not pass for a result."""
        if paths and paths[0].endswith(".parquet"):
            from smallpond.logical.dataset import ParquetDataSet

            rows = ParquetDataSet(paths).num_rows
            self.task.perf_metrics["num output rows"] += rows
            logger.debug("%s: %d rows in %d files", self.target, rows, len(paths))

    def _clean(self, files: list[str]) -> None:
        """Remove what phase one and this commit left in staging, and the folder if it is empty."""
        root = self.task.staging_root
        for folder in {os.path.dirname(path) for path in files if path.startswith(root + os.sep)}:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                # Upwards as far as folders are empty.
                os.removedirs(os.path.dirname(folder))
        shutil.rmtree(self.staging, ignore_errors=True)
        shutil.rmtree(self.task.runtime_output_abspath, ignore_errors=True)
        for folder in (os.path.dirname(self.task.runtime_output_abspath), root):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _folder_swap(staged: str, target: str) -> None:
    """Put `staged` in the place of `target`, which disappears; atomic where the system can."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.rename(staged, target)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    old = f"{staged}.old"
    shutil.rmtree(old, ignore_errors=True)
    if _exchanged(staged, target):
        os.rename(staged, old)
    else:
        os.rename(target, old)
        os.rename(staged, target)
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: str, other: str) -> bool:
    """Exchange two folders in one step; False where the system cannot."""
    import ctypes

    at_cwd, exchange = -100, 2
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    result: int = renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange)
    return result == 0
