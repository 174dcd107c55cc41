"""Small real data for the pages: this repository's own documentation, cut into documents.

Known duplicates are planted, so that a recipe that removes them can be checked.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

import pyarrow as pa
import pyarrow.parquet as pq

PAGES = sorted((Path(__file__).parents[3] / "docs").glob("*.md"))
WORDS_EACH = 60
PLANTED = 25
FILE_COUNT = 4
# Not str.upper: other alphabets have letters that do not come back from it.
UPPER = str.maketrans(ascii_lowercase, ascii_uppercase)


@dataclass(frozen=True)
class Corpus:
    """What was made, by id."""

    texts: dict[int, str]
    exact: dict[int, int]
    """Planted exact duplicates and their originals."""
    near: dict[int, int]
    """Planted near duplicates and their originals."""
    quality: dict[int, float]


def corpus_made(folder: Path) -> Corpus:
    """Writes `pages/`, `documents/` and `labels.parquet` into the folder."""
    pages = folder / "pages"
    pages.mkdir()
    sources: list[str] = []
    texts: list[str] = []
    for page in PAGES:
        shutil.copy(page, pages)
        words = page.read_text().split()
        for start in range(0, len(words) - WORDS_EACH, WORDS_EACH):
            sources.append(page.name)
            texts.append(" ".join(words[start : start + WORDS_EACH]))
    chance = random.Random(7)
    originals = chance.sample(range(len(texts)), 2 * PLANTED)
    exact, near = {}, {}
    for original in originals[:PLANTED]:
        exact[len(texts)] = original
        sources.append(sources[original])
        texts.append(texts[original].replace(" ", "  ", 3).translate(UPPER))
    for original in originals[PLANTED:]:
        near[len(texts)] = original
        sources.append(sources[original])
        texts.append(texts[original].rsplit(" ", 1)[0] + " planted")
    quality = {id: chance.random() for id in range(len(texts)) if id % 10}
    documents = folder / "documents"
    documents.mkdir()
    table = pa.table(
        {"id": pa.array(range(len(texts)), pa.int64()), "source": sources, "text": texts}
    )
    for number in range(FILE_COUNT):
        pq.write_table(
            table.take(list(range(number, len(texts), FILE_COUNT))), documents / f"{number}.parquet"
        )
    pq.write_table(
        pa.table({"id": pa.array(quality, pa.int64()), "quality": list(quality.values())}),
        folder / "labels.parquet",
    )
    return Corpus(dict(enumerate(texts)), exact, near, quality)
