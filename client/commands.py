"""`firepond ls|cp|cat|stat`: files of a cluster from the shell.

Owns: what the commands print and the form of paths: absolute, and for `cp` with "firepond:"
before a path of the cluster. Never: file operations of its own; it uses the SDK as programs do.
"""

from __future__ import annotations

import datetime
import json
import stat as stat_bits
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO, RawIOBase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from firepond.client.attributes import FileStat
from firepond.fs.cli.options import AddressOption, JsonOption, resolve_address
from firepond.fs.errors import AlreadyExists, InvalidArgument, IoFailed, IsADirectory

if TYPE_CHECKING:
    from firepond.client.cluster import Cluster

PREFIX = "firepond:"
PIECE_BYTES = 8 << 20

ClusterPath = Annotated[str, typer.Argument(help="An absolute path of the cluster.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("ls")(list_directory)
    app.command("stat")(show_stat)
    app.command("cat")(print_files)
    app.command("cp")(copy)


def list_directory(
    path: ClusterPath = "/",
    address: AddressOption = None,
    as_json: JsonOption = False,
    long: Annotated[bool, typer.Option("-l", help="Mode, links, owner, size, time.")] = False,
) -> None:
    """List a directory, or one file."""
    with _connect(address) as cluster:
        place = _cluster_path(path)
        found = cluster.lstat(place)
        if found.is_dir() or (found.is_symlink() and cluster.isdir(place)):
            entries = cluster.scandir(place, attributes=long or as_json)
            rows: Iterator[tuple[str, FileStat | None]] = (
                (e.name, e.stat(follow_symlinks=False) if e.has_stat else None) for e in entries
            )
        else:
            rows = iter([(place, found)])
        if as_json:
            print(json.dumps([_fields(name, one) for name, one in rows if one is not None]))
            return
        for name, one in rows:
            print(_line(name, one) if long and one is not None else _printable(name))


def show_stat(
    path: ClusterPath, address: AddressOption = None, as_json: JsonOption = False
) -> None:
    """Show the attributes of a file, directory or symbolic link."""
    with _connect(address) as cluster:
        fields = _fields(_cluster_path(path), cluster.lstat(_cluster_path(path)))
    if as_json:
        print(json.dumps(fields))
        return
    for name, value in fields.items():
        print(f"{name:>18}  {_printable(str(value))}")


def print_files(
    paths: Annotated[list[str], typer.Argument(help="Absolute paths of the cluster.")],
    address: AddressOption = None,
) -> None:
    """Print the contents of files."""
    with _connect(address) as cluster:
        for path in paths:
            with cluster.open_raw(_cluster_path(path)) as file:
                while piece := file.read(PIECE_BYTES):
                    sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def copy(
    source: Annotated[str, typer.Argument(help="A local path, or firepond:/path.")],
    destination: Annotated[str, typer.Argument(help="A local path, or firepond:/path.")],
    address: AddressOption = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Copy a directory with all below it.")
    ] = False,
    verify: Annotated[bool, typer.Option(help="Compare the sizes after each file.")] = True,
) -> None:
    """Copy files into, out of or within the cluster."""
    with _connect(address) as cluster:
        from_side, start = _side(cluster, source)
        to_side, end = _side(cluster, destination)
        if isinstance(from_side, Local) and isinstance(to_side, Local):
            raise InvalidArgument(
                "neither path is of the cluster: write firepond:/path", {"source": source}
            )
        if to_side.is_directory(end):
            end = f"{end.rstrip('/')}/{PurePosixPath(start).name or 'root'}"
        if from_side.is_directory(start):
            if not recursive:
                raise IsADirectory("this is a directory: add --recursive", {"path": source})
            if to_side.exists(end) and not to_side.is_directory(end):
                raise AlreadyExists("a directory cannot replace a file", {"path": end})
            pairs = list(_tree(from_side, start, to_side, end))
        else:
            pairs = [(start, end, from_side.size(start))]
        _copy_files(from_side, to_side, pairs, verify)


Stream = RawIOBase
"""An unbuffered file of either side."""


class Side(Protocol):
    """One end of a copy."""

    def is_directory(self, path: str) -> bool: ...
    def exists(self, path: str) -> bool: ...
    def size(self, path: str) -> int: ...
    def make_directory(self, path: str) -> None: ...
    def names(self, path: str) -> list[str]: ...
    def open(self, path: str, mode: str) -> Stream: ...


@dataclass(frozen=True)
class Local:
    """The files of this machine."""

    def is_directory(self, path: str) -> bool:
        return Path(path).is_dir()

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def size(self, path: str) -> int:
        return Path(path).stat().st_size

    def make_directory(self, path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)

    def names(self, path: str) -> list[str]:
        return sorted(entry.name for entry in Path(path).iterdir())

    def open(self, path: str, mode: str) -> Stream:
        return FileIO(path, mode)


@dataclass(frozen=True)
class Remote:
    """The files of the cluster."""

    cluster: Cluster

    def is_directory(self, path: str) -> bool:
        return self.cluster.isdir(path)

    def exists(self, path: str) -> bool:
        return self.cluster.exists(path)

    def size(self, path: str) -> int:
        return self.cluster.getsize(path)

    def make_directory(self, path: str) -> None:
        self.cluster.makedirs(path, exist_ok=True)

    def names(self, path: str) -> list[str]:
        return self.cluster.listdir(path)

    def open(self, path: str, mode: str) -> Stream:
        return self.cluster.open_raw(path, mode)


def _side(cluster: Cluster, path: str) -> tuple[Side, str]:
    if path.startswith(PREFIX):
        return Remote(cluster), _cluster_path(path)
    return Local(), path


def _tree(from_side: Side, start: str, to_side: Side, end: str) -> Iterator[tuple[str, str, int]]:
    """Makes the directories of a tree; yields its files with their destinations and sizes."""
    to_side.make_directory(end)
    for name in from_side.names(start):
        below, target = f"{start.rstrip('/')}/{name}", f"{end.rstrip('/')}/{name}"
        if from_side.is_directory(below):
            yield from _tree(from_side, below, to_side, target)
        else:
            yield below, target, from_side.size(below)


def _copy_files(
    from_side: Side, to_side: Side, pairs: list[tuple[str, str, int]], verify: bool
) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    total = sum(size for _, _, size in pairs)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("copy", total=total)
        for source, destination, _ in pairs:
            progress.update(task, description=PurePosixPath(source).name)
            copied = 0
            with ExitStack() as files:
                reader = files.enter_context(from_side.open(source, "rb"))
                writer = files.enter_context(to_side.open(destination, "wb"))
                while piece := reader.read(PIECE_BYTES):
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[writer.write(rest) or 0 :]
                    copied += len(piece)
                    progress.advance(task, len(piece))
            if verify and to_side.size(destination) != copied:
                raise IoFailed(
                    "the copy has another size: was it written by someone else?",
                    {"path": destination, "copied_bytes": str(copied)},
                )


def _connect(address: str | None) -> Cluster:
    from firepond.client.cluster import Cluster

    return Cluster(resolve_address(address))


def _cluster_path(path: str) -> str:
    bare = path.removeprefix(PREFIX)
    if not bare.startswith("/"):
        raise InvalidArgument("a path of the cluster begins with /", {"path": path})
    return bare


def _fields(name: str, found: FileStat) -> dict[str, Any]:
    kind = "directory" if found.is_dir() else "symlink" if found.is_symlink() else "file"
    return {
        "name": name,
        "kind": kind,
        "inode": found.st_ino,
        "mode": oct(stat_bits.S_IMODE(found.st_mode)),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "links": found.st_nlink,
        "size_bytes": found.st_size,
        "accessed_ns": found.st_atime_ns,
        "modified_ns": found.st_mtime_ns,
        "changed_ns": found.st_ctime_ns,
        "chunk_size_bytes": found.st_blksize if kind == "file" else 0,
        "stripe_count": found.stripe_count,
    }


def _line(name: str, found: FileStat) -> str:
    time = datetime.datetime.fromtimestamp(found.st_mtime).strftime("%Y-%m-%d %H:%M:%S")
    mode = stat_bits.filemode(found.st_mode)
    owner = f"{found.st_uid}:{found.st_gid}"
    return f"{mode} {found.st_nlink:>3} {owner:>11} {found.st_size:>14} {time} {_printable(name)}"


def _printable(text: str) -> str:
    """A name that cannot change the terminal: control characters and stray bytes are escaped."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )
