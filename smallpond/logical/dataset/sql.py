"""SQL text and DuckDB connections for data sets.

DuckDB renamed its Arrow methods in 2.0; the differences are handled here and nowhere else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from smallpond.common import MB, InvalidArgument
from smallpond.io.url import filesystem_for, is_url, protocol_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import duckdb
    import pyarrow as pa

# What was registered with each connection that still lives.
_registered: WeakKeyDictionary[Any, dict[str, tuple[str, Any]]] = WeakKeyDictionary()
READ_BUFFER_BYTES_MIN = 32 * MB
_IDENTIFIER = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def quoted_string(text: str) -> str:
    """A string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def quoted_name(name: str) -> str:
    """An identifier, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def is_plain_name(name: str) -> bool:
    """Whether the text can only be a column's name and no expression."""
    return _IDENTIFIER.match(name) is not None


def string_list(texts: Iterable[str]) -> str:
    """A list of string literals."""
    return "[" + ", ".join(quoted_string(text) for text in texts) + "]"


def struct_of_strings(pairs: Mapping[str, str]) -> str:
    """A struct literal that maps names to strings, as `columns=` takes it."""
    inner = ", ".join(
        f"{quoted_string(name)}: {quoted_string(kind)}" for name, kind in pairs.items()
    )
    return "{" + inner + "}"


def query_of_nothing(types: Mapping[str, str], columns: Iterable[str] | None = None) -> str:
    """A sub-query without rows that has these columns, or the chosen ones of them."""
    names = list(types) if columns is None else [name for name in columns if name in types]
    fields = ", ".join(f"null::{types[name]} as {quoted_name(name)}" for name in names)
    return f"( select {fields} where false )"


def line_buffer_bytes(line_bytes_max: int) -> int:
    """What DuckDB should read at a time: two of the longest lines. It would take sixteen."""
    return max(READ_BUFFER_BYTES_MIN, 2 * line_bytes_max)


def memory_limits(conn: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """The memory limit of the connection in bytes, and its threads."""
    text, threads = rows_of(
        conn, "select current_setting('memory_limit'), current_setting('threads')"
    )[0]
    number, unit = str(text).split()
    units = {"bytes": 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4, "PiB": 5, "EiB": 6}
    return int(float(number) * 1024 ** units[unit]), int(threads)


def open_connection() -> duckdb.DuckDBPyConnection:
    """A private in-memory database whose strings leave it with 64-bit offsets."""
    import duckdb

    return duckdb.connect(":memory:", config={"arrow_large_buffer_size": "true"})


def rows_of(conn: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    """The result as tuples."""
    return conn.execute(query).fetchall()


def dicts_of(conn: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """The result as dictionaries by column name."""
    result = conn.execute(query)
    names = [column[0] for column in result.description or []]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def arrow_table(conn: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    """The result as a table."""
    relation: Any = conn.sql(query)
    method = getattr(relation, "to_arrow_table", None) or relation.fetch_arrow_table
    return method()


def arrow_reader(
    conn: duckdb.DuckDBPyConnection, query: str, batch_size: int
) -> pa.RecordBatchReader:
    """The result as a stream of batches."""
    relation: Any = conn.sql(query)
    method = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return method(batch_size)


def register_filesystems(
    conn: duckdb.DuckDBPyConnection | None, paths: Iterable[str], filesystem: Any = None
) -> None:
    """Make the connection able to open the URLs among the paths.

    DuckDB knows one file system a protocol, so all URLs of a connection must be on the same one.
    """
    wanted: dict[str, tuple[str, Any]] = {}
    for path in paths:
        if not is_url(path):
            continue
        protocol = protocol_of(path) or ""
        found = filesystem or filesystem_for(path)
        first, known = wanted.setdefault(protocol, (path, found))
        if known is not found:
            raise _two_filesystems(protocol, first, path)
    if not wanted:
        return
    if conn is None:
        import duckdb

        conn = duckdb.default_connection()
    registered = _registered.setdefault(conn, {})
    for protocol, (path, found) in wanted.items():
        if protocol not in registered and not conn.filesystem_is_registered(protocol):
            conn.register_filesystem(found)
            registered[protocol] = (path, found)
        elif protocol in registered and registered[protocol][1] is not found:
            raise _two_filesystems(protocol, registered[protocol][0], path)


def _two_filesystems(protocol: str, first: str, second: str) -> InvalidArgument:
    return InvalidArgument(
        f"'{first}' and '{second}' are on two {protocol} file systems, and a query can read from "
        "one; copy one of them first, or read it with pyarrow (to_arrow_table without conn)"
    )
