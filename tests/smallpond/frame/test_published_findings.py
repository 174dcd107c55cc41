"""What was wrong in smallpond 0.15, finding by finding; each a test of what is right."""

from __future__ import annotations

import io
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smallpond.common import DataNotFound, InvalidArgument, SmallpondError
from smallpond.dataframe import Session
from smallpond.logical.udf import UDFType, udf
from tests.smallpond.data import fake_s3
from tests.smallpond.frame.conftest import SessionMaker


def test_limit_is_global_whatever_follows(sp_both: Session) -> None:
    """Goal: 0.15 gave 20 rows here. Method: a limit of 10 partitions, then SQL. Oracle: 2."""
    df = sp_both.from_items(list(range(1000))).repartition(10, by_rows=True)
    assert df.limit(2).map("item").count() == 2
    assert df.limit(2).filter("item >= 0").count() == 2
    assert df.limit(2).map("item").filter("item >= 0").map("item + 1 as i").count() == 2


@pytest.mark.parametrize("strategy", ["broadcast", "hash", "merge"])
def test_keys_of_different_types_meet(sp_both: Session, strategy: str) -> None:
    """Goal: 0.15 lost 14 of 20 matches of DOUBLE with BIGINT. Oracle: all keys match."""
    for kind in (pa.float64(), pa.decimal128(10, 2), pa.int8()):
        left = pa.table({"k": pa.array(range(20), pa.int64())})
        values = [Decimal(i) if pa.types.is_decimal(kind) else i for i in range(20)]
        right = pa.table({"k": pa.array(values, kind), "n": list(range(20))})
        frames = sp_both.from_arrow(left), sp_both.from_arrow(right)
        joined = frames[0].join(frames[1], on="k", strategy=strategy)  # type: ignore[arg-type]
        assert joined.count() == 20


def test_hash_partitions_of_different_types_meet(sp: Session) -> None:
    """Goal: the same by hand, with `repartition` and `partial_sql`. Oracle: all keys match."""
    left = sp.from_arrow(pa.table({"k": pa.array(range(20), pa.int64())}))
    right = sp.from_arrow(pa.table({"j": pa.array(range(20), pa.float64())}))
    joined = sp.partial_sql(
        "select k, j from {0} join {1} on k = j",
        left.repartition(4, hash_by="k"),
        right.repartition(4, hash_by="j"),
    )
    assert joined.count() == 20


def test_wide_sums_are_exact(sp_both: Session) -> None:
    """Goal: 0.15 made DOUBLE of sum(BIGINT). Oracle: the exact integer, of type int64."""
    df = sp_both.from_arrow(pa.table({"a": [9007199254740992, 3]}))
    for frame in (
        df.map("sum(a) as s"),
        df.agg(s="sum(a)"),
        df.group_by("1 as one").agg(s="sum(a)"),
    ):
        column = frame.to_arrow().column("s")
        assert column.to_pylist() == [9007199254740995] and column.type == pa.int64()
    huge = sp_both.from_arrow(pa.table({"a": [2**62] * 4})).agg(s="sum(a)").take_all()
    assert huge == [{"s": 2**64}]


def test_braces_and_placeholders_survive_fusion(sp_both: Session) -> None:
    """Goal: 0.15 died with a KeyError when it fused these. Oracle: the values."""
    df = sp_both.from_items([1, 2, 3])
    structs = df.filter("item > 1").map("{{'x': item}} as s").map("s.x as x").take_all()
    assert structs == [{"x": 2}, {"x": 3}]
    plain = df.filter("{'y': item}.y > 1").map("{'x': item} as s").map("s.x as x").take_all()
    assert plain == structs
    parts = df.repartition(3, by_rows=True).filter("item > 0")
    numbered = parts.map("item, {__data_partition__} as p").map("item + p as q").take_all()
    assert numbered == [{"q": 1}, {"q": 3}, {"q": 5}]
    assert df.filter("item::varchar <> '}' -- a comment").count() == 3


