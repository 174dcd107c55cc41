"""Every operation of a data frame against DuckDB alone, as one task and over exchanges."""

from __future__ import annotations

import pyarrow as pa
import pytest

from smallpond.common import InvalidArgument
from smallpond.dataframe import DataFrame, Session
from tests.smallpond.frame.oracle import assert_same_bag, assert_same_list, expected_rows

T = pa.table(
    {
        "k": [None if i % 11 == 0 else i % 7 for i in range(200)],
        "v": [i * 3 % 101 for i in range(200)],
        "s": [f"s{i % 13}" for i in range(200)],
        "x": [i / 8 for i in range(200)],
    }
)
U = pa.table(
    {
        "k": [None if i == 9 else i % 10 for i in range(20)],
        "w": list(range(20)),
        "s": [f"u{i}" for i in range(20)],
    }
)


@pytest.fixture(params=["one partition", "five partitions"])
def t(request: pytest.FixtureRequest, sp_both: Session) -> DataFrame:
    """The table T, whole or divided by its user."""
    frame = sp_both.from_arrow(T)
    return frame if request.param == "one partition" else frame.repartition(5, by_rows=True)


def test_select(t: DataFrame) -> None:
    """Goal: columns by name and expression. Oracle: DuckDB."""
    found = t.select("k", "v + 1 as v1", 'x as "the x"', z="s || '!'").to_arrow()
    assert found.column_names == ["k", "v1", "the x", "z"]
    assert_same_bag(found, expected_rows("select k, v+1, x, s || '!' from t", t=T))


def test_select_over_the_whole_table(t: DataFrame) -> None:
    """Goal: aggregates and windows in `select` see every partition. Oracle: DuckDB."""
    total = t.select("sum(v) as total", "count(*) as n").to_arrow()
    assert_same_bag(total, expected_rows("select sum(v), count(*) from t", t=T))
    ranked = t.select("x", "row_number() over (order by x desc) as r").to_arrow()
    oracle = "select x, row_number() over (order by x desc) from t"
    assert_same_bag(ranked, expected_rows(oracle, t=T))


def test_with_columns_drop_rename(t: DataFrame) -> None:
    """Goal: added columns go to the end, replaced ones stay in place. Oracle: DuckDB."""
    found = t.with_columns("v * 2 as v, x > 3 as big", n="length(s)").drop("k").rename({"s": "t"})
    assert found.columns == ["v", "t", "x", "big", "n"]
    oracle = "select v * 2, s, x, x > 3, length(s) from t"
    assert_same_bag(found.to_arrow(), expected_rows(oracle, t=T))


def test_unknown_columns_are_refused(sp: Session) -> None:
    """Goal: a wrong name is an error at once that names the columns. Oracle: its text."""
    t = sp.from_arrow(T)
    with pytest.raises(InvalidArgument, match="no column q; there are k, v, s, x"):
        t.drop("q")
    with pytest.raises(InvalidArgument, match="left side has no column q"):
        t.join(sp.from_arrow(U), left_on="q", right_on="k")


def test_filter_map_flat_map(t: DataFrame) -> None:
    """Goal: SQL row by row. Oracle: DuckDB."""
    found = t.filter("v > 50").map("v, k").flat_map("unnest([v, k]) as y")
    oracle = "select unnest([v, k]) from t where v > 50"
    assert_same_bag(found.to_arrow(), expected_rows(oracle, t=T))


def test_sort(t: DataFrame) -> None:
    """Goal: one order over all partitions, NULLs last by default. Oracle: DuckDB's ORDER BY."""
    found = t.sort("k desc", "v", "x").to_arrow()
    oracle = "select * from t order by k desc nulls last, v nulls last, x"
    assert_same_list(found, expected_rows(oracle, t=T))
    found = t.sort("k", "x", descending=[True, False], nulls_last=False).to_arrow()
    oracle = "select * from t order by k desc nulls first, x"
    assert_same_list(found, expected_rows(oracle, t=T))


def test_sort_then_rowwise_keeps_order(t: DataFrame) -> None:
    """Goal: what follows a sort row by row leaves its order. Oracle: DuckDB's ORDER BY."""
    found = t.sort("x desc").filter("v % 2 = 0").map("x, v").to_arrow()
    oracle = "select x, v from t where v % 2 = 0 order by x desc"
    assert_same_list(found, expected_rows(oracle, t=T))


def test_top_rows(t: DataFrame) -> None:
    """Goal: a limit of a sort is its first rows. Oracle: DuckDB's LIMIT."""
    found = t.sort("v desc", "x").limit(7).to_arrow()
    assert_same_list(found, expected_rows("select * from t order by v desc, x limit 7", t=T))


