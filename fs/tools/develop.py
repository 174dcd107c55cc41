"""Puts the working tree on the path of the environment that runs this, with its commands.

Why not `pip install -e .`: that builds the native module once more with flags of its own; here make
builds it, and an edited Python file is live at once.
"""

from __future__ import annotations

import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMAND = """#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""


def main() -> None:
    purelib = Path(sysconfig.get_path("purelib"))
    (purelib / "firepond.pth").write_text(f"{ROOT / 'src'}\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, target in project["scripts"].items():
        module, function = target.split(":")
        path = Path(sysconfig.get_path("scripts")) / name
        path.write_text(COMMAND.format(python=sys.executable, module=module, function=function))
        path.chmod(0o755)
    write_metadata(purelib, project)


def write_metadata(purelib: Path, project: dict[str, Any]) -> None:
    """What other packages find of an installed one: its version and its entry points (fsspec)."""
    folder = purelib / f"{project['name']}-{project['version']}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project.get("entry-points", {})
    lines = [
        line
        for group, names in groups.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in names.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
