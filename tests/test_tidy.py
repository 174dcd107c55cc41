"""Style as a test: what a reader may rely on in every file.

Goal: the rules of docs/hacking.md hold. Method: read every tracked or new file as text.
Oracle: each rule's own message says what to do instead.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
LINE_COLUMNS_MAX = 100
README_LINES_MAX = 60
COMPONENTS = ("fs", "meta", "storage", "client")
GENERATED = {"fs/errors.py", "fs/native/core/src/error_kind.rs"}
# Longer files, each with its reason; none above 800 lines.
LONG_FILES: dict[str, str] = {}


def listed_files() -> list[Path]:
    """Files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = (ROOT / line for line in output.splitlines())
    return [path for path in names if path.is_file() and not path.is_symlink()]


def sources(*suffixes: str) -> list[Path]:
    return [path for path in listed_files() if path.suffix in suffixes]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def python_functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def rust_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Functions by indentation, which rustfmt guarantees."""
    opened: list[tuple[str, str, int]] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(
            r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:async |const |unsafe |extern \S+ )*fn (\w+)", line
        )
        if match and not line.rstrip().endswith(("}", ";")):
            opened.append((match[1], match[2], number))
        # A declaration has no body: its arguments end with a semicolon.
        while opened and re.match(rf"{opened[-1][0]}(\}}$|\).*;$|    \);$)", line):
            _, name, start = opened.pop()
            yield name, number - start + 1


def test_functions_fit_on_a_screen() -> None:
    """Goal: no function above 70 lines. Oracle: their ends."""
    found = []
    for path in sources(".py"):
        found += [(path, *one) for one in python_functions(path) if one[1] > FUNCTION_LINES_MAX]
    for path in sources(".rs"):
        if name_of(path) not in GENERATED:
            found += [(path, *one) for one in rust_functions(path) if one[1] > FUNCTION_LINES_MAX]
    report = [f"{name_of(path)}: {name} has {lines} lines" for path, name, lines in found]
    assert not report, "split these functions:\n" + "\n".join(report)


def test_files_are_one_thing() -> None:
    """Goal: no file above 500 lines without a written reason. Oracle: line counts."""
    report = []
    for path in sources(".py", ".rs", ".sh"):
        lines = len(path.read_text().splitlines())
        limit = 800 if name_of(path) in LONG_FILES else FILE_LINES_MAX
        if lines > limit and name_of(path) not in GENERATED:
            report.append(f"{name_of(path)}: {lines} lines")
    assert not report, "split these files, or list them with a reason:\n" + "\n".join(report)


def test_lines_are_short() -> None:
    """Goal: no code line above 100 columns. Oracle: the length in characters."""
    report = []
    for path in sources(".py", ".rs", ".sh"):
        if name_of(path) in GENERATED or path.name == "Cargo.lock":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if len(line) > LINE_COLUMNS_MAX:
                report.append(f"{name_of(path)}:{number}: {len(line)} columns")
    assert not report, "break these lines:\n" + "\n".join(report)


def test_no_promises_in_code() -> None:
    """Goal: no leftovers. Oracle: the words that mark them."""
    marks = re.compile(
        "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "unimpl" + "emented!", r"\bto" + "do!"])
    )
    report = [
        f"{name_of(path)}:{number}"
        for path in sources(".py", ".rs", ".sh", ".md")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert not report, "do it or delete it:\n" + "\n".join(report)


def test_every_module_says_what_it_is() -> None:
    """Goal: each module opens with its head. Oracle: a docstring or `//!`."""
    report = []
    for path in sources(".py"):
        if not ast.get_docstring(ast.parse(path.read_text())):
            report.append(name_of(path))
    for path in sources(".rs"):
        if not path.read_text().startswith("//!"):
            report.append(name_of(path))
    assert not report, "write the head of these modules:\n" + "\n".join(report)


def test_python_tests_state_their_goal() -> None:
    """Goal: every test has a docstring. Oracle: its syntax tree."""
    report = []
    for path in sources(".py"):
        if "tests" not in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if named and node.name.startswith("test_") and not ast.get_docstring(node):
                report.append(f"{name_of(path)}: {node.name}")
    assert not report, "say goal, method and oracle of these tests:\n" + "\n".join(report)


def test_folders_have_a_short_readme() -> None:
    """Goal: every top-level folder explains itself in at most 60 lines. Oracle: its README."""
    folders = {path.relative_to(ROOT).parts[0] for path in listed_files() if path.parent != ROOT}
    report = []
    for folder in sorted(folder for folder in folders if not folder.startswith(".")):
        readme = ROOT / folder / "README.md"
        if not readme.exists():
            report.append(f"{folder}: no README.md")
        elif folder != "docs" and len(readme.read_text().splitlines()) > README_LINES_MAX:
            report.append(f"{folder}/README.md: more than {README_LINES_MAX} lines")
    assert not report, "\n".join(report)


def test_markdown_has_one_title() -> None:
    """Goal: one title a page. Oracle: lines that start with '# ' outside code."""
    report = []
    for path in sources(".md"):
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        titles = [line for line in text.splitlines() if line.startswith("# ")]
        if len(titles) != 1:
            report.append(f"{name_of(path)}: {len(titles)} titles")
    assert not report, "\n".join(report)


def test_links_in_docs_lead_somewhere() -> None:
    """Goal: no dead relative link in markdown. Oracle: the file exists."""
    report = []
    for path in sources(".md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                report.append(f"{name_of(path)}: {target}")
    assert not report, "mend these links:\n" + "\n".join(report)


def test_unsafe_has_a_reason() -> None:
    """Goal: every unsafe block or impl is preceded by a SAFETY comment. Oracle: the lines above."""
    report = []
    for path in sources(".rs"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"\bunsafe (\{|impl)", line) and not line.strip().startswith("//"):
                above = "\n".join(lines[max(0, number - 8) : number + 1])
                if "SAFETY:" not in above:
                    report.append(f"{name_of(path)}:{number + 1}")
    assert not report, "say why it is sound:\n" + "\n".join(report)


def test_components_are_not_imported_by_bare_name() -> None:
    """Goal: one copy of every class. Method: import everything. Oracle: sys.modules."""
    script = (
        "import importlib, pkgutil, sys, firepond\n"
        "for info in pkgutil.walk_packages(firepond.__path__, 'firepond.'):\n"
        "    importlib.import_module(info.name)\n"
        f"found = [name for name in {COMPONENTS!r} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_public_names_are_documented() -> None:
    """Goal: whatever `firepond.__all__` offers has a docstring. Oracle: `__doc__`."""
    import firepond

    missing = []
    for name in firepond.__all__:
        value = getattr(firepond, name)
        if callable(value) and not value.__doc__:
            missing.append(name)
    assert firepond.__all__ and not missing, missing


@pytest.mark.parametrize("name", sorted(LONG_FILES) or ["-"])
def test_long_files_still_are(name: str) -> None:
    """Goal: the list of exceptions has no dead entry. Oracle: the file is above the limit."""
    if name == "-":
        assert not LONG_FILES
        return
    assert len((ROOT / name).read_text().splitlines()) > FILE_LINES_MAX, f"unlist {name}"
