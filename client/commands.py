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
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firepond.client.attributes import FileStat
from firepond.client.copying import Local, Remote, Side, Step, carry_out, plan
from firepond.fs.cli.options import AddressOption, JsonOption, resolve_address
from firepond.fs.errors import InvalidArgument

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
        _copy(from_side, to_side, plan(from_side, start, to_side, end, recursive), verify)


def _side(cluster: Cluster, path: str) -> tuple[Side, str]:
    if path.startswith(PREFIX):
        return Remote(cluster), _cluster_path(path)
    return Local(), path


def _copy(from_side: Side, to_side: Side, steps: list[Step], verify: bool) -> None:
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
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("copy", total=sum(step.size for step in steps))
        for step in steps:
            progress.update(task, description=_printable(PurePosixPath(step.source).name))
            carry_out(from_side, to_side, step, verify, progress, task)


def _connect(address: str | None) -> Cluster:
    from firepond.client.cluster import Cluster

    place = resolve_address(address)
    if not sys.stderr.isatty():
        return Cluster(place)
    from rich.console import Console

    # A manager that does not answer is asked for some seconds.
    with Console(stderr=True).status(f"connecting to {place}"):
        return Cluster(place)


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
