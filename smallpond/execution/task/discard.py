"""Removing folders of a job that nobody needs any more, without making the job wait for it.

A task leaves a folder, and some file systems take milliseconds to remove one: ten thousand of them
would take longer than the tasks. So a large tree is renamed, which makes it disappear at once, and
a process that outlives the job removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil

from smallpond.io.filesystem import on_hf3fs, remove_path

ENTRIES_MAX = 200


def _is_large(path: str) -> bool:
    count = 0
    folders = [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    count += 1
                    if count > ENTRIES_MAX:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue
    return False


def tree_discard(path: str) -> None:
    """Make a tree disappear; a large one is removed in the background."""
    if not os.path.lexists(path):
        return
    command = shutil.which("rm")
    if command is None or os.path.islink(path) or on_hf3fs(path) or not _is_large(path):
        remove_path(path)
        return
    import subprocess
    import uuid

    trash = f"{path}.removed-{uuid.uuid4().hex[:8]}"
    try:
        os.rename(path, trash)
    except OSError:
        remove_path(path)
        return
    with contextlib.suppress(OSError):
        subprocess.Popen(
            [command, "-rf", trash],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ).returncode = 0
