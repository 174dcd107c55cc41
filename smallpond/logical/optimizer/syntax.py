"""What a SQL text is, by DuckDB's own parser: row-wise or not, its columns, its conjuncts.

DuckDB gives its syntax tree as JSON (`json_serialize_sql`) and takes it back. The optimiser never
guesses from text: a query that the parser refuses is left alone, and its task shows the error.

Invariant: every answer is conservative; `False` and `None` mean "do not touch".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from smallpond.io.scratch import scratch_cursor

Tree = dict[str, Any]

VOLATILE = frozenset(
    ("random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "nextval", "setseed")
)


def parser_rows(sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    """Rows of a query that needs no data."""
    with scratch_cursor() as connection:
        return connection.execute(sql, parameters or []).fetchall()


@lru_cache(maxsize=4096)
def tree_json(query: str) -> str | None:
    try:
        [(text,)] = parser_rows("select json_serialize_sql(?::varchar)", [query])
    except Exception:
        return None
    return str(text)


def query_tree(query: str) -> Tree | None:
    """The node of a single SELECT statement; None when it is something else or an error."""
    text = tree_json(query)
    tree: Tree = json.loads(text) if text is not None else {"error": True}
    if tree.get("error") or len(tree["statements"]) != 1:
        return None
    node: Tree = tree["statements"][0]["node"]
    return node


def expression_text(expression: Tree) -> str:
    """The SQL text of one expression's tree."""
    tree = query_tree("select 1")
    assert tree is not None
    tree["select_list"] = [{**expression, "alias": ""}]
    document = json.dumps({"error": False, "statements": [{"node": tree, "named_param_map": []}]})
    [(text,)] = parser_rows("select json_deserialize_sql(?::json)", [document])
    assert str(text).startswith("SELECT ")
    return str(text)[len("SELECT ") :]


def trees_inside(value: Any) -> Iterator[Tree]:
    """Every object of a syntax tree, outer before inner."""
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from trees_inside(child)
    elif isinstance(value, list):
        for child in value:
            yield from trees_inside(child)


@lru_cache(maxsize=1)
def aggregate_names() -> frozenset[str]:
    """Every aggregate function that this DuckDB knows."""
    rows = parser_rows(
        "select distinct function_name from duckdb_functions() where function_type = 'aggregate'"
    )
    return frozenset(name for (name,) in rows) | {"count_star"}


def function_name(tree: Tree) -> str | None:
    """The lower-case name of a function call, for any other tree None."""
    if tree.get("class") != "FUNCTION":
        return None
    return str(tree["function_name"]).lower()


def is_aggregate(tree: Tree) -> bool:
    name = function_name(tree)
    return name is not None and not tree.get("is_operator") and name in aggregate_names()


def arguments(tree: Tree) -> list[Tree]:
    """The arguments of a call; DuckDB 2 wraps each in an object with its name."""
    if "arguments" in tree:
        return [one["expression"] for one in tree["arguments"]]
    return list(tree.get("children", []))


def is_volatile(query: str) -> bool:
    """Whether two evaluations may differ, as with `random()` or a sample."""
    tree = query_tree(query)
    if tree is None:
        return True
    return any(function_name(one) in VOLATILE or one.get("sample") for one in trees_inside(tree))


@lru_cache(maxsize=4096)
def is_rowwise(query: str) -> bool:
    """Whether the query maps rows one by one: its result on parts is the parts of its result."""
    tree = query_tree(query)
    return tree is not None and _maps_rows(tree) and tree["from_table"]["type"] == "BASE_TABLE"


@lru_cache(maxsize=4096)
def is_rowwise_nested(query: str) -> bool:
    """The same for such a query over another in its FROM, and so on."""
    tree = query_tree(query)
    while tree is not None and _maps_rows(tree):
        if tree["from_table"]["type"] == "BASE_TABLE":
            return True
        tree = tree["from_table"]["subquery"]["node"]
    return False


def _maps_rows(tree: Tree) -> bool:
    if tree.get("type") != "SELECT_NODE":
        return False
    if tree["modifiers"] or tree.get("group_expressions") or tree.get("having"):
        return False
    if tree.get("qualify") or tree.get("sample") or tree["cte_map"]["map"]:
        return False
    source = tree["from_table"]
    if source.get("type") not in ("BASE_TABLE", "SUBQUERY") or source.get("sample"):
        return False
    scopes = (tree["select_list"], tree.get("where_clause"))
    for one in trees_inside(list(scopes)):
        if one.get("class") in ("WINDOW", "SUBQUERY") or is_aggregate(one):
            return False
    handling: str = tree.get("aggregate_handling", "STANDARD_HANDLING")
    return handling == "STANDARD_HANDLING"


def column_names(expression: Tree | list[Tree]) -> set[str] | None:
    """The columns that an expression may read; None when it may read all (`*`, subqueries)."""
    names: set[str] = set()
    for one in trees_inside(expression):
        kind = one.get("class")
        if kind in ("STAR", "SUBQUERY"):
            return None
        if kind == "COLUMN_REF":
            # `t.c` and `c.field` look alike: each part may be the column.
            names.update(one["column_names"])
    return names


def select_list(expressions: str) -> list[Tree] | None:
    """The trees of a comma-separated list of expressions."""
    tree = query_tree(f"select {expressions}\nfrom t")
    if tree is None or tree.get("type") != "SELECT_NODE":
        return None
    return list(tree["select_list"])


def conjuncts(predicate: str) -> list[Tree]:
    """The parts of a predicate that must all hold."""
    trees = select_list(f"({predicate}\n)")
    if trees is None or len(trees) != 1:
        return []
    found: list[Tree] = []

    def split(tree: Tree) -> None:
        if tree.get("type") == "CONJUNCTION_AND":
            for child in tree["children"]:
                split(child)
        else:
            found.append(tree)

    split(trees[0])
    return found


def quoted(name: str) -> str:
    """A column name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(value: str) -> str:
    """A string as a SQL constant."""
    return "'" + value.replace("'", "''") + "'"
