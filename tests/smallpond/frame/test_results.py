"""What a data frame gives to Python, and what it says of itself."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from smallpond.common import MissingDependency
from smallpond.dataframe import Session
from smallpond.dataframe.run import TaskFailed
from smallpond.logical.udf import UDFType, udf

T = pa.table({"a": list(range(10)), "s": [f"row {i}" for i in range(10)]})


def test_schema_without_running(sp: Session) -> None:
    """Goal: names and types come from binding. Oracle: the schema of the result."""
    df = sp.from_arrow(T).map("a + 1 as b, s, {'x': a} as o").group_by("s").agg(t="sum(b)")
    schema = df.schema()
    assert not df.is_computed()
    assert schema == df.to_arrow().schema.remove_metadata()
    assert df.columns == ["s", "t"] and df.dtypes == {"s": "VARCHAR", "t": "HUGEINT"}


def test_schema_of_python_code(sp: Session) -> None:
    """Goal: types of Python code are found by running it, or taken from the user.
    Oracle: the schemas."""
    found = sp.from_arrow(T).map(lambda row: {"c": row["a"] / 2})
    assert found.dtypes == {"c": "DOUBLE"} and found.is_computed()
    given = sp.from_arrow(T).map(lambda row: {"c": None}, schema=pa.schema([("c", pa.int32())]))
    assert given.dtypes == {"c": "INTEGER"} and not given.is_computed()


def test_take_stops_early(sp: Session) -> None:
    """Goal: the first rows of a billion in no time. Oracle: the rows, within the timeout."""
    df = sp.partial_sql("select * from range(1000000000)")
    assert df.take(2) == [{"range": 0}, {"range": 1}]
    assert df.limit(3).count() == 3
    assert sp.from_arrow(T).take(0) == []


def test_batches_and_rows(sp: Session) -> None:
    """Goal: pieces of the asked size in each format. Oracle: their sizes and values."""
    df = sp.from_arrow(T)
    assert [batch.num_rows for batch in df.iter_batches(4)] == [4, 4, 2]
    assert [len(frame) for frame in df.iter_batches(5, "pandas")] == [5, 5]
    [arrays] = df.iter_batches(batch_format="numpy")
    assert arrays["a"].tolist() == list(range(10))
    assert [row["a"] for row in df.iter_rows()] == list(range(10))
    with pytest.raises(ValueError, match="choose arrow"):
        next(df.iter_batches(batch_format="lists"))


@pytest.mark.parametrize(
    "read",
    [
        lambda df: df.take_all(),
        lambda df: df.take(5),
        lambda df: df.to_arrow(),
        lambda df: df.to_pandas(),
        lambda df: list(df.iter_rows()),
    ],
    ids=["take_all", "take", "to_arrow", "to_pandas", "iter_rows"],
)
@pytest.mark.parametrize("files", [1, 2])
def test_rows_left_out_are_told(
    sp: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture, read: Any, files: int
) -> None:
    """Goal: who reads a source without a task is told, too, which rows are left out; nothing stays
    open. Method: a file, a union. Oracle: the log, once a row; the data set.
    """
    frames = []
    for index in range(files):
        (tmp_path / f"{index}.csv").write_text("1\n2\nx\n")
        path = str(tmp_path / f"{index}.csv")
        frames.append(sp.read_csv(path, {"i": "BIGINT"}, ignore_errors=True))
    df = frames[0] if files == 1 else frames[0].union(frames[1])
    with caplog.at_level("WARNING"):
        assert len(read(df)) == 2 * files
    told = [record.getMessage() for record in caplog.records]
    for index in range(files):
        assert sum(f"{index}.csv:3: " in line for line in told) == 1
    assert all(frame.plan.dataset._reader is None for frame in frames)


def test_other_libraries(sp: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: pandas, polars, torch; one that is missing says what to install. Oracle: the values."""
    df = sp.from_arrow(T).repartition(2, by_rows=True).map("a, s, a % 2 = 0 as even")
    frame = df.to_pandas()
    assert frame["a"].tolist() == list(range(10)) and frame.index.tolist() == list(range(10))
    polars = pytest.importorskip("polars")
    assert df.to_polars()["a"].to_list() == list(range(10))
    assert polars is not None
    torch = types.ModuleType("torch")
    torch.as_tensor = lambda array: ("tensor", array.tolist())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert df.to_torch()["a"] == ("tensor", list(range(10)))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="pip install torch"):
        df.to_torch()


