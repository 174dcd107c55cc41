"""Prints the requirements of both distributions, with the extras that the tests use, one a line."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Which extras, by the file that defines them.
EXTRAS = {"pyproject.toml": ("demo", "dev"), "smallpond/pyproject.toml": ("dev",)}


def main() -> None:
    for name, extras in EXTRAS.items():
        project = tomllib.loads((ROOT / name).read_text())["project"]
        print(*project["dependencies"], sep="\n")
        for extra in extras:
            print(*project["optional-dependencies"][extra], sep="\n")


if __name__ == "__main__":
    main()
