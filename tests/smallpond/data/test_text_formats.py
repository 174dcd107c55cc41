"""CSV, JSON and text: with given types, as in 0.15, and with types that are found."""

from __future__ import annotations

import gzip
from collections import OrderedDict
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smallpond.common import DataNotFound
from smallpond.logical.dataset import (
    CsvDataSet,
    DataSet,
    JsonDataSet,
    TextDataSet,
    rejected_rows,
    report_skipped,
)


def test_csv_as_in_0_15(tmp_path: Path) -> None:
    """Goal: a schema, a delimiter and no header. Oracle: rows; merging keeps all settings."""
    (tmp_path / "a.tsv").write_text("u1\t1\nu2\t2\n")
    (tmp_path / "b.tsv").write_text("u3\t3\n")
    schema = OrderedDict([("url", "VARCHAR"), ("n", "BIGINT")])
    dataset = CsvDataSet([str(tmp_path / "*.tsv")], schema, delim="\t", max_line_size=1 << 20)
    rows = [{"url": f"u{n}", "n": n} for n in (1, 2, 3)]
    assert dataset.to_arrow_table().to_pylist() == rows
    parts = dataset.partition_by_files(2)
    assert [part.num_rows for part in parts] == [2, 1]
    assert DataSet.merge(parts).to_arrow_table().to_pylist() == rows
    assert CsvDataSet(
        [str(tmp_path / "*.tsv")], schema, "\t", columns=["n"]
    ).to_arrow_table().column_names == ["n"]


def test_csv_header_survives_merging(tmp_path: Path) -> None:
    """Goal: merged files are read with their header (0.15 forgot it). Oracle: rows."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("n\n1\n")
    parts = [CsvDataSet([str(tmp_path / f"{n}.csv")], {"n": "BIGINT"}, header=True) for n in "ab"]
    assert DataSet.merge(parts).num_rows == 2


def test_csv_types_are_found_once(tmp_path: Path) -> None:
    """Goal: each partition has the types of the whole, even one without files. Method: a column
    that is numbers in one file and text in the other. Oracle: the types.
    """
    (tmp_path / "a.csv").write_text("id,code\n1,007\n2,8\n")
    (tmp_path / "b.csv").write_text("id,code\n3,x\n")
    dataset = CsvDataSet([str(tmp_path / "*.csv")], header=None)
    assert dataset.sniff()["columns"] == {"id": "BIGINT", "code": "VARCHAR"}
    tables = [part.to_arrow_table() for part in dataset.partition_by_files(3)]
    assert tables[0].schema == tables[1].schema == tables[2].schema
    assert tables[0].to_pylist()[0] == {"id": 1, "code": "007"}
    semicolons = tmp_path / "c.txt"
    semicolons.write_text("a;b\n1;2\n")
    found = CsvDataSet(str(semicolons), delim=None, header=None)
    assert found.to_arrow_table().to_pylist() == [{"a": 1, "b": 2}]
    quoted = tmp_path / "d.csv"
    quoted.write_text("a,b\n'x,y',NA\n")
    options = {"quote": "'", "nullstr": "NA"}
    read = CsvDataSet(str(quoted), header=True, options=options)
    assert read.to_arrow_table().to_pylist() == [{"a": "x,y", "b": None}]


def test_bad_csv_rows(tmp_path: Path) -> None:
    """Goal: bad rows fail the query, or are left out and reported if asked. Oracle: the report."""
    path = tmp_path / "a.csv"
    path.write_text("id,name\n1,x\nq,y\n3,z\n")
    schema = {"id": "INTEGER", "name": "VARCHAR"}
    with pytest.raises(duckdb.Error):
        CsvDataSet(str(path), schema, header=True).to_arrow_table()
    conn = duckdb.connect()
    assert rejected_rows(conn) == []
    table = CsvDataSet(str(path), schema, header=True, ignore_errors=True).to_arrow_table(conn=conn)
    assert table.column("id").to_pylist() == [1, 3]
    (report,) = rejected_rows(conn)
    assert (report["file_path"], report["line"], report["column_name"]) == (str(path), 3, "id")
    assert report["csv_line"] == "q,y"


def test_what_was_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Goal: skipped rows reach the log with file and line, once each, and nobody else's do.
    Method: two data sets on one connection, through views, scanned twice. Oracle: places, log.
    """
    for name, bad in (("a", 3), ("b", 30)):
        rows = ["id", *("x" if line % bad == 0 else "1" for line in range(2, 61))]
        (tmp_path / f"{name}.csv").write_text("\n".join(rows) + "\n")
    conn = duckdb.connect()
    made = {
        name: CsvDataSet(
            str(tmp_path / f"{name}.csv"), {"id": "INT"}, header=True, ignore_errors=True
        )
        for name in "ab"
    }
    for name, dataset in made.items():
        conn.execute(f"create view {name} as {dataset.sql_query_fragment(None, conn)}")
        for _ in range(2):
            conn.execute(f"create or replace table t as select * from {name}")
    lines = [part.line for part in made["a"].skipped(conn)]
    assert lines == list(range(3, 61, 3))
    assert [(p.path, p.line) for p in made["b"].skipped(conn)] == [
        (str(tmp_path / "b.csv"), 30),
        (str(tmp_path / "b.csv"), 60),
    ]
    with caplog.at_level("WARNING"):
        assert report_skipped(list(made.values()), conn) == 22
    assert f"{tmp_path}/a.csv:3: " in caplog.text
    assert "skipped 2 more" in caplog.text
    assert CsvDataSet(str(tmp_path / "a.csv"), {"id": "VARCHAR"}).skipped(conn) == []


