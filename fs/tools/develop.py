"""Puts the working tree on the path of the environment that runs this, with its commands.

Why not `pip install -e .`: that builds the native module once more with flags of its own; here make
builds it, and an edited Python file is live at once.
"""

from __future__ import annotations

import sys
import sysconfig
import tomllib
from pathlib import Path

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


if __name__ == "__main__":
    main()
