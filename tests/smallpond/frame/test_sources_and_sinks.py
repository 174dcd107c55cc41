"""Reading and writing: formats, inferred schemas, hive partitions, what a folder looks like."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smallpond.common import InvalidArgument
from smallpond.dataframe import DataFrame, Session
from smallpond.dataframe.run import TaskFailed
from smallpond.logical.dataset import WarcDataSet
from tests.smallpond.data.test_warc import record, response
from tests.smallpond.frame.conftest import SessionMaker
from tests.smallpond.frame.oracle import assert_same_bag, rows_of

T = pa.table(
    {"a": list(range(30)), "b": [f"t{i % 3}" for i in range(30)], "c": [i / 4 for i in range(30)]}
)


def visible(folder: Path) -> list[str]:
    """The files below a folder, without hidden ones."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not path.name.startswith("."))


@pytest.mark.parametrize("partitions", [1, 3])
def test_csv_and_json_come_back(sp_both: Session, tmp_path: Path, partitions: int) -> None:
    """Goal: what is written as text is read with the same names, types and rows. Oracle: T."""
    t = sp_both.from_arrow(T).repartition(partitions, by_rows=True)
    t.write_csv(str(tmp_path / "csv"))
    t.write_json(str(tmp_path / "json"))
    assert len(visible(tmp_path / "csv")) == len(visible(tmp_path / "json")) == partitions
    csv = sp_both.read_csv(str(tmp_path / "csv/*.csv"))
    json = sp_both.read_json(str(tmp_path / "json/*.json"))
    for frame in (csv, json):
        assert frame.columns == ["a", "b", "c"]
        assert list(frame.dtypes.values()) == ["BIGINT", "VARCHAR", "DOUBLE"]
        assert_same_bag(frame.to_arrow(), rows_of(T))


def test_csv_as_published(sp: Session, tmp_path: Path) -> None:
    """Goal: with a schema there is no header, and the delimiter is a comma. Oracle: the rows."""
    (tmp_path / "x.csv").write_text("1,a\n2,b\n")
    df = sp.read_csv(str(tmp_path / "x.csv"), {"n": "bigint", "s": "varchar"})
    assert df.take_all() == [{"n": 1, "s": "a"}, {"n": 2, "s": "b"}]
    (tmp_path / "x.tsv").write_text("1\ta\n")
    df = sp.read_csv(str(tmp_path / "x.tsv"), {"n": "bigint", "s": "varchar"}, delim=r"\t")
    assert df.take_all() == [{"n": 1, "s": "a"}]


def test_text(sp: Session, tmp_path: Path) -> None:
    """Goal: a row a line, compressed or not. Oracle: the lines."""
    (tmp_path / "x.txt").write_text('one, "two"\n\nthree\n')
    with gzip.open(tmp_path / "y.txt.gz", "wt") as file:
        file.write("four\n")
    df = sp.read_text([str(tmp_path / "x.txt"), str(tmp_path / "y.txt.gz")], column="line")
    assert [row["line"] for row in df.take_all()] == ['one, "two"', "", "three", "four"]


def test_hive_partitions(sp_both: Session, tmp_path: Path) -> None:
    """Goal: `key=value` folders written by each task, read back with their column. Oracle: T."""
    target = tmp_path / "hive"
    t = sp_both.from_arrow(T).repartition(2, by_rows=True)
    t.write_parquet(str(target), partition_by=["b"], mode="overwrite")
    assert {name.split("/")[0] for name in visible(target)} == {"b=t0", "b=t1", "b=t2"}
    back = sp_both.read_parquet(str(target), recursive=True)
    assert_same_bag(back.select("a", "b", "c").to_arrow(), rows_of(T))
    back.filter("b = 't1'").write_csv(str(tmp_path / "csv"), partition_by="a")
    assert len(visible(tmp_path / "csv")) == 10
    t.write_parquet(str(target), partition_by=["b"], mode="append")
    assert sp_both.read_parquet(str(target), recursive=True).count() == 60
    # A plain copy keeps the column although the folders go.
    back.write_parquet(str(tmp_path / "flat"))
    assert set(sp_both.read_parquet(str(tmp_path / "flat")).columns) == {"a", "b", "c"}


