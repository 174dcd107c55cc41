"""Web archives into Parquet, and pages into words."""

from __future__ import annotations

import logging
import string
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from smallpond.common import MB, MissingDependency
from smallpond.execution.task.python_script import PythonScriptTask
from smallpond.logical.dataset import DataSet, ParquetDataSet
from smallpond.logical.dataset.warc import WarcDataSet
from smallpond.logical.node import ArrowStreamNode, PythonScriptNode

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger("smallpond.contrib")


@cache
def _separators() -> dict[int, str]:
    """What ends a word: white space, ASCII symbols, and the punctuation of every script."""
    punctuation = {
        code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "P"
    }
    return dict.fromkeys(punctuation | set(map(ord, string.whitespace + string.punctuation)), " ")


class ImportWarcTask(PythonScriptTask):
    """Its output is a table, so that what comes next can read it as one."""

    def run(self) -> bool:
        """Import, then describe the files as what they are."""
        done = super().run()
        self.dataset = ParquetDataSet(["*"], root_dir=self.final_output_abspath)
        return done


class ImportWarcFiles(PythonScriptNode):
    """Turns the responses in WARC files into Parquet files: url, domain, date, content."""

    def spawn(self, *args: Any, **kwargs: Any) -> ImportWarcTask:
        """A task whose output is Parquet."""
        return ImportWarcTask(*args, **kwargs)

    def import_warc_file(self, warc_path: PurePath, parquet_path: PurePath) -> tuple[int, int]:
        """One file; returns how many pages and how many bytes of content it held."""
        from smallpond.io.arrow import dump_to_parquet_files

        table = WarcDataSet([str(warc_path)], None).to_arrow_table()
        dump_to_parquet_files(table, str(parquet_path.parent), parquet_path.name)
        return table.num_rows, table.column("content").nbytes

    def process(self, runtime_ctx: Any, input_datasets: list[DataSet], output_path: str) -> bool:
        """Each input file becomes a Parquet file of its own."""
        paths = [PurePath(path) for dataset in input_datasets for path in dataset.resolved_paths]
        for index, path in enumerate(paths):
            target = PurePath(output_path) / f"data{index}-{path.stem}.parquet"
            pages, size = self.import_warc_file(path, target)
            logger.info("%d pages (%.3f MB) of '%s' are in '%s'", pages, size / MB, path, target)
        return True


class ExtractHtmlBody(ArrowStreamNode):
    """Replaces the content of pages by the list of their words, in lower case."""

    def extract_tokens(self, url: str, content: bytes) -> list[str]:
        """The words of one page; a page that cannot be parsed has none, and the log says so."""
        try:
            from bs4 import BeautifulSoup
        except ImportError as error:
            raise MissingDependency(
                "ExtractHtmlBody needs beautifulsoup4 and lxml: pip install beautifulsoup4 lxml"
            ) from error
        try:
            text = BeautifulSoup(content, "lxml").get_text(" ", strip=True)
        except Exception as error:
            logger.warning("no words of %s: %s", url, error)
            return []
        return self.split_string(text.lower())

    def split_string(self, s: str) -> list[str]:
        """The words of a text."""
        return s.translate(_separators()).split()

    def process(
        self, runtime_ctx: Any, input_readers: list[pa.RecordBatchReader]
    ) -> Iterable[pa.Table]:
        """Batches of url, domain, date and tokens."""
        return self._tables(input_readers[0])

    def _tables(self, reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
        import pyarrow as pa

        for batch in reader:
            urls, contents = batch.column("url"), batch.column("content")
            tokens = [
                self.extract_tokens(url.as_py(), content.as_py())
                for url, content in zip(urls, contents, strict=True)
            ]
            yield pa.table(
                {
                    "url": urls,
                    "domain": batch.column("domain"),
                    "date": batch.column("date"),
                    "tokens": pa.array(tokens, pa.list_(pa.string())),
                }
            )
