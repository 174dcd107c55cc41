"""The plans that the optimiser makes: what is fused, moved, shared, cut and spread."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from smallpond.dataframe import DataFrame, Session
from smallpond.logical.node import (
    ArrowBatchNode,
    ConsolidateNode,
    DataSourceNode,
    ExchangeNode,
    LogicalPlanVisitor,
    Node,
    SqlEngineNode,
)
from smallpond.logical.optimizer import Optimizer, OptimizerSettings
from smallpond.logical.optimizer.graph import nodes_of
from smallpond.logical.relational import FilterNode, JoinNode, SortNode
from tests.smallpond.frame.conftest import SessionMaker

T = pa.table({"k": list(range(100)), "v": list(range(100)), "s": ["x"] * 100})


def optimized(frame: DataFrame, **settings: object) -> tuple[Node, Optimizer]:
    """The plan of a frame, lowered to one task unless the settings say otherwise."""
    given = {"mode": "single", "cpus": 2, **settings}
    optimizer = Optimizer(set(), OptimizerSettings(**given))  # type: ignore[arg-type]
    return optimizer.visit(frame.plan), optimizer


def kinds(root: Node) -> list[str]:
    return sorted(type(node).__name__ for node in nodes_of([root]))


def queries(root: Node) -> list[str]:
    return [node.sql_queries[-1] for node in nodes_of([root]) if isinstance(node, SqlEngineNode)]


def test_a_pipeline_is_one_task(sp: Session) -> None:
    """Goal: relational steps over sources are one query with all cores. Oracle: the nodes."""
    t = sp.from_arrow(T)
    other = sp.from_arrow(T.slice(50)).map("k, v + 1 as w")
    frame = t.filter("v > 3").join(other, on="k").group_by("s").agg("sum(w)").sort("s")
    root, _ = optimized(frame)
    assert kinds(root) == ["DataSourceNode", "DataSourceNode", "SqlEngineNode"]
    assert root.cpu_limit == 2


def test_python_code_cuts(sp: Session) -> None:
    """Goal: only Python code ends a query. Oracle: the chain of nodes."""
    frame = sp.from_arrow(T).filter("v > 3").map(lambda row: row).filter("v < 9").map("v")
    root, _ = optimized(frame)
    assert [type(node) for node in nodes_of([root])] == [
        DataSourceNode,
        SqlEngineNode,
        ArrowBatchNode,
        SqlEngineNode,
    ]


def test_global_limit_is_not_fused_over_partitions(sp: Session) -> None:
    """Goal: first of each partition, then of all, then what follows. Oracle: the nodes."""
    root, _ = optimized(sp.from_arrow(T).repartition(4, by_rows=True).limit(2).map("v + 1"))
    assert isinstance(root, SqlEngineNode) and isinstance(root.input_deps[0], ConsolidateNode)
    assert "limit 2" in root.sql_queries[-1] and "v + 1" in root.sql_queries[-1]
    assert "limit 2" in queries(root)[0]


def test_named_outputs_are_kept(sp: Session) -> None:
    """Goal: an output that the user named is made, though it could be fused. Oracle: its node."""
    root, _ = optimized(sp.from_arrow(T).map("v", output_name="values").filter("v > 1"))
    names = [node.output_name for node in nodes_of([root])]
    assert names == [None, "values", None]


def test_filters_move_below_joins_and_sorts(sp: Session) -> None:
    """Goal: each conjunct goes to the side that it reads. Oracle: the rewritten plan."""
    left, right = sp.from_arrow(T), sp.from_arrow(T.rename_columns(["k", "w", "z"]))
    frame = left.join(right, on="k").sort("v").filter("v > 5 and w < 9 and v + w > 7")
    _, optimizer = optimized(frame)
    [root] = optimizer.rewritten
    order = [type(node) for node in nodes_of([root])]
    assert isinstance(root, SortNode)
    assert order.count(FilterNode) == 3 and order[-2:] == [FilterNode, SortNode]
    join = next(node for node in nodes_of([root]) if isinstance(node, JoinNode))
    assert all(isinstance(dep, FilterNode) for dep in join.input_deps)


@pytest.mark.parametrize(("how", "sides"), [("left", [True, False]), ("full", [False, False])])
def test_filters_stay_above_outer_joins(sp: Session, how: str, sides: list[bool]) -> None:
    """Goal: rows of a side that is filled with NULLs are not dropped before. Oracle: the plan."""
    left, right = sp.from_arrow(T), sp.from_arrow(T.rename_columns(["k", "w", "z"]))
    frame = left.join(right, on="k", how=how).filter("v > 5 and w < 9")  # type: ignore[arg-type]
    _, optimizer = optimized(frame)
    join = next(n for n in nodes_of(optimizer.rewritten) if isinstance(n, JoinNode))
    assert [isinstance(dep, FilterNode) for dep in join.input_deps] == sides


def test_filters_do_not_pass_what_they_read(sp: Session) -> None:
    """Goal: filters on aggregates stay above, on keys go below; chance moves nowhere.
    Oracle: the rewritten plans."""
    grouped = sp.from_arrow(T).group_by("k").agg(n="count(*)")
    _, optimizer = optimized(grouped.filter("n > 1"))
    assert isinstance(optimizer.rewritten[0], FilterNode)
    _, optimizer = optimized(grouped.filter("k > 1"))
    assert not isinstance(optimizer.rewritten[0], FilterNode)
    _, optimizer = optimized(sp.from_arrow(T).sort("k").filter("random() > 0.5"))
    assert isinstance(optimizer.rewritten[0], FilterNode)


def test_limits_become_first_rows(sp: Session) -> None:
    """Goal: a limit of a sort is no full sort, also below a projection. Oracle: the plan."""
    _, optimizer = optimized(sp.from_arrow(T).sort("k").select("k", "v + 1 as w").limit(5))
    sort = next(n for n in nodes_of(optimizer.rewritten) if isinstance(n, SortNode))
    assert sort.limit == 5


def test_equal_plans_are_one(sp: Session) -> None:
    """Goal: what is written twice is computed once. Oracle: one scan, named in the query."""
    one, two = (sp.from_arrow(T) for _ in range(2))
    shared = one.filter("v > 3").group_by("k").agg(n="count(*)")
    root, optimizer = optimized(shared.join(shared.select("k", "n as m"), on="k"))
    assert kinds(root) == ["DataSourceNode", "SqlEngineNode"]
    assert queries(root)[0].count("count(*)") == 1
    assert any("common sub-plan" in note for note in optimizer.notes)
    root, _ = optimized(one.union(two))
    assert kinds(root).count("DataSourceNode") == 2


def test_equal_files_are_one_scan(sp: Session, tmp_path: Path) -> None:
    """Goal: two reads of the same files with the same filter are one. Oracle: the sources."""
    sp.from_arrow(T).write_parquet(str(tmp_path / "t"))
    one, two = (sp.read_parquet(str(tmp_path / "t")).filter("v > 3") for _ in range(2))
    root, _ = optimized(one.join(two, on="k"))
    assert kinds(root).count("DataSourceNode") == 1


def test_what_two_outputs_share_is_made_once(sp: Session) -> None:
    """Goal: two results of one run do not repeat their common part. Oracle: the nodes."""
    shared = sp.from_arrow(T).group_by("k").agg(n="count(*)")
    optimizer = Optimizer(set(), OptimizerSettings(mode="single"))
    roots = optimizer.visit_all([shared.filter("n > 0").plan, shared.sort("k").plan])
    made = [query for node in nodes_of(roots) for query in getattr(node, "sql_queries", [])]
    assert sum("count(*)" in query for query in made) == 1


def test_hive_partitions_are_pruned(sp: Session, tmp_path: Path) -> None:
    """Goal: files that a filter excludes leave the plan. Oracle: the data set that is read."""
    target = str(tmp_path / "t")
    sp.from_arrow(T.append_column("p", pa.array([i % 5 for i in range(100)]))).write_parquet(
        target, partition_by="p"
    )
    frame = sp.read_parquet(target, recursive=True).filter("p in (1, 2) and v > 50")
    root, optimizer = optimized(frame)
    [source] = [node for node in nodes_of([root]) if isinstance(node, DataSourceNode)]
    assert len(source.dataset.resolved_paths) == 2
    assert any("2 of 5 files" in note for note in optimizer.notes)
    assert sorted(row["p"] for row in frame.take_all()) == [1] * 10 + [2] * 10


def test_exchanges_carry_what_is_needed(sp: Session) -> None:
    """Goal: two phases, keys in common types, no column that nobody reads. Oracle: the exchanges
    and their producers' queries."""
    left = sp.from_arrow(T)
    right = sp.from_arrow(pa.table({"k": [1.0, 2.0], "w": [1, 2], "unused": ["", ""]}))
    frame = left.join(right, on="k", strategy="hash").group_by("w").agg("sum(v) as v")
    root, optimizer = optimized(frame, mode="exchange", npartitions=3)
    exchanges = [node for node in nodes_of([root]) if isinstance(node, ExchangeNode)]
    assert [node.keys for node in exchanges] == [['"k"::DOUBLE'], ['"k"::DOUBLE'], ["__key_0"]]
    sent = [node.query for node in exchanges]
    assert "unused" not in str(sent) and '"s"' not in str(sent)
    assert any("two-phase" in note for note in optimizer.notes)
    assert isinstance(root, SqlEngineNode)


