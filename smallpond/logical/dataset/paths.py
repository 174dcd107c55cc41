"""From what a user names (paths, patterns, directories, URLs) to a sorted list of files.

Rules: patterns never match hidden files; a directory stands for the files in it, or for those its
manifest lists; a pattern that matches nothing is an error. The one exception is the bare pattern
`*` under a given root directory: that is how the engine names "whatever the task wrote", which may
be nothing.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from smallpond.common import DataNotFound
from smallpond.io.url import expand_url, filesystem_for, is_url, local_path, path_within

_MAGIC = re.compile(r"[*?]|\[.*\]")
_MAGIC_BYTES = re.compile(rb"[*?]|\[.*\]")
WHOLE_DIRECTORY = "*"
MANIFEST_NAME = ".MANIFEST.txt"
GLOB_THREADS_MAX = 32
# Above this number of paths, only names without a suffix are looked at to find directories.
DIRECTORY_CHECKS_MAX = 10_000


def has_magic(s: str | bytes) -> bool:
    """Whether a path has a wildcard in it."""
    if isinstance(s, bytes):
        return _MAGIC_BYTES.search(s) is not None
    return _MAGIC.search(s) is not None


def is_pattern(path: str) -> bool:
    """Whether a path is to be matched. In a web address, `?` begins the query."""
    if path.startswith(("http://", "https://")):
        return "*" in path
    return has_magic(path)


def absolute(path: str, root_dir: str | None) -> str:
    """The path under its root; URLs and absolute paths as they are."""
    path = local_path(path)
    if path.startswith("~/"):
        return os.path.expanduser(path)
    if root_dir is None or is_url(path):
        return path
    if is_url(root_dir):
        return path if path.startswith("/") else f"{root_dir.rstrip('/')}/{path}"
    return os.path.join(root_dir, path)


def may_match_nothing(path: str, root_dir: str | None) -> bool:
    """Whether the absolute path is the engine's name for all files of an existing directory."""
    if not root_dir or is_url(path):
        return False
    return path == os.path.join(root_dir, WHOLE_DIRECTORY) and Path(root_dir).is_dir()


def nothing_matches(path: str) -> DataNotFound:
    """The error for a pattern without a match: it names the deepest directory that is there."""
    if is_url(path):
        return DataNotFound(f"no file matches '{path}'; check the bucket, the path and the keys")
    parent = Path(path).parent
    while parent != parent.parent and (has_magic(str(parent)) or not parent.is_dir()):
        parent = parent.parent
    return DataNotFound(
        f"no file matches '{path}'; the deepest directory of it that exists is '{parent}'"
    )


def expand_pattern(path: str, recursive: bool, filesystem: Any = None) -> list[str]:
    """All matches of one pattern."""
    if is_url(path):
        return expand_url(path, filesystem or filesystem_for(path))
    return glob.glob(path, recursive=recursive)


def resolve(
    paths: Sequence[str],
    root_dir: str | None,
    recursive: bool,
    directories: bool,
    must_match: bool,
    filesystem: Any = None,
) -> list[str]:
    """The files of the absolute `paths`, sorted.

    With `directories`, those stand for the files in them. With `must_match`, a pattern without a
    match is an error.
    """
    files = [path for path in paths if not is_pattern(path)]
    patterns = [path for path in paths if is_pattern(path)]
    if patterns:
        if len(patterns) == 1:
            found = [expand_pattern(patterns[0], recursive, filesystem)]
        else:
            with ThreadPoolExecutor(min(GLOB_THREADS_MAX, len(patterns))) as pool:
                found = list(
                    pool.map(lambda path: expand_pattern(path, recursive, filesystem), patterns)
                )
        for pattern, matches in zip(patterns, found, strict=True):
            if not matches and must_match and not may_match_nothing(pattern, root_dir):
                raise nothing_matches(pattern)
            files += matches
    if directories:
        files = _without_directories(files, set(paths), recursive, filesystem)
    return sorted(files)


def _without_directories(
    files: list[str], named: set[str], recursive: bool, filesystem: Any
) -> list[str]:
    """Named directories become their files; those that a pattern met on its way are dropped."""
    few = len(files) <= DIRECTORY_CHECKS_MAX
    kept = []
    for path in files:
        if not _is_directory(path, few, filesystem):
            kept.append(path)
        elif path in named:
            kept += files_below(path, filesystem)
        elif recursive or not path.endswith("/"):
            continue
    return kept


def _is_directory(path: str, few: bool, filesystem: Any) -> bool:
    if is_url(path):
        if not path.endswith("/") and "." in path.rsplit("/", 1)[-1]:
            return False
        filesystem = filesystem or filesystem_for(path)
        return bool(filesystem.isdir(path_within(filesystem, path)))
    if not few and "." in path.rsplit("/", 1)[-1]:
        return False
    return os.path.isdir(path)


def _url_manifest(filesystem: Any, directory: str) -> list[str]:
    try:
        text = filesystem.cat_file(f"{directory.rstrip('/')}/{MANIFEST_NAME}").decode()
    except OSError:
        return []
    return [line for line in text.splitlines() if line]


def files_below(directory: str, filesystem: Any = None) -> list[str]:
    """The files of a directory and those below it, hidden ones (`.` and `_` names) left out."""
    if is_url(directory):
        pattern = directory.rstrip("/") + "/**"
        filesystem = filesystem or filesystem_for(directory)
        prefix = path_within(filesystem, directory)
        listed = _url_manifest(filesystem, prefix)
        if listed:
            return listed
        return [
            path
            for path in expand_url(pattern, filesystem)
            if not _hidden(path_within(filesystem, path).removeprefix(prefix))
            and not filesystem.isdir(path_within(filesystem, path))
        ]
    manifest = Path(directory, MANIFEST_NAME)
    if manifest.is_file():
        return [line for line in manifest.read_text().splitlines() if line]
    found = []
    for parent, names, file_names in os.walk(directory):
        names[:] = [name for name in names if not name.startswith((".", "_"))]
        found += [
            os.path.join(parent, name) for name in file_names if not name.startswith((".", "_"))
        ]
    if not found:
        raise DataNotFound(f"the directory '{directory}' has no files in it")
    return found


def _hidden(relative_path: str) -> bool:
    return any(part.startswith((".", "_")) for part in relative_path.split("/"))
