"""What the optimiser believes about a SQL text."""

from __future__ import annotations

import pytest

from smallpond.logical.optimizer.syntax import (
    column_names,
    conjuncts,
    expression_text,
    is_rowwise,
    is_rowwise_nested,
    is_volatile,
    select_list,
)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select a, b + 1 from t where a > 3", True),
        ("from t select a", True),
        ("select unnest([a, b]) from t", True),
        ("select list_sum([a]) from t", True),
        ("select count(*) from t", False),
        ("select max(a) + 1 from t", False),
        ("select row_number() over () from t", False),
        ("select * from t limit 3", False),
        ("select * from t order by a", False),
        ("select distinct a from t", False),
        ("select sum(a) from t group by b", False),
        ("select a from t group by all", False),
        ("select * from t where a > (select avg(a) from t)", False),
        ("select * from t, u", False),
        ("select * from t union all select * from t", False),
        ("select * from t tablesample reservoir(5 rows)", False),
        ("select a from (select a from t where b)", False),
        ("select a,, from t", False),
        ("pivot t on a using sum(b)", False),
    ],
)
def test_rowwise(query: str, expected: bool) -> None:
    """Goal: only queries that treat rows one by one may be split. Oracle: what SQL says."""
    assert is_rowwise(query) is expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select a from t", True),
        ("select a from (select a + 1 as a from (from t) where b) where a > 2", True),
        ("select a from (select sum(a) as a from t)", False),
        ("select a from (select a from t limit 3)", False),
        ("select a from (select a from t) tablesample reservoir(5 rows)", False),
        ("select a from (select a from t, u)", False),
    ],
)
def test_rowwise_through_subqueries(query: str, expected: bool) -> None:
    """Goal: what several row-wise steps make is row-wise, and nothing else. Oracle: what SQL
    says."""
    assert is_rowwise_nested(query) is expected


def test_volatile() -> None:
    """Goal: what differs between evaluations is not shared. Oracle: its functions."""
    assert is_volatile("select random() from t")
    assert is_volatile("select * from t using sample 10%")
    assert not is_volatile("select a from t")


def test_columns_of_expressions() -> None:
    """Goal: no column that is read is missed. Oracle: names by eye; None where all may be read."""
    trees = select_list("a + b as c, t.d, {'x': e}, f.g")
    assert trees is not None
    assert {"a", "b", "d", "e", "f"} <= (column_names(trees) or set())
    assert column_names(select_list("*") or []) is None
    assert column_names(select_list("(select max(a) from u)") or []) is None


def test_conjuncts() -> None:
    """Goal: a predicate falls apart at AND alone. Oracle: the texts of the parts."""
    parts = [expression_text(tree) for tree in conjuncts("a > 1 and (b = 'x' or c) and not d")]
    assert parts == ["(a > 1)", "((b = 'x') OR c)", "(NOT d)"]
    assert conjuncts("a >") == []