def test_group_by(t: DataFrame) -> None:
    """Goal: aggregates that split in two phases and those that do not. Oracle: DuckDB."""
    split = t.group_by("k").agg(
        "sum(v)",
        "avg(x) as m",
        "sum(v) / count(*) as q",
        "count(k) filter (where v > 50) as c",
        low="min(s)",
        high="max(s)",
        n="count(*)",
    )
    oracle = (
        "select k, sum(v), avg(x), sum(v) / count(*), count(k) filter (where v > 50), min(s), "
        "max(s), count(*) from t group by k"
    )
    assert_same_bag(split.to_arrow(), expected_rows(oracle, t=T))
    whole = t.group_by("k", "s[1:2] as p").agg("count(distinct v) as d", "median(x) as m")
    oracle = "select k, s[1:2], count(distinct v), median(x) from t group by 1, 2"
    assert_same_bag(whole.to_arrow(), expected_rows(oracle, t=T))


def test_aggregates_of_everything(t: DataFrame) -> None:
    """Goal: without keys there is one row, also of no rows. Oracle: DuckDB."""
    found = t.agg("sum(v) as s", "count(*) as n", "avg(x) as m")
    assert_same_bag(found.to_arrow(), expected_rows("select sum(v), count(*), avg(x) from t", t=T))
    none = t.filter("v < 0").agg("sum(v) as s", "count(*) as n")
    assert_same_bag(none.to_arrow(), [(None, 0)])


def test_group_shortcuts(sp: Session) -> None:
    """Goal: count, sum, min, max and mean. Oracle: DuckDB."""
    t = sp.from_arrow(T).group_by("k")
    for name, function in [("sum", "sum"), ("min", "min"), ("max", "max"), ("mean", "avg")]:
        found = getattr(t, name)("v", "x").to_arrow()
        oracle = f"select k, {function}(v), {function}(x) from t group by k"
        assert_same_bag(found, expected_rows(oracle, t=T))
    oracle = "select k, count(*) from t group by k"
    assert_same_bag(t.count().to_arrow(), expected_rows(oracle, t=T))


JOINS = {
    "inner": "select k, v, t.s, x, w, u.s from t join u using (k)",
    "left": "select t.k, v, t.s, x, w, u.s from t left join u using (k)",
    "right": "select u.k, v, t.s, x, w, u.s from t right join u using (k)",
    "full": "select coalesce(t.k, u.k), v, t.s, x, w, u.s from t full join u on t.k = u.k",
    "semi": "select * from t where exists (select 1 from u where u.k = t.k)",
    "anti": "select * from t where not exists (select 1 from u where u.k = t.k)",
}


@pytest.mark.parametrize("strategy", [None, "broadcast", "hash", "merge"])
@pytest.mark.parametrize("how", list(JOINS))
def test_join(sp_both: Session, how: str, strategy: str | None) -> None:
    """Goal: each kind by each strategy. Method: NULL keys on both sides, keys of one side alone.
    Oracle: DuckDB."""
    t = sp_both.from_arrow(T).repartition(3, by_rows=True)
    u = sp_both.from_arrow(U)
    found = t.join(u, on="k", how=how, strategy=strategy).to_arrow()  # type: ignore[arg-type]
    if how not in ("semi", "anti"):
        assert found.column_names == ["k", "v", "s", "x", "w", "s_right"]
    assert_same_bag(found, expected_rows(JOINS[how], t=T, u=U))


def test_join_with_condition_and_cross(sp_both: Session) -> None:
    """Goal: conditions that are no equality, and all pairs. Oracle: DuckDB."""
    t, u = sp_both.from_arrow(T), sp_both.from_arrow(U)
    found = t.join(u, condition="l.v between r.w and r.w + 2", how="inner").to_arrow()
    oracle = "select t.*, u.* from t join u on t.v between u.w and u.w + 2"
    assert_same_bag(found, expected_rows(oracle, t=T, u=U))
    found = t.join(u, on="k", condition="l.v > r.w").to_arrow()
    oracle = "select t.*, w, u.s from t join u on t.k = u.k and t.v > u.w"
    assert_same_bag(found, expected_rows(oracle, t=T, u=U))
    assert t.join(u, how="cross").count() == 200 * 20