def test_pandas_frames_are_right_and_fast(sp: Session) -> None:
    """Goal: 0.15 overflowed at 2^31, could not repartition, and took 45 s for this. Oracle: the
    values, and ten seconds even on a busy machine."""
    begin = time.monotonic()
    frame = pd.DataFrame({"a": [2**40 + i for i in range(20_000)], "b": ["x"] * 20_000})
    df = sp.from_pandas(frame)
    assert df.to_pandas().equals(frame)
    found = df.map("a + 1 as a").to_arrow().column("a").to_pylist()
    assert found == [value + 1 for value in frame["a"]]
    for parts in (
        df.repartition(4),
        df.repartition(4, by_rows=True),
        df.repartition(4, hash_by="a"),
        df.repartition(4, by="a % 4"),
    ):
        assert parts.agg(n="count(*)", s="sum(a)").take_all() == [
            {"n": 20_000, "s": int(frame["a"].sum())}
        ]
    assert time.monotonic() - begin < 10


def test_missing_files_are_errors(sp: Session, tmp_path: Path) -> None:
    """Goal: 0.15 read zero rows of files that are not there. Oracle: an error with the path."""
    with pytest.raises(FileNotFoundError, match="nothing"):
        sp.read_parquet(str(tmp_path / "nothing" / "*.parquet"))
    with pytest.raises(FileNotFoundError):
        sp.read_csv(str(tmp_path / "nothing.csv"), schema={"a": "int"})
    with pytest.raises(FileNotFoundError):
        sp.read_parquet([])