def test_show(sp: Session, capsys: pytest.CaptureFixture[str]) -> None:
    """Goal: a table to look at. Oracle: the text."""
    sp.from_arrow(T).filter("a < 2").map("a, nullif(s, 'row 1') as s").show()
    assert capsys.readouterr().out.splitlines() == [
        "a     │ s",
        "int64 │ large_string",
        "──────┼─────────────",
        "0     │ row 0",
        "1     │ NULL",
        "(2 rows)",
    ]


def test_explain(sp: Session) -> None:
    """Goal: the plan before and after, decisions, costs after a run. Oracle: parts of the text."""
    df = sp.from_arrow(T).filter("a > 3").sort("a").limit(2)
    before = df.explain()
    assert "filter: a > 3" in before and "== Tasks ==" in before
    assert "limit push-down" in before and "order by a asc" in before
    assert not df.is_computed()
    df.compute()
    after = df.explain()
    assert "as they ran" in after and "2 rows" in after
    assert "== Tasks" not in df.explain(optimized=False)


def test_cache(sp: Session) -> None:
    """Goal: a cached frame is computed once. Method: count the calls. Oracle: the count."""
    calls: list[int] = []

    def counted(row: dict[str, Any]) -> dict[str, Any]:
        calls.append(1)
        return row

    df = sp.from_arrow(T).map(counted).cache()
    assert df.filter("a > 3").count() == 6 and df.agg(n="count(*)").take_all() == [{"n": 10}]
    assert len(calls) == 10


class Model:
    """A stateful function: its instances are counted in this process."""

    made = 0

    def __init__(self, factor: int, *, offset: int = 0) -> None:
        Model.made += 1
        self.factor = factor
        self.offset = offset

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"y": row["a"] * self.factor + self.offset}


def test_classes_are_made_once(sp: Session) -> None:
    """Goal: a model is loaded once per worker, not once per task. Oracle: instances and rows."""
    Model.made = 0
    df = sp.from_arrow(T).repartition(5, by_rows=True)
    df = df.map(Model, fn_args=(2,), fn_kwargs={"offset": 1})
    assert [row["y"] for row in df.take_all()] == [2 * i + 1 for i in range(10)]
    assert Model.made == 1


def test_functions_in_sql(sp_both: Session) -> None:
    """Goal: Python functions in SQL, also in whole-table operations. Oracle: the values."""

    @udf(params=[UDFType.BIGINT], return_type=UDFType.BIGINT)
    def squared(a: int) -> int:
        return a * a

    df = sp_both.from_arrow(T)
    assert df.map("squared(a) as q", udfs=[squared]).filter("q > 60").count() == 2
    total = df.group_by("a % 2 as odd").agg("sum(squared(a)) as t", udfs=[squared])
    assert sorted(row["t"] for row in total.take_all()) == [120, 165]


def test_pandas_batches(sp: Session) -> None:
    """Goal: batches as pandas frames. Oracle: the rows."""
    df = sp.from_arrow(T).map_batches(lambda frame: frame[frame.a > 7], batch_format="pandas")
    assert [row["a"] for row in df.take_all()] == [8, 9]


def test_many_rows_use_many_tasks(sp: Session) -> None:
    """Goal: a row function over many rows is spread over the cores, in order. Oracle: rows."""
    table = pa.table({"a": list(range(30_000))})
    df = sp.from_arrow(table).map(lambda row: {"b": row["a"]})
    assert df.to_arrow().column("b").to_pylist() == list(range(30_000))
    cores = sp.runtime_ctx.usable_cpu_count
    assert len(df._compute()) == (cores if cores > 1 else 1)


def test_draws_are_independent(sp: Session) -> None:
    """Goal: a second sample is another one, though it is written the same. Oracle: they differ,
    and each stays what it is."""
    t = sp.from_arrow(pa.table({"a": list(range(2000))}))
    one, two = t.sample(0.5), t.sample(0.5)
    first, second = one.to_arrow(), two.to_arrow()
    assert first != second and one.to_arrow() == first
    one, two = t.random_shuffle(), t.random_shuffle()
    assert one.to_arrow() != two.to_arrow()


def test_a_failure_is_told_once(sp: Session) -> None:
    """Goal: nobody reads the same line twice. Oracle: the lines of the error."""
    with pytest.raises(TaskFailed) as failed:
        sp.from_items([{"a": "x"}]).map("a::int as a").take_all()
    lines = [line.strip() for line in str(failed.value).splitlines()]
    assert len(lines) == len(set(lines))
    assert str(failed.value).count("Could not convert") == 1
    assert "failed to run query" in str(failed.value)
    # What is not caught is printed with its causes.
    assert failed.value.__cause__ is None and "Could not convert" in str(failed.value.error)
