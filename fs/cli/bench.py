"""`firepond bench`: runs the project's benchmarks, which are part of the source tree."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from firepond.fs.errors import Unsupported


def register(app: typer.Typer) -> None:
    """Adds the command."""
    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    app.command(context_settings=settings)(bench)


def bench(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Passed on to the benchmarks; try --help.")
    ] = None,
) -> int:
    """Measure this machine against its own limits; arguments go to the benchmarks."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "__main__.py").exists():
        raise Unsupported(
            "the benchmarks are in the source tree, which is not here", {"looked_in": str(root)}
        )
    command = [sys.executable, "-m", "benchmarks", *(arguments or ())]
    child = subprocess.Popen(command, cwd=root)
    while True:
        # Ctrl-C reaches the benchmarks, too, which take their cluster down before they end.
        with suppress(KeyboardInterrupt):
            return child.wait()
