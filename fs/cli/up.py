"""`firepond up`: starts a cluster on this machine, or what is missing of it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from firepond.fs.cli.options import (
    DEFAULT_DIRECTORY,
    DirectoryOption,
    JsonOption,
    SetOption,
    load_settings,
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(up)


def up(
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    storage: Annotated[int, typer.Option(min=1, help="Storage processes.")] = 3,
    replicas: Annotated[int, typer.Option(min=1, help="Replicas of each file.")] = 3,
    assignments: SetOption = None,
    timeout_s: Annotated[float, typer.Option(min=1, help="How long to wait for it.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Start a cluster on this machine; run it again to start what is missing.

    A manager, a metadata server and storage processes run in the background, with all data below
    one directory. A cluster that exists there keeps its settings.
    """
    from firepond.fs.local_cluster import LocalCluster

    # Refuses bad settings before anything starts; the processes read the same sources.
    load_settings(None, assignments)
    cluster = LocalCluster(directory, storage, replicas, settings=assignments or ())
    started = cluster.start()
    _wait(cluster, timeout_s, quiet=as_json)
    if as_json:
        result = {"address": cluster.address, "started": started, "directory": str(directory)}
        print(json.dumps(result))
        return
    print(f"{'started ' + ', '.join(started) if started else 'was up already'}")
    print(f"address  {cluster.address}")
    print(f"logs     {cluster.directory / 'logs'}")
    print("next     `firepond status`, `firepond mount ADDRESS DIRECTORY`, `firepond down`")


def _wait(cluster: Any, timeout_s: float, quiet: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as bar:
        task = bar.add_task("starting processes", total=None)

        def on_progress(status: dict[str, Any]) -> None:
            states = status["target_states"]
            serving = states.get("serving", 0)
            bar.update(
                task,
                total=sum(states.values()) or None,
                completed=serving,
                description=status["waiting_for"] or f"{serving} targets serve",
            )

        cluster.wait_ready(timeout_s, on_progress)
