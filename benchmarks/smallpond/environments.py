"""The peers, each in a virtual environment of its own with pinned versions.

An environment is made once, under build/peers, and again when its pins change. smallpond 0.15
gets the last DuckDB that it runs with. Our own engine runs in the repository's environment.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / "build" / "peers"
PROGRAMS = Path(__file__).parent / "peers"
READY = "ready"


@dataclass(frozen=True)
class Peer:
    """What is measured: a program, and what must be installed for it."""

    name: str
    program: str
    requirements: tuple[str, ...]
    # A peer that needs minutes for 10,000 tasks does a part of them, from which the rest follows.
    task_count: int | None = None

    @property
    def is_ours(self) -> bool:
        return not self.requirements


PEERS = {
    peer.name: peer
    for peer in (
        Peer("smallpond", "with_smallpond.py", (), 10_000),
        Peer(
            "smallpond-0.15",
            "with_smallpond_0_15.py",
            (
                "smallpond==0.15.0",
                "duckdb==1.4.5",
                "ray==2.60.0",
                "pyarrow==16.1.0",
                "polars==0.20.31",
                "pandas==3.1.1",
                "numpy==2.4.6",
            ),
            200,
        ),
        Peer("duckdb", "with_duckdb.py", ("duckdb==2.0.0",)),
        Peer("polars", "with_polars.py", ("polars==2.1.0",)),
        Peer("daft", "with_daft.py", ("daft==0.7.26", "pyarrow==25.0.1")),
    )
}


def python_of(peer: Peer) -> Path:
    """The interpreter that runs the peer's program; makes its environment where there is none."""
    if peer.is_ours:
        return Path(sys.executable)
    directory = ENVIRONMENTS / peer.name
    wanted = "\n".join(peer.requirements)
    ready = directory / READY
    if not ready.exists() or ready.read_text() != wanted:
        shutil.rmtree(directory, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        print(f"installing {', '.join(peer.requirements)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        python = str(directory / "bin" / "python")
        command = [python, "-m", "pip", "install", "--quiet", *peer.requirements]
        subprocess.run(command, check=True)
        ready.write_text(wanted)
    return directory / "bin" / "python"
