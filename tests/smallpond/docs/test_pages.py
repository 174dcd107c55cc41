"""Every page of docs/smallpond runs, and what it makes is right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.smallpond.docs.corpus import Corpus, corpus_made

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "smallpond"
RUN_PAGES = sorted(page for page in FOLDER.rglob("*.md") if "```python" in page.read_text())
# Pages whose results have a test of their own.
CHECKED = ("tutorial", "cookbook")
OTHER_PAGES = [page for page in RUN_PAGES if page.stem not in CHECKED]


def script_of(page: Path) -> str:
    """The page's Python, each line at the number it has on the page."""
    lines, inside = [], False
    for line in page.read_text().splitlines():
        fence = line.startswith("```")
        lines.append(line if inside and not fence else "")
        if fence:
            inside = not inside and line == "```python"
    return "\n".join(lines) + "\n"


def page_run(page: Path, folder: Path) -> str:
    """What the page prints when it is run as a script in a folder."""
    script = folder / f"{page.stem}.py"
    script.write_text(script_of(page))
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "SP_DATA_ROOT": str(folder / "data"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, f"{page}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """The data of the pages, in the test's folder."""
    return corpus_made(tmp_path)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All rows of a written folder."""
    rows: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return rows


@pytest.mark.parametrize("page", OTHER_PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, tmp_path: Path, corpus: Corpus) -> None:
    """Goal: what a reader copies works. Method: run the page. Oracle: it ends well."""
    page_run(page, tmp_path)


def test_tutorial_counts_words(tmp_path: Path, corpus: Corpus) -> None:
    """Goal: the tutorial's result is right. Oracle: a count in plain Python."""
    output = page_run(FOLDER / "tutorial.md", tmp_path)
    words: Counter[str] = Counter()
    for path in (tmp_path / "pages").glob("*.md"):
        words.update(re.findall("[a-z]+", path.read_text().lower()))
    found = {row["word"]: row["count"] for row in rows_of(tmp_path / "top_words")}
    assert found == dict(words)
    long = sum(len(word) > 12 for word in words)
    assert f"{long} different long words" in output
    assert "tutorial.py" in output, "the report of the failure names the user's script"
    assert "invalid literal for int()" in output
    assert "-m smallpond.execution.task" in output


def shingles(text: str) -> set[str]:
    """Runs of three words."""
    words = text.lower().split()
    return {" ".join(words[start : start + 3]) for start in range(max(1, len(words) - 2))}


def similarity(one: str, other: str) -> float:
    """Jaccard's measure."""
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def test_cookbook_results(tmp_path: Path, corpus: Corpus) -> None:
    """Goal: each recipe does what it says. Oracle: the planted duplicates, and plain Python over
    the files that the recipes wrote.
    """
    output = page_run(FOLDER / "cookbook.md", tmp_path)
    normal = {id: " ".join(text.lower().split()) for id, text in corpus.texts.items()}
    first: dict[str, int] = {}
    for id, text in normal.items():
        first.setdefault(text, id)
    unique = {row["id"] for row in rows_of(tmp_path / "unique")}
    assert unique == set(first.values())
    assert not unique & set(corpus.exact)

    kept = {row["id"] for row in rows_of(tmp_path / "deduplicated")}
    dropped = unique - kept
    assert set(corpus.near) <= dropped
    for id in dropped:
        text = corpus.texts[id]
        others = (corpus.texts[one] for one in unique if one < id)
        assert max(similarity(text, other) for other in others) >= 0.8
    assert f"{len(dropped)} near duplicates" in output

    good = rows_of(tmp_path / "good")
    assert {row["id"]: row["quality"] for row in good} == {
        id: value for id, value in corpus.quality.items() if id in kept and value >= 0.5
    }
    assert f"{len(kept - set(corpus.quality))} documents have no label" in output
    tokens_checked(tmp_path, [str(row["text"]) for row in good])


def tokens_checked(folder: Path, texts: list[str]) -> None:
    """Tokens spell the texts, and the training files hold every document once, whole, shuffled."""
    words = {row["token"]: row["word"] for row in rows_of(folder / "vocabulary")}
    assert sorted(words) == list(range(1, len(words) + 1))
    pattern = re.compile(r"[a-z]+|[0-9]|[^a-z0-9\s]")
    spelled = {tuple(pattern.findall(text.lower())) for text in texts}
    tokenized = [row["tokens"] for row in rows_of(folder / "tokens")]
    assert {tuple(words[token] for token in tokens) for tokens in tokenized} == spelled
    files = [path for path in (folder / "training").iterdir() if path.suffix == ".parquet"]
    assert len(files) == 4
    sequences = [row["sequence"] for row in rows_of(folder / "training")]
    assert all(len(sequence) == 128 for sequence in sequences)
    counted = Counter(token for sequence in sequences for token in sequence if token != -1)
    assert counted == Counter(token for tokens in tokenized for token in tokens)


def test_every_line_of_a_page_keeps_its_number() -> None:
    """Goal: a traceback points into the page. Oracle: lines of script and page side by side."""
    for page in RUN_PAGES:
        lines = page.read_text().splitlines()
        for number, line in enumerate(script_of(page).splitlines()):
            assert not line or line == lines[number]