def test_heavy_keys_are_split(make_session: SessionMaker) -> None:
    """Goal: a key with most of the rows does not go to one task. Method: 90 % of rows have one key.
    Oracle: the note, the partitions' sizes, and the count."""
    sp = make_session(lowering="exchange", npartitions=4)
    keys = [0] * 9000 + list(range(1, 1001))
    left = sp.from_arrow(pa.table({"k": keys, "v": list(range(10_000))}))
    right = sp.from_arrow(pa.table({"k": list(range(1001)), "w": list(range(1001))}))
    frame = left.join(right, on="k", strategy="hash")
    sizes = [dataset.num_rows for dataset in frame._compute()]
    assert frame.optimizer is not None
    assert any("skew" in note for note in frame.optimizer.notes)
    assert sum(sizes) == 10_000 and max(sizes) < 4000
    anti = left.join(right.filter("k > 0"), on="k", how="anti", strategy="hash")
    assert anti.count() == 9000


def test_small_sides_are_copied(sp: Session) -> None:
    """Goal: size decides between copying and hashing. Oracle: the notes."""
    left, right = sp.from_arrow(T), sp.from_arrow(T.rename_columns(["k", "w", "z"]))
    frame = left.join(right, on="k")
    _, optimizer = optimized(frame, mode="exchange", npartitions=2)
    assert any("broadcast" in note for note in optimizer.notes)
    _, optimizer = optimized(frame, mode="exchange", npartitions=2, broadcast_bytes_max=1)
    assert any("by hash" in note for note in optimizer.notes)