def test_parquet_options(sp: Session, tmp_path: Path) -> None:
    """Goal: compression and row groups are as asked. Oracle: the footer."""
    df = sp.from_arrow(pa.table({"a": list(range(5000))}))
    df.write_parquet(str(tmp_path / "out"), compression="snappy", row_group_size=2048)
    [name] = visible(tmp_path / "out")
    footer = pq.read_metadata(tmp_path / "out" / name)
    assert footer.num_row_groups == 3
    assert footer.row_group(0).column(0).compression == "SNAPPY"


def test_the_manifest_lists_the_files(sp: Session, tmp_path: Path) -> None:
    """Goal: readers that follow the manifest find all files. Oracle: the folder."""
    target = tmp_path / "out"
    sp.from_arrow(T).repartition(3, by_rows=True).map("a").write_parquet(str(target))
    listed = (target / ".MANIFEST.txt").read_text().splitlines()
    assert sorted(listed) == sorted(str(target / name) for name in visible(target))
    assert not list(tmp_path.glob("*.staging"))


def test_overwriting_what_is_read(sp: Session, tmp_path: Path) -> None:
    """Goal: a table can replace the files that it comes from. Oracle: the rows after."""
    target = str(tmp_path / "out")
    sp.from_arrow(T).write_parquet(target)
    sp.read_parquet(target).filter("a < 3").write_parquet(target, mode="overwrite")
    assert sorted(row["a"] for row in sp.read_parquet(target).take_all()) == [0, 1, 2]


def test_lazy_writes_share_their_plan(sp: Session, tmp_path: Path) -> None:
    """Goal: several outputs in one run. Oracle: the rows of both."""
    t = sp.from_arrow(T).filter("a >= 10")
    one = t.write_parquet_lazy(str(tmp_path / "one"))
    two = t.map("b").write_parquet_lazy(str(tmp_path / "two"))
    sp.wait(one, two)
    assert one.is_computed() and two.is_computed()
    assert sp.read_parquet(str(tmp_path / "one")).count() == 20
    assert sp.read_parquet(str(tmp_path / "two")).columns == ["b"]


def test_bad_arguments(sp: Session, tmp_path: Path) -> None:
    """Goal: wrong modes are errors at once. Oracle: the message."""
    df = sp.from_arrow(T)
    with pytest.raises(InvalidArgument, match="choose one of append, overwrite"):
        df.write_parquet(str(tmp_path / "x"), mode="replace")


def test_sources_in_memory(sp: Session) -> None:
    """Goal: Python objects, polars frames. Oracle: the rows."""
    assert sp.from_items(["a", "b"]).take_all() == [{"item": "a"}, {"item": "b"}]
    rows = [{"x": 1, "y": [1, 2]}, {"x": None, "y": []}]
    assert sp.from_items(rows).take_all() == rows
    assert sp.from_items([1.5, None]).take_all() == [{"item": 1.5}, {"item": None}]
    with pytest.raises(ValueError, match="not empty"):
        sp.from_items([])
    polars = pytest.importorskip("polars")
    assert sp.from_polars(polars.DataFrame({"a": [1, 2]})).count() == 2


def test_web_archives(sp: Session, tmp_path: Path) -> None:
    """Goal: a row a response, ready for SQL. Oracle: the pages that were archived."""
    pages = [("http://a.example/1", b"one"), ("http://b.example/2", b"two")]
    data = b"".join(record("response", url, response(body)) for url, body in pages)
    (tmp_path / "x.warc.gz").write_bytes(gzip.compress(data))
    found = sp.read_warc(str(tmp_path / "*.warc.gz")).map("url, content").take_all()
    assert [(row["url"], row["content"]) for row in found] == pages