def test_json(tmp_path: Path) -> None:
    """Goal: given and found types, lines and arrays, bad lines. Oracle: rows."""
    lines = tmp_path / "a.json"
    lines.write_text('{"a": 1, "b": "x"}\n{"a": 2, "c": [1, 2]}\n')
    given_types = JsonDataSet([str(lines)], {"a": "DOUBLE", "b": "VARCHAR"})
    assert given_types.to_arrow_table().to_pylist() == [{"a": 1.0, "b": "x"}, {"a": 2.0, "b": None}]
    found = JsonDataSet(str(lines))
    assert found.infer_schema() == {"a": "BIGINT", "b": "VARCHAR", "c": "BIGINT[]"}
    assert found.to_arrow_table().num_rows == 2
    array = tmp_path / "b.json"
    array.write_text('[{"a": 1}, {"a": 2}, {"a": 3}]')
    assert JsonDataSet(str(array), format="array").num_rows == 3
    (tmp_path / "c.json").write_text('{"a": 1}\nnonsense\n{"a": 3}\n')
    with pytest.raises(duckdb.Error):
        JsonDataSet(str(tmp_path / "c.json"), {"a": "BIGINT"}).to_arrow_table()
    skipping = JsonDataSet(str(tmp_path / "c.json"), {"a": "BIGINT"}, ignore_errors=True)
    values = skipping.to_arrow_table().column("a").to_pylist()
    assert [value for value in values if value is not None] == [1, 3]


@pytest.mark.parametrize("memory_mb", [256, 1024])
def test_reading_fits_into_small_tasks(tmp_path: Path, memory_mb: int) -> None:
    """Goal: the published default of 1 GB an object does not need gigabytes of memory (0.15 failed
    with less than 2 GB a thread). Method: JSON, CSV and text under a limit. Oracle: counts.
    """
    (tmp_path / "a.json").write_text('{"a": 1}\n' * 1000)
    (tmp_path / "a.csv").write_text("1\n" * 1000)
    conn = duckdb.connect()
    conn.execute(f"set memory_limit='{memory_mb}MB'; set threads=2")
    csv = CsvDataSet(str(tmp_path / "a.csv"), {"a": "INT"}, max_line_size=4 << 20)
    text = TextDataSet(str(tmp_path / "a.csv"))
    for dataset in (JsonDataSet(str(tmp_path / "a.json"), {"a": "INT"}), csv, text):
        assert dataset.to_arrow_table(conn=conn).num_rows == 1000


def test_large_json_objects(tmp_path: Path) -> None:
    """Goal: an object of 20 MB is read without asking for it. Oracle: its length."""
    (tmp_path / "a.json").write_text('{"a": "' + "x" * (20 << 20) + '"}\n')
    table = JsonDataSet(str(tmp_path / "a.json"), {"a": "VARCHAR"}).to_arrow_table()
    assert len(table.column("a")[0].as_py()) == 20 << 20


def test_json_types_are_found_once(tmp_path: Path) -> None:
    """Goal: each partition has the types of the whole. Oracle: schemas; merging keeps them."""
    (tmp_path / "a.json").write_text('{"a": 1}\n')
    (tmp_path / "b.json").write_text('{"a": "x", "b": 1.5}\n')
    parts = JsonDataSet(str(tmp_path / "*.json"), union_by_name=True).partition_by_files(2)
    first, second = (part.to_arrow_table() for part in parts)
    assert first.schema == second.schema
    assert DataSet.merge(parts).num_rows == 2


LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=20),
    min_size=1,
    max_size=30,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=LINES)
def test_text_lines_are_unchanged(tmp_path: Path, lines: list[str]) -> None:
    """Goal: quotes, commas, tabs, blanks, 'NULL' and empty lines arrive as they are.
    Method: any text. Oracle: the lines.
    """
    path = tmp_path / "x.txt"
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    assert TextDataSet(str(path)).to_arrow_table().column("text").to_pylist() == lines


def test_text_files(tmp_path: Path) -> None:
    """Goal: compressed files, a name for the column, a last line without an end, a missing file.
    Oracle: rows; the error.
    """
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\r\ntwo"))
    table = TextDataSet(str(tmp_path / "a.txt.gz"), column="line").to_arrow_table()
    assert table.to_pylist() == [{"line": "one"}, {"line": "two"}]
    with pytest.raises(DataNotFound):
        TextDataSet(str(tmp_path / "*.text")).to_arrow_table()