def test_asof_join(sp_both: Session) -> None:
    """Goal: the nearest earlier (or later) row for each row, by key. Oracle: a search by hand."""
    quotes = pa.table({"k": [i % 3 for i in range(30)], "t": [i * 2 for i in range(30)]})
    trades = pa.table({"k": [i % 4 for i in range(40)], "t": [i * 3 % 61 for i in range(40)]})
    left, right = sp_both.from_arrow(trades), sp_both.from_arrow(quotes)
    for direction in ("backward", "forward"):
        found = left.join(right, on="t", by="k", how="asof", direction=direction).to_arrow()
        oracle = []
        for trade in trades.to_pylist():
            times = [q["t"] for q in quotes.to_pylist() if q["k"] == trade["k"]]
            earlier = [one for one in times if one <= trade["t"]]
            later = [one for one in times if one >= trade["t"]]
            back = direction == "backward"
            best = max(earlier, default=None) if back else min(later, default=None)
            oracle.append((trade["k"], trade["t"], best))
        assert_same_bag(found, oracle)


def test_distinct_union_sample(t: DataFrame, sp_both: Session) -> None:
    """Goal: whole-table duplicates, unions by position and name, samples. Oracle: DuckDB."""
    assert_same_bag(
        t.select("k", "s").distinct().to_arrow(), expected_rows("select distinct k, s from t", t=T)
    )
    by_key = t.distinct("k").to_arrow()
    assert_same_bag(by_key.select(["k"]), expected_rows("select distinct k from t", t=T))
    u = sp_both.from_arrow(U)
    found = t.select("k", "s").union(u.select("w", "s")).to_arrow()
    oracle = "select k, s from t union all select w, s from u"
    assert_same_bag(found, expected_rows(oracle, t=T, u=U))
    found = t.select("k", "v").union(u.select("w", "k"), by_name=True).to_arrow()
    oracle = "select k, v, null from t union all select k, null, w from u"
    assert_same_bag(found, expected_rows(oracle, t=T, u=U))
    assert t.union(t, distinct=True).count() == 200
    assert t.sample(n=17).count() == 17
    assert t.sample(n=0).count() == 0
    assert 40 < t.sample(0.5).count() < 160


def test_sql_over_whole_tables(t: DataFrame, sp_both: Session) -> None:
    """Goal: a user's query sees whole tables, by position and by name. Oracle: DuckDB."""
    u = sp_both.from_arrow(U)
    found = sp_both.sql(
        "with a as (select k, sum(v) as v from {0} group by k) select a.*, u.w from a join {u} u "
        "on a.k = u.k where {'x': w}.x > 3;",
        t,
        u=u,
    ).to_arrow()
    oracle = (
        "with a as (select k, sum(v) as v from t group by k) select a.*, u.w from a join u "
        "on a.k = u.k where w > 3"
    )
    assert_same_bag(found, expected_rows(oracle, t=T, u=U))
    with pytest.raises(InvalidArgument, match="no table for"):
        sp_both.sql("select * from {orders}", t)


def test_limit(t: DataFrame) -> None:
    """Goal: a limit is over the whole table, and nothing after it changes that. Oracle: counts."""
    assert t.limit(3).count() == 3
    assert t.limit(3).map("v").count() == 3
    assert t.limit(150).filter("true").limit(20).count() == 20
    assert t.limit(1000).count() == 200
    assert t.limit(0).count() == 0


def test_random_shuffle(t: DataFrame) -> None:
    """Goal: all rows, in another order. Oracle: the bag, and that the order differs."""
    found = t.random_shuffle().to_arrow()
    assert_same_bag(found, expected_rows("select * from t", t=T))
    assert found.column("x").to_pylist() != T.column("x").to_pylist()


def test_describe(sp: Session) -> None:
    """Goal: statistics of each column. Oracle: those known by construction."""
    rows = {row["column_name"]: row for row in sp.from_arrow(T).describe().take_all()}
    assert list(rows) == ["k", "v", "s", "x"]
    assert rows["v"]["min"] == "0" and rows["v"]["max"] == "100"


def test_tables_without_rows_keep_their_columns(sp_both: Session) -> None:
    """Goal: an empty result divided, joined and grouped is still a table. Oracle: its columns."""
    t, u = sp_both.from_arrow(T), sp_both.from_arrow(U)
    none = t.join(t, on="v", how="anti")
    assert none.repartition(3, hash_by="k").drop("__data_partition__").columns == T.column_names
    for empty in (none.repartition(3, hash_by="k"), none.repartition(3, by_rows=True)):
        assert empty.map("k, v").to_arrow().column_names == ["k", "v"]
        assert empty.join(u, on="k", strategy="hash").count() == 0
        assert empty.agg(n="count(*)").take_all() == [{"n": 0}]
        assert empty.sort("v").to_arrow().num_rows == 0