def test_size_decides_between_one_task_and_exchanges(sp: Session) -> None:
    """Goal: one machine runs one task while it spills well; several machines share the work.
    Oracle: the nodes for different settings."""
    frame = sp.from_arrow(pa.table({"k": list(range(300_000))})).sort("k")
    root, _ = optimized(frame, mode="auto", memory_bytes=1 << 30)
    assert "ExchangeNode" not in kinds(root)
    root, _ = optimized(frame, mode="auto", memory_bytes=1 << 14)
    assert "ExchangeNode" in kinds(root)
    root, _ = optimized(frame, mode="auto", machines=2)
    assert "ExchangeNode" in kinds(root)


def test_large_orders_are_cut_into_ranges(sp: Session) -> None:
    """Goal: on one machine, rows that memory cannot hold are put in order by ranges, without being
    written before they are dealt; everything else stays one task. Oracle: the plan."""
    table = sp.from_arrow(pa.table({"k": list(range(600_000)), "v": [1] * 600_000}))
    memory_bytes = 1 << 20
    frame = table.select("k + v as k, v").filter("k % 2 = 0").sort("k desc")
    root, optimizer = optimized(frame, mode="auto", memory_bytes=memory_bytes)
    [exchange] = [node for node in nodes_of([root]) if isinstance(node, ExchangeNode)]
    assert exchange.query is not None and "k % 2" in exchange.query.replace("(", "")
    assert any("sampled ranges" in note for note in optimizer.notes)
    ranges = kinds(optimized(table.random_shuffle(), mode="auto", memory_bytes=memory_bytes)[0])
    assert ranges.count("ExchangeNode") == 1
    for other in (
        table.join(table.select("k", "v as w"), on="k"),
        table.group_by("k").agg("sum(v) as v").sort("k"),
        table.sort("k").limit(3),
    ):
        assert "ExchangeNode" not in kinds(optimized(other, mode="auto", memory_bytes=1 << 22)[0])
    after = optimized(
        table.join(table.map("k, 1 as w"), on="k").sort("k"), mode="auto", memory_bytes=memory_bytes
    )[0]
    assert kinds(after).count("ExchangeNode") == 1


def test_excluded_nodes_stay(sp: Session) -> None:
    """Goal: the published face: nodes that have run are not rewritten. Oracle: identity."""
    done = sp.from_arrow(T).filter("v > 1")
    more = done.map("v")
    root = Optimizer({done.plan}).visit(more.plan)
    assert root.input_deps[0] is done.plan
    assert Optimizer({done.plan}).visit(done.plan) is done.plan


def test_lowered_plans_have_only_published_kinds(sp: Session) -> None:
    """Goal: the planner knows every node of a lowered plan. Oracle: a visitor of all of them."""
    t = sp.from_arrow(T)
    frame = t.union(t.sample(0.5)).distinct("k").join(t, on="k", how="full").random_shuffle()
    for mode in ("single", "exchange"):
        root, _ = optimized(frame, mode=mode, npartitions=2)
        LogicalPlanVisitor[None]().visit(root)