def test_urls_are_read_or_refused(sp: Session) -> None:
    """Goal: 0.15 took a URL for a path in the current folder and read zero rows. Method: a small S3
    server; keys that are there and keys that are not; a scheme that nobody serves. Oracle: the
    rows; errors."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2, 3]}), sink)
    with fake_s3.serve({"data/x.parquet": sink.getvalue()}) as options:
        for url in ("s3://bucket/data/x.parquet", "s3://bucket/data/*.parquet"):
            df = sp.read_parquet(url, storage_options=options)
            assert df.map("a + 1 as b").take_all() == [{"b": 2}, {"b": 3}, {"b": 4}]
            assert df.count() == 3
        for url in ("s3://bucket/data/no.parquet", "s3://bucket/no/*.parquet"):
            with pytest.raises(SmallpondError):
                sp.read_parquet(url, storage_options=options).map("a").count()
    with pytest.raises(DataNotFound, match="nosuch://"):
        sp.read_parquet("nosuch://a/b.parquet").count()


@pytest.mark.parametrize("limit", [{"cpu_limit": 4096}, {"memory_limit": 1 << 50}])
def test_impossible_requests_are_errors(sp: Session, limit: dict[str, int]) -> None:
    """Goal: 0.15 waited for ever, without a word, for a machine of that size. Method: too many
    CPUs or bytes, for SQL and for a function. Oracle: an error that says what there is."""
    df = sp.from_items([1, 2, 3])
    for frame in (df.map("item + 1 as i", **limit), df.map(lambda row: row, **limit)):
        with pytest.raises(SmallpondError, match="no machine has that much"):
            frame.compute()


def test_is_computed_tells_the_truth(sp_both: Session) -> None:
    """Goal: 0.15 always said False. Oracle: False before, True after."""
    df = sp_both.from_items([1, 2, 3]).map("item + 1 as i").filter("i > 2")
    assert not df.is_computed()
    df.compute()
    assert df.is_computed()
    assert df.filter("i > 3").take_all() == [{"i": 4}]


def test_an_error_is_not_remembered(sp: Session, tmp_path: Path) -> None:
    """Goal: 0.15 raised the old error again for ever. Method: a file that is mended in between.
    Oracle: the second try succeeds."""
    path = tmp_path / "flag"

    def checked(row: dict[str, int]) -> dict[str, int]:
        if not path.exists():
            raise RuntimeError("not yet")
        return row

    df = sp.from_items([1]).map(checked)
    with pytest.raises(RuntimeError, match="not yet"):
        df.compute()
    path.touch()
    assert df.take_all() == [{"item": 1}]


def test_write_modes(sp: Session, tmp_path: Path) -> None:
    """Goal: 0.15 could only append. Oracle: the rows that are there after each mode."""
    df, target = sp.from_items([1, 2, 3]), str(tmp_path / "out")
    df.write_parquet(target, mode="error")
    with pytest.raises(InvalidArgument, match="already holds files"):
        df.write_parquet(target, mode="error")
    df.write_parquet(target, mode="ignore")
    assert sp.read_parquet(target).count() == 3
    df.write_parquet(target)
    assert sp.read_parquet(target).count() == 6
    df.filter("item = 1").write_parquet(target, mode="overwrite")
    assert sp.read_parquet(target).take_all() == [{"item": 1}]


def test_row_functions_over_empty_partitions(sp_both: Session) -> None:
    """Goal: 0.15 raised ArrowInvalid. Method: more partitions than rows, and no rows at all.
    Oracle: the rows."""
    df = sp_both.from_items([1, 2, 3]).repartition(8, hash_by="item")
    doubled = df.map(lambda row: {"d": row["item"] * 2})
    assert sorted(row["d"] for row in doubled.take_all()) == [2, 4, 6]
    assert doubled.to_arrow().num_rows == 3
    assert sorted(doubled.filter("d > 2").to_arrow().column("d").to_pylist()) == [4, 6]
    assert df.filter(lambda row: row["item"] > 2).count() == 1
    assert df.flat_map(lambda row: [row] * 2).count() == 6
    none = sp_both.from_items([1]).filter("item > 1").map(lambda row: {"d": 1})
    assert none.count() == 0 and none.to_arrow().num_rows == 0


def test_results_cross_file_systems(make_session: SessionMaker, tmp_path: Path) -> None:
    """Goal: 0.15 died with EXDEV when data and target were on different mounts. Method: working
    files in /dev/shm, the target elsewhere. Oracle: the rows."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no other file system here")
    source = shm / f"smallpond-{tmp_path.name}.parquet"
    pq.write_table(pa.table({"a": [1, 2, 3]}), source)
    try:
        sp = make_session(data_root=str(tmp_path / "root"))
        sp.read_parquet(str(source)).write_parquet(str(tmp_path / "out"))
        assert sp.read_parquet(str(tmp_path / "out")).count() == 3
    finally:
        source.unlink()


def test_job_time_as_float(make_session: SessionMaker) -> None:
    """Goal: 0.15's documented float raised ValueError. Oracle: the time in the job's folder."""
    moment = datetime(2025, 3, 1, 12, 30)
    for given in (moment, moment.timestamp(), moment.isoformat()):
        sp = make_session(job_time=given)
        assert sp.runtime_ctx.job_root_dirname.startswith("2025-03-01-12-30-00.")


def test_names_of_the_documentation(sp: Session) -> None:
    """Goal: 0.15's documentation used names that its code did not have. Oracle: they work."""
    df = sp.from_items(list(range(10))).repartition(5, by_row=True)
    counts = sp.partial_sql("select count(*) as n from {0}", df)
    assert counts.take_all() == [{"n": 2}] * 5

    @udf(params=[UDFType.INT], return_type=UDFType.INT)
    def twice(value: int) -> int:
        return 2 * value

    doubled = df.map("twice(item::int) as d", udfs=[twice])
    assert sorted(row["d"] for row in doubled.take_all()) == list(range(0, 20, 2))


def test_errors_show_the_users_line(sp: Session) -> None:
    """Goal: the message leads to the mistake. Oracle: this file, the query, the cause."""
    df = sp.partial_sql("select a,, from {0}", sp.from_items([1, 2, 3]))
    with pytest.raises(RuntimeError) as caught:
        df.to_arrow()
    assert "select a,, from" in str(caught.value)
    assert Path(__file__).name in str(caught.value)
