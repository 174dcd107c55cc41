"""The result of a query as a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smallpond.logical.dataset.base import DataSet

if TYPE_CHECKING:
    import duckdb


class SqlQueryDataSet(DataSet):
    """A query, or a function that makes one for a connection; runs each time it is read."""

    def __init__(
        self, sql_query: str, query_builder: Callable[[Any, Any], str] | None = None
    ) -> None:
        super().__init__([])
        self.sql_query = sql_query
        self.query_builder = query_builder

    def __str__(self) -> str:
        return f"{type(self).__name__}: {self.sql_query}"

    __repr__ = __str__

    @property
    def empty(self) -> bool:
        """False: only running the query would tell."""
        return False

    def sql_query_fragment(
        self, filesystem: Any = None, conn: duckdb.DuckDBPyConnection | None = None
    ) -> str:
        """The query as a sub-query."""
        if self.query_builder is None:
            return f"( {self.sql_query} )"
        return f"( {self.query_builder(conn, filesystem)} )"