def test_web_archives_are_read_by_many_tasks(
    make_session: SessionMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: Python parses archives, so their files are spread over the cores. Method: note which
    files are parsed in which tasks. Oracle: the rows; each file once; none while planning.
    """
    pages = [(f"http://{i % 3}.example/{i}", b"page %d" % i) for i in range(30)]
    for number in range(10):
        part = pages[number * 3 : number * 3 + 3]
        data = b"".join(record("response", url, response(body)) for url, body in part)
        (tmp_path / f"{number}.warc.gz").write_bytes(gzip.compress(data))
    parsed: list[str] = []
    original = WarcDataSet._rows

    def rows(self: WarcDataSet, path: str, *args: Any) -> Any:
        parsed.append(path)
        return original(self, path, *args)

    monkeypatch.setattr(WarcDataSet, "_rows", rows)
    files = sorted(str(path) for path in tmp_path.glob("*.warc.gz"))
    frames: list[tuple[int, Callable[[DataFrame], DataFrame]]] = [
        (30, lambda pond: pond),
        (11, lambda pond: pond.filter("url like '%.example/1%'").map("url, content")),
        (3, lambda pond: pond.group_by("domain").count()),
        (30, lambda pond: pond.map_batches(lambda table: table)),
    ]
    for mode in ("single", "exchange"):
        for count, made in frames:
            sp = make_session(lowering=mode, num_workers=2)
            pond = sp.read_warc(str(tmp_path / "*.warc.gz"))
            assert pond.columns == ["url", "domain", "date", "content"]
            frame = made(pond)
            frame.compute()
            assert sorted(parsed) == files
            assert sp.view.record.task_count > 8, frame.explain()
            assert frame.count() == count
            if frame.columns[-1] == "content":
                found = {(row["url"], row["content"]) for row in frame.take_all()}
                assert len(found) == count and found <= set(pages)
            parsed.clear()
            assert len(pond.take(2)) == 2
            assert len(parsed) == len(set(parsed)), "no file is read twice"
            parsed.clear()


def write_archives(folder: Path, sizes: Sequence[int]) -> str:
    """Web archives of so many pages each; the pattern that finds them."""
    for number, size in enumerate(sizes):
        pages = [(f"http://{number}.example/{page}", b"page") for page in range(size)]
        data = b"".join(record("response", url, response(body)) for url, body in pages)
        (folder / f"{number:02}.warc.gz").write_bytes(gzip.compress(data))
    return str(folder / "*.warc.gz")


COUNT = "select count(*) as n from {0}"
# Alone in its task, by each reason that a query may have for it.
ALONE: list[dict[str, Any]] = [{"materialize_in_memory": True}, {"enable_temp_directory": True}]


@pytest.mark.parametrize("options", [{}, *ALONE])
def test_what_the_optimiser_divides_is_one_table_to_sql(
    make_session: SessionMaker, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Goal: a query sees all rows, unless the user divided them. Method: archives and Parquet, in
    both lowerings; queries that are fused and that are not. Oracle: the numbers of rows.
    """
    archives = write_archives(tmp_path, [1, 2, 3])
    pq.write_table(pa.table({"v": range(200)}), tmp_path / "t.parquet", row_group_size=50)
    for mode in ("single", "exchange"):
        sp = make_session(lowering=mode, num_workers=2, npartitions=2)
        pond = sp.read_warc(archives)
        table = sp.read_parquet(str(tmp_path / "t.parquet"))

        def found(query: str, *frames: DataFrame, sp: Session = sp) -> list[Any]:
            rows = sp.partial_sql(query, *frames, **options).take_all()
            return [row["n"] for row in rows]

        assert found(COUNT, pond) == [6]
        assert found(COUNT, table) == [200]
        assert found("select v as n from {0} order by n desc", table) == [*range(200)][::-1]
        assert found("select count(*) as n from {0}, {1}", pond, table) == [1200]
        assert found(COUNT, pond.filter("true", **options)) == [6]
        pond.compute()
        assert found(COUNT, pond) == [6]
        assert sorted(found(COUNT, pond.repartition(3))) == [1, 2, 3]
        assert found(COUNT, table.repartition(2, by_rows=True)) == [100, 100]
        both = "select count(*) as n from {0}, {1}"
        assert found(both, table.repartition(2, by_rows=True), pond) == [600, 600]


def test_python_batches_of_web_archives(make_session: SessionMaker, tmp_path: Path) -> None:
    """Goal: batches are of the whole table, as with Parquet, unless the user divided it; whole
    files are dealt as they are, though more tasks read them. Oracle: sizes of batches and files.
    """
    sizes = [*range(1, 13)]
    sp = make_session(lowering="single", num_workers=2)
    pond = sp.read_warc(write_archives(tmp_path, sizes))

    def batches(frame: DataFrame, size: int = 1000) -> list[int]:
        counts = frame.map_batches(lambda one: pa.table({"n": [one.num_rows]}), batch_size=size)
        return [row["n"] for row in counts.take_all()]

    assert batches(pond) == batches(pond.map("url")) == [78]
    assert batches(pond, 50) == [50, 28]
    assert batches(pond.map(lambda row: {"n": len(row["url"])})) == [78]
    assert sorted(batches(pond.repartition(12))) == sizes
    parts = sp.partial_sql(COUNT, pond.repartition(12), materialize_in_memory=True)
    assert sorted(row["n"] for row in parts.take_all()) == sizes


def test_whole_files_are_dealt(sp_both: Session, tmp_path: Path) -> None:
    """Goal: `repartition` without more deals files, however the plan is lowered. Oracle: the rows
    of each file."""
    for number, size in enumerate((10, 20, 300)):
        pq.write_table(pa.table({"v": range(size)}), tmp_path / f"{number}.parquet")
    parts = sp_both.read_parquet(str(tmp_path / "*.parquet")).repartition(3)
    found = sp_both.partial_sql(COUNT, parts).take_all()
    assert sorted(row["n"] for row in found) == [10, 20, 300]


def test_python_reads_much_text(make_session: SessionMaker, tmp_path: Path) -> None:
    """Goal: rows of text for a Python function are dealt to the cores. Oracle: the rows."""
    lines = [f"{number} {'x' * 700}" for number in range(3000)]
    (tmp_path / "x.txt").write_text("\n".join(lines) + "\n")
    sp = make_session(num_workers=2)
    frame = sp.read_text(str(tmp_path / "x.txt"))
    numbers = frame.map(lambda row: {"n": int(row["text"].split()[0])})
    assert sorted(row["n"] for row in numbers.take_all()) == list(range(3000))


def test_damaged_files(sp: Session, tmp_path: Path) -> None:
    """Goal: a damaged file fails the job, or is left out when asked. Oracle: error and rows."""
    for name in ("a", "b"):
        pq.write_table(T, tmp_path / f"{name}.parquet")
    data = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(data[:-20])
    with pytest.raises(Exception, match=r"b\.parquet"):
        sp.read_parquet(str(tmp_path / "*.parquet")).agg("sum(a)").take_all()
    kept = sp.read_parquet(str(tmp_path / "*.parquet"), ignore_corrupt_files=True)
    assert kept.filter("a < 10").count() == 10


def test_damaged_pages(sp_both: Session, tmp_path: Path) -> None:
    """Goal: damage that footers do not tell is left out wherever rows are read: from a bare source,
    through SQL, Python, a sort, into a folder; and the profile tells. Oracle: rows of sound files.
    """
    for index in range(4):
        pq.write_table(T, tmp_path / f"{index}.parquet", compression="zstd")
    for index in (1, 3):
        data = bytearray((tmp_path / f"{index}.parquet").read_bytes())
        data[4:60] = b"\xff" * 56
        (tmp_path / f"{index}.parquet").write_bytes(bytes(data))

    def read(ignore: bool = True) -> DataFrame:
        return sp_both.read_parquet(str(tmp_path / "*.parquet"), ignore_corrupt_files=ignore)

    with pytest.raises(TaskFailed, match=r"[13]\.parquet"):
        read(False).agg("sum(a)").take_all()
    for bare in (read().to_arrow(), read().to_pandas(), read().take_all(), read().take(99)):
        assert len(bare) == 60
    assert read().agg("sum(a) as s").take_all() == [{"s": 2 * sum(range(30))}]
    assert sum("damaged" in line for line in sp_both.view.profile_text().splitlines())
    assert read().filter("a < 10").count() == 20
    assert read().map_batches(lambda table: table).count() == 60
    assert len(read().sort("a", "b").to_arrow()) == 60
    assert read().repartition(4).map("a, b").count() == 60
    assert read().repartition(3, hash_by="a").count() == 60
    read().write_parquet(str(tmp_path / "out"))
    assert sp_both.read_parquet(str(tmp_path / "out")).to_arrow().num_rows == 60
