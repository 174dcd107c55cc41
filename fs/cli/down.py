"""`firepond down`: stops the cluster that `firepond up` started."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from firepond.fs.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption
from firepond.fs.errors import InvalidArgument


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(down)


def down(
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    purge: Annotated[bool, typer.Option("--purge", help="Remove all data and logs too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop the cluster of a directory; its data stays unless `--purge` is given."""
    from firepond.fs.local_cluster import FILE_NAME, LocalCluster

    if not (directory / FILE_NAME).exists():
        raise InvalidArgument("no cluster was started there", {"dir": str(directory)})
    from rich.console import Console

    # Shown on a terminal alone, and on standard error, so that it is in nobody's way.
    with Console(stderr=True).status("stopping the processes"):
        stopped = LocalCluster(directory).stop(purge=purge)
    if as_json:
        print(json.dumps({"stopped": stopped, "purged": purge}))
        return
    print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")
    if purge:
        print(f"removed the data below {directory}")
