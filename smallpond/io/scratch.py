"""One DuckDB database in memory for questions that need no data: syntax, columns, footers.

Why shared: opening a database takes ten times longer than such a question, and a plan asks many.
Invariants: each user has a cursor of its own, which is closed afterwards, and makes temporary
objects only, so that nobody sees those of others; nothing that reaches remote storage is registered
here. A forked child opens its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

_lock = threading.Lock()
_databases: dict[int, duckdb.DuckDBPyConnection] = {}


@contextmanager
def scratch_cursor() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the shared database, with one thread."""
    import duckdb

    with _lock:
        database = _databases.get(os.getpid())
        if database is None:
            database = duckdb.connect(":memory:", config={"threads": 1})
            _databases[os.getpid()] = database
        cursor = database.cursor()
    try:
        yield cursor
    finally:
        cursor.close()
