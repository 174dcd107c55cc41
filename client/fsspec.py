"""fsspec: `firepond://` for whatever reads and writes through it (pandas, pyarrow, DuckDB, ...).

    fsspec.open("firepond://127.0.0.1:7300/data/a.parquet")   # that cluster
    fsspec.open("firepond:///data/a.parquet")                 # the default one, as firepond.connect

What stands between `//` and the next `/` is the address of managers, never a directory. DuckDB
takes an instance with `connection.register_filesystem`; pyarrow's own URIs want
`fsspec+firepond://`.

Why attributes are remembered for a moment: DuckDB asks for those of one file up to a dozen times
before it reads it. Invariant: what this instance changes, it forgets; another's change is seen
after `ATTRIBUTES_AGE_S`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path

import firepond
from firepond.client.attributes import FileStat
from firepond.client.cluster import Cluster
from firepond.client.fsspec_file import ReadFile, WriteFile, open_created
from firepond.fs.errors import FirepondError, NotADirectory, NotFound

ATTRIBUTES_AGE_S = 1.0
ATTRIBUTES_MAX_COUNT = 10_000
PROTOCOL = "firepond"
_PREFIX = f"{PROTOCOL}://"


class FirepondFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The files of a cluster.

    Args:
        address: "host:port" of managers, separated by commas; the default is what
            `firepond.connect()` takes.
        timeout_s: no operation takes longer, in seconds.
    """

    protocol = PROTOCOL
    root_marker = "/"

    def __init__(self, address: str | None = None, timeout_s: float = 30.0, **kwargs: Any) -> None:
        super().__init__(address=address, timeout_s=timeout_s, **kwargs)
        self.address = address
        self.timeout_s = timeout_s
        self._connected: Cluster | None = None
        self._attributes: dict[str, tuple[float, dict[str, Any]]] = {}

    @property
    def cluster(self) -> Cluster:
        """The connection, made at the first use and again in a forked child."""
        if self._connected is None:
            url = None if self.address is None else _PREFIX + self.address
            self._connected = firepond.connect(url, timeout_s=self.timeout_s)
        return self._connected

    def close(self) -> None:
        """Ends the connection; the next use makes another one. fsspec keeps instances for ever."""
        connected, self._connected = self._connected, None
        if connected is not None:
            connected.close()

    @property
    def fsid(self) -> str:
        return f"{PROTOCOL}-{self.cluster.address}"

    # --- names ---

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = str(stringify_path(path))
        if text.startswith(_PREFIX):
            _, _, text = text[len(_PREFIX) :].partition("/")
        return "/" + text.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        if not path.startswith(_PREFIX):
            return {}
        address = path[len(_PREFIX) :].partition("/")[0]
        return {"address": address} if address else {}

    def unstrip_protocol(self, name: str) -> str:
        return f"{_PREFIX}{self.address or ''}{self._strip_protocol(name)}"

    # --- attributes ---

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        known = self._attributes.get(path)
        if known is not None and time.monotonic() - known[0] < ATTRIBUTES_AGE_S:
            return dict(known[1])
        return self._remember(path, self.cluster.stat(path))

    def _remember(self, path: str, stat: FileStat) -> dict[str, Any]:
        kind = "directory" if stat.is_dir() else "file"
        row = {
            "name": path,
            "size": stat.st_size if kind == "file" else 0,
            "type": kind,
            "created": stat.st_ctime,
            "mtime": stat.st_mtime,
            "mode": stat.st_mode,
            "uid": stat.st_uid,
            "gid": stat.st_gid,
            "ino": stat.st_ino,
        }
        if len(self._attributes) >= ATTRIBUTES_MAX_COUNT:
            self._attributes.clear()
        self._attributes[path] = (time.monotonic(), row)
        return dict(row)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        try:
            rows = list(self._rows(path))
        except NotADirectory:
            rows = [self.info(path)]
        return rows if detail else [row["name"] for row in rows]

    def _rows(self, path: str) -> Iterator[dict[str, Any]]:
        for entry in self.cluster.scandir(path, attributes=True):
            name = f"{path.rstrip('/')}/{entry.name}"
            try:
                yield self._remember(name, entry.stat())
            except NotFound:
                # A link to nothing, or gone since it was listed.
                continue

    def created(self, path: str) -> Any:
        return self._time(path, "created")

    def modified(self, path: str) -> Any:
        return self._time(path, "mtime")

    def _time(self, path: str, name: str) -> Any:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.info(path)[name], UTC)

    def ukey(self, path: str) -> str:
        row = self.info(path)
        return f"{row['ino']}-{row['size']}-{row['mtime']}"

    def invalidate_cache(self, path: str | None = None) -> None:
        if path is None:
            self._attributes.clear()
        else:
            self._attributes.pop(self._strip_protocol(path), None)
        super().invalidate_cache(path)

    # --- directories, names ---

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        path = self._strip_protocol(path)
        if create_parents:
            parent = self._parent(path)
            self.cluster.makedirs(parent, exist_ok=True)
        self.cluster.mkdir(path)
        self.invalidate_cache()

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self.cluster.makedirs(self._strip_protocol(path), exist_ok=exist_ok)
        self.invalidate_cache()

    def rmdir(self, path: str) -> None:
        self.cluster.rmdir(self._strip_protocol(path))
        self.invalidate_cache()

    def rm_file(self, path: str) -> None:
        self.cluster.remove(self._strip_protocol(path))
        self.invalidate_cache()

    _rm = rm_file

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        for one in self.expand_path(path) if isinstance(path, list) else self._matching(path):
            if not self.isdir(one):
                self.rm_file(one)
            elif recursive and maxdepth is None:
                self.cluster.rmtree(one)
            else:
                super().rm(one, recursive=recursive, maxdepth=maxdepth)
        self.invalidate_cache()

    def _matching(self, path: str) -> list[str]:
        return [str(name) for name in self.expand_path(path)]

    def mv(
        self,
        path1: str,
        path2: str,
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Renames, at once, whatever it is; a file or an empty directory is replaced."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if source == target:
            return
        if self.isdir(target) and not self.isdir(source):
            target = f"{target.rstrip('/')}/{source.rpartition('/')[2]}"
        self.cluster.replace(source, target)
        self.invalidate_cache()

    def replace_directory(self, source: str, target: str) -> None:
        """Puts a directory in the place of another, which may be missing, at once."""
        source, target = self._strip_protocol(source), self._strip_protocol(target)
        if self.cluster.exists(target):
            self.cluster.exchange(source, target)
            self.cluster.rmtree(source)
        else:
            self.cluster.makedirs(self._parent(target), exist_ok=True)
            self.cluster.rename(source, target)
        self.invalidate_cache()

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        self.invalidate_cache()
        if self.isdir(source):
            self.makedirs(target, exist_ok=True)
            return
        self.cluster.makedirs(self._parent(target), exist_ok=True)
        with self.cluster.open(source, "rb") as reader, self.cluster.open(target, "wb") as writer:
            while block := reader.read(8 << 20):
                writer.write(block)

    # --- bytes ---

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        path = self._strip_protocol(path)
        if mode == "rb":
            return ReadFile(self.cluster.open_raw(path, mode), path)
        self.invalidate_cache()
        return WriteFile(self.cluster, path, mode, autocommit=autocommit)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        with ReadFile(self.cluster.open_raw(self._strip_protocol(path)), path) as file:
            first, last = _range(file.size, start, end)
            file.seek(first)
            return file.read(max(0, last - first))

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Ranges of many files in one batch: one request per storage node."""
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError("as many starts and ends as paths")
        results: list[Any] = [None] * len(paths)
        files: dict[str, ReadFile] = {}
        wanted: list[tuple[int, tuple[object, int, bytearray]]] = []
        try:
            for index, (path, start, end) in enumerate(zip(paths, starts, ends, strict=True)):
                name = self._strip_protocol(path)
                try:
                    if name not in files:
                        files[name] = ReadFile(self.cluster.open_raw(name), name)
                except FirepondError as error:
                    results[index] = error
                    continue
                first, last = _range(files[name].size, start, end)
                buffer = bytearray(max(0, last - first))
                wanted.append((index, (files[name]._raw, first, buffer)))
            counts = self.cluster.read_batch([read for _, read in wanted], raise_errors=False)
            for (index, (_, _, buffer)), count in zip(wanted, counts, strict=True):
                results[index] = bytes(buffer[:count]) if isinstance(count, int) else count
        finally:
            for file in files.values():
                file.close()
        if on_error == "raise":
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        return results

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        path = self._strip_protocol(path)
        with open_created(self.cluster, path, "xb" if mode == "create" else "wb") as file:
            file.write(value)
        self.invalidate_cache()


def _range(size: int, start: int | None, end: int | None) -> tuple[int, int]:
    """A slice of a file as fsspec means it: negative numbers count from the end."""
    first, last, _ = slice(start, end).indices(size)
    return first, last


fsspec.register_implementation(PROTOCOL, FirepondFileSystem, clobber=True)
