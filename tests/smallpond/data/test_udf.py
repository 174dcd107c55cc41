"""Functions for SQL: every type binds, and calls give what Python gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cloudpickle
import duckdb
import pytest

from smallpond.logical.udf import (
    ExternalModuleContext,
    PythonUDFContext,
    UDFAnyParameters,
    UDFListType,
    UDFMapType,
    UDFStructType,
    UDFType,
    udf,
)


def result(conn: duckdb.DuckDBPyConnection, query: str) -> Any:
    return conn.execute(query).fetchall()[0][0]


@pytest.mark.parametrize("kind", list(UDFType), ids=lambda kind: kind.name)
def test_every_type_is_a_duckdb_type(kind: UDFType) -> None:
    """Goal: no type went away with a release of DuckDB. Method: the type's own name in SQL.
    Oracle: DuckDB knows it (NULL is no type that a cast accepts).
    """
    name = str(kind.to_duckdb_type())
    if kind is not UDFType.SQLNULL:
        conn = duckdb.connect()
        assert result(conn, f"select typeof(null::{name})") is not None


def test_identity_of_values() -> None:
    """Goal: values go in and come out unchanged. Method: a function that returns its argument, for
    types with a literal. Oracle: equality in SQL.
    """
    literals = {
        UDFType.BOOLEAN: "true",
        UDFType.TINYINT: "(-128)::TINYINT",
        UDFType.UBIGINT: "18446744073709551615::UBIGINT",
        UDFType.DOUBLE: "0.1::DOUBLE",
        UDFType.DATE: "date '2024-02-29'",
        UDFType.TIMESTAMP: "timestamp '2024-02-29 12:34:56.789'",
        UDFType.VARCHAR: "'naïve ✓'",
        UDFType.BLOB: "'\\x00\\xff'::BLOB",
    }
    conn = duckdb.connect()
    for kind, literal in literals.items():
        name = f"same_{kind.name}"
        PythonUDFContext(name, lambda value: value, [kind], kind).bind(conn)
        assert result(conn, f"select {name}({literal}) = {literal}") is True, kind


def test_nested_types() -> None:
    """Goal: lists, maps and structs as parameters and results. Oracle: by hand."""
    conn = duckdb.connect()
    numbers = UDFListType(UDFType.INTEGER)
    PythonUDFContext("doubled", lambda xs: [2 * x for x in xs], [numbers], numbers).bind(conn)
    assert result(conn, "select doubled([1, 2])") == [2, 4]
    point = UDFStructType({"x": "INTEGER", "name": "VARCHAR"})
    PythonUDFContext("point", lambda x: {"x": x, "name": "p"}, [UDFType.INTEGER], point).bind(conn)
    assert result(conn, "select point(3).x") == 3
    counts = UDFMapType(UDFType.VARCHAR, UDFType.INTEGER)
    PythonUDFContext(
        "count_letters", lambda s: {c: s.count(c) for c in s}, [UDFType.VARCHAR], counts
    ).bind(conn)
    assert result(conn, "select count_letters('aab')['a']") in (2, [2])


def test_any_parameters_and_arrow() -> None:
    """Goal: functions of any arguments, and of whole Arrow arrays. Oracle: by hand."""
    import pyarrow.compute as pc

    conn = duckdb.connect()
    PythonUDFContext(
        "joined", lambda *a: "-".join(map(str, a)), UDFAnyParameters(), UDFType.VARCHAR
    ).bind(conn)
    assert result(conn, "select joined(1, 'a', 2.5)") == "1-a-2.5"
    PythonUDFContext(
        "plus_one", lambda xs: pc.add(xs, 1), [UDFType.BIGINT], UDFType.BIGINT, True
    ).bind(conn)
    assert result(conn, "select sum(plus_one(range)) from range(5000)") == sum(range(1, 5001))


def test_decorator() -> None:
    """Goal: the decorated function still is one, and travels. Oracle: calls before and after."""

    @udf(params=[UDFType.INTEGER, UDFType.INTEGER], return_type=UDFType.INTEGER)
    def gcd(a: int, b: int) -> int:
        while b:
            a, b = b, a % b
        return a

    assert (gcd.name, gcd(12, 18), gcd.use_arrow_type) == ("gcd", 6, False)
    again = cloudpickle.loads(cloudpickle.dumps(gcd))
    assert again(12, 18) == 6
    conn = duckdb.connect()
    PythonUDFContext(again.name, again.func, again.params, again.return_type).bind(conn)
    assert result(conn, "select gcd(12, 18)") == 6


def test_external_module(tmp_path: Path) -> None:
    """Goal: a file with functions can be loaded. Oracle: a call; a wrong file is an error."""
    module = tmp_path / "functions.py"
    module.write_text(
        "def create_duckdb_udfs(conn):\n"
        "    conn.create_function('thrice', lambda x: 3 * x, ['BIGINT'], 'BIGINT')\n"
    )
    conn = duckdb.connect()
    ExternalModuleContext("functions", str(module)).bind(conn)
    assert result(conn, "select thrice(5)") == 15
    with pytest.raises(ImportError):
        ExternalModuleContext("text", str(tmp_path / "text.txt")).bind(conn)
