"""SQL templates: what is an input, a placeholder or a brace; composing keeps them apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallpond.logical.optimizer.stage import needs_name
from smallpond.logical.optimizer.template import Input, Placeholder, Sql, subquery

PARTS = st.one_of(
    st.text(alphabet="ab {}'\"\n", min_size=1),
    st.integers(0, 3).map(Input),
    st.sampled_from(["rand_seed", "__data_partition__", "batch_index:03d"]).map(Placeholder),
)


@given(st.lists(PARTS))
def test_render_is_read_back(parts: list[str | Input | Placeholder]) -> None:
    """Goal: no text is lost or gains a meaning. Method: render random parts, parse the result.
    Oracle: the same parts, neighbouring text joined."""
    sql = Sql.concat(Sql(tuple(parts)))
    assert Sql.of_template(sql.render()) == sql


@given(st.lists(PARTS))
def test_render_formats_to_the_text(parts: list[str | Input | Placeholder]) -> None:
    """Goal: the task, which uses `str.format`, sees what was meant. Method: format the template.
    Oracle: the text of the parts with the inputs' names."""
    sql = Sql(tuple(parts))
    names = ["t0", "t1", "t2", "t3"]
    values = {"rand_seed": 7, "__data_partition__": 7, "batch_index": 7}
    formatted = sql.render().format(*names, **values)
    assert formatted.replace("007", "7") == sql.text(names, "7").replace("007", "7")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("select {{'x': a}} from {0}", "select {'x': a} from t"),
        ("select {'x': a} from {0}", "select {'x': a} from t"),
        ("select {a: 1, 'b': {'c': 2}} from {0}", "select {a: 1, 'b': {'c': 2}} from t"),
        ("select '}' from {0}", "select '}' from t"),
        ("select * from {}", "select * from t"),
    ],
)
def test_braces_of_structs(template: str, text: str) -> None:
    """Goal: struct literals mean themselves, escaped or not. Oracle: the text for the parser."""
    assert Sql.of_template(template).text(["t"]) == text


def test_placeholders_stay_placeholders() -> None:
    """Goal: partition numbers are filled in by the task. Oracle: the placeholders found."""
    sql = Sql.of_template("item, {__data_partition__} as p, {bucket} as b from {0}")
    assert sql.placeholders() == {"__data_partition__", "bucket"}
    assert sql.inputs() == [0]


def test_substitution_keeps_the_inner_escapes() -> None:
    """Goal: fusing does not unescape. Method: put a query with braces into another.
    Oracle: formatting once gives both queries as written."""
    inner = Sql.of_template("select {{'x': item}} as s, {rand_seed} as r from {0}")
    outer = Sql.of_template("select s.x, {{'y': r}} from {0}")
    fused = outer.substituted(lambda _: subquery(inner))
    text = " ".join(fused.render().format("t", rand_seed=1).split())
    assert text == "select s.x, {'y': r} from ( select {'x': item} as s, 1 as r from t )"


def test_inputs_that_need_a_name() -> None:
    """Goal: `{0}.a`, and an input used twice, are not replaced by a subquery. Oracle: the rule."""
    assert needs_name(Sql.of_template("select {0}.a from {0} join {1} on true"), 0)
    assert not needs_name(Sql.of_template("select {0}.a from {0} join {1} on true"), 1)
    assert not needs_name(Sql.of_template("select a from {0}"), 0)
