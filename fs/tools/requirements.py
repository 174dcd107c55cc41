"""Prints the requirements of pyproject.toml, extras included, one a line."""

from __future__ import annotations

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
table = project["project"]
extras = table["optional-dependencies"]
print("\n".join([*table["dependencies"], *extras["demo"], *extras["dev"]]))
