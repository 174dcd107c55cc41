"""What reading left out because it is damaged, where the user asked for that.

Leaving out is never silent: whoever reads a data set asks for this afterwards and passes it on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

    from smallpond.logical.dataset.base import DataSet

logger = logging.getLogger("smallpond.logical.dataset")

LOGGED_MAX = 20


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row (by its line) or, without a line, a file or the rest of one."""

    path: str
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.reason}"


def report_skipped(datasets: Sequence[DataSet], conn: duckdb.DuckDBPyConnection | None) -> int:
    """Warn of what was left out of the data sets that `conn` has read; returns how much it was.

    Without `conn`, what their own connections know is told, and those are closed.
    """
    parts = [part for dataset in datasets for part in dataset.skipped(conn)]
    for dataset in datasets if conn is None else ():
        dataset.close_reader()
    for part in parts[:LOGGED_MAX]:
        logger.warning("skipped %s", part)
    if len(parts) > LOGGED_MAX:
        logger.warning("skipped %d more damaged rows or files", len(parts) - LOGGED_MAX)
    return len(parts)
