"""What `pip install firepond-smallpond` brings.

Goal: the wheel holds the whole package and nothing else, and needs at most eight others.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "smallpond"
DIRECT_DEPENDENCIES_MAX = 8


def python_files() -> set[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "smallpond"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {line for line in output.splitlines() if line.endswith(".py")}


def test_every_package_is_listed() -> None:
    """Goal: no sub-package is forgotten. Oracle: the folders that hold an `__init__.py`."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    found = sorted(
        str(Path(name).parent).replace("/", ".")
        for name in python_files()
        if Path(name).name == "__init__.py"
    )
    assert listed == found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy: setuptools leaves files beside what it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "smallpond"
    for name in [*python_files(), "smallpond/pyproject.toml", "smallpond/README.md"]:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(folder), str(copy)], check=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_is_whole(wheel: zipfile.ZipFile) -> None:
    """Goal: what is in the tree is in the wheel. Method: build it. Oracle: the list of files."""
    packed = {name for name in wheel.namelist() if name.endswith(".py")}
    assert packed == python_files()


def test_few_direct_dependencies(wheel: zipfile.ZipFile) -> None:
    """Goal: the base install is small. Oracle: the wheel's own metadata."""
    name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    required = metadata.get_all("Requires-Dist") or []
    direct = [line for line in required if "extra ==" not in line]
    assert 0 < len(direct) <= DIRECT_DEPENDENCIES_MAX, direct
