"""Random plans over random partitions: the same rows as DuckDB gives for the same query.

A plan is built twice, as a data frame and as one SQL text over the whole table, step by step from
the same choices. Columns are always `a` (BIGINT), `b` (BIGINT, with NULLs) and `s` (VARCHAR), so
that every step fits every other.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import smallpond
from smallpond.dataframe import DataFrame, Session
from smallpond.logical.optimizer import large_orders
from tests.smallpond.frame.oracle import assert_same_bag, expected_rows

ROWS = st.lists(
    st.tuples(
        st.integers(-5, 5),
        st.one_of(st.none(), st.integers(0, 6)),
        st.sampled_from(["", "x", "y", "{z}", "'"]),
    ),
    min_size=1,
    max_size=60,
)


@dataclass
class Plan:
    """A frame and the query that means the same over `t` and `u`."""

    frame: DataFrame
    query: str


Step = Callable[[Plan, Plan], Plan]


def step(make_frame: Callable[[DataFrame], DataFrame], query: str) -> Step:
    """A step that needs one table; `{q}` in the query is the plan so far."""
    return lambda plan, _: Plan(make_frame(plan.frame), query.replace("{q}", f"({plan.query})"))


def join(how: str, strategy: str | None, query: str) -> Step:
    """A step that joins with the other table."""

    def apply(plan: Plan, other: Plan) -> Plan:
        joined = plan.frame.join(
            other.frame,
            on="b",
            how=how,  # type: ignore[arg-type]
            strategy=strategy,  # type: ignore[arg-type]
        )
        text = query.replace("{q}", f"({plan.query})").replace("{o}", f"({other.query})")
        frame = joined if how in ("semi", "anti") else joined.select("a", "b", "s_right as s")
        return Plan(frame, text)

    return apply


STEPS: dict[str, Step] = {
    "filter": step(lambda f: f.filter("a > -3"), "select * from {q} where a > -3"),
    "filter key": step(
        lambda f: f.filter("b < 4 or s = 'x'"), "select * from {q} where b < 4 or s = 'x'"
    ),
    "map": step(
        lambda f: f.map("a + 1 as a, b, s || '}' as s"),
        "select a + 1 as a, b, s || '}' as s from {q}",
    ),
    "struct": step(
        lambda f: f.map("{'x': a} as o, b, s").map("o.x as a, b, s"), "select a, b, s from {q}"
    ),
    "columns": step(lambda f: f.with_columns(a="a * 2"), "select a * 2 as a, b, s from {q}"),
    "python": step(lambda f: f.map(double), "select a * 2 as a, b, s from {q}"),
    "group": step(
        lambda f: f.group_by("b").agg("sum(a)::bigint as a", s="min(s)").select("a", "b", "s"),
        "select sum(a)::bigint as a, b, min(s) as s from {q} group by b",
    ),
    "group whole": step(
        lambda f: f.group_by("s").agg("count(distinct a) as a", b="max(b)").select("a", "b", "s"),
        "select count(distinct a) as a, max(b) as b, s from {q} group by s",
    ),
    "distinct": step(lambda f: f.distinct(), "select distinct * from {q}"),
    "sort": step(lambda f: f.sort("b desc", "a"), "select * from {q}"),
    "shuffle": step(lambda f: f.random_shuffle(), "select * from {q}"),
    "union": lambda plan, other: Plan(
        plan.frame.union(other.frame),
        f"select * from ({plan.query}) union all select * from ({other.query})",
    ),
    "self union": step(lambda f: f.union(f), "select * from {q} union all select * from {q}"),
    "top": step(
        lambda f: f.sort("a", "b", "s").limit(4),
        "select * from {q} order by a, b nulls last, s limit 4",
    ),
    "window": step(
        lambda f: f.with_columns(a="sum(a) over (partition by b)").with_columns("a::bigint as a"),
        "select (sum(a) over (partition by b))::bigint as a, b, s from {q}",
    ),
    "files": step(lambda f: f.repartition(3), "select * from {q}"),
    "rows": step(lambda f: f.repartition(4, by_rows=True), "select * from {q}"),
    "hash": step(
        lambda f: f.repartition(3, hash_by="b").drop("__data_partition__"), "select * from {q}"
    ),
    "inner": join("inner", None, "select q.a, q.b, o.s from {q} q join {o} o using (b)"),
    "hash join": join("inner", "hash", "select q.a, q.b, o.s from {q} q join {o} o using (b)"),
    "left": join("left", "hash", "select q.a, q.b, o.s from {q} q left join {o} o using (b)"),
    "full": join(
        "full",
        "merge",
        "select q.a, coalesce(q.b, o.b) as b, o.s from {q} q full join {o} o on q.b = o.b",
    ),
    "semi": join(
        "semi", "hash", "select * from {q} q where exists (select 1 from {o} o where o.b = q.b)"
    ),
    "anti": join(
        "anti",
        "broadcast",
        "select * from {q} q where not exists (select 1 from {o} o where o.b = q.b)",
    ),
}


def double(row: dict[str, object]) -> dict[str, object]:
    """Python code within a plan."""
    value: Any = row["a"]
    return {"a": None if value is None else value * 2, "b": row["b"], "s": row["s"]}


SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("s", pa.large_string())])
STEPS["python"] = step(lambda f: f.map(double, schema=SCHEMA), "select a * 2 as a, b, s from {q}")


def table_of(rows: list[tuple[int, int | None, str]]) -> pa.Table:
    columns = list(zip(*rows, strict=True))
    return pa.table(
        {name: pa.array(columns[i], SCHEMA.field(name).type) for i, name in enumerate("abs")}
    )


@pytest.fixture(scope="module", params=["single", "exchange", "orders"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """One session for all plans of a mode; in the last, every order counts as a large one."""
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        if request.param == "orders":
            patch.setattr(large_orders, "spills_little", lambda *_: False)
        session = smallpond.init(
            data_root=root,
            executor="inprocess",
            progress=False,
            lowering="auto" if request.param == "orders" else request.param,
            npartitions=3,
            max_fail_count=0,
        )
        yield session
        session.shutdown()


@settings(
    max_examples=int(os.environ.get("SMALLPOND_PLANS", "8")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    first=ROWS,
    second=ROWS,
    names=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=5),
    other_names=st.lists(st.sampled_from(["filter", "map", "rows", "distinct"]), max_size=2),
)
def test_random_plans(
    session: Session,
    first: list[tuple[int, int | None, str]],
    second: list[tuple[int, int | None, str]],
    names: list[str],
    other_names: list[str],
) -> None:
    """Goal: no rule and no lowering changes a result. Method: random steps over random rows and
    partitions, as one task and as exchanges. Oracle: DuckDB alone on the same tables."""
    t, u = table_of(first), table_of(second)
    plan = Plan(session.from_arrow(t), "select * from t")
    other = Plan(session.from_arrow(u), "select * from u")
    for name in other_names:
        other = STEPS[name](other, other)
    for name in names:
        plan = STEPS[name](plan, other)
    assert_same_bag(plan.frame.to_arrow(), expected_rows(plan.query, t=t, u=u))
