"""Heavy keys of a join: found in a sample while planning, split over all partitions.

A hash join puts all rows of a key into one task. When the left side's sample shows keys with a
large share of a partition, their rows are dealt to all partitions in turn and the right side's
rows of these keys are copied to all, which every kind of join allows that keeps no unmatched rows
of the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smallpond.logical.node import DataSourceNode, Node
from smallpond.logical.optimizer.stage import IDENTITY, Stage, composed
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational import FilterNode, MapNode, SelectNode
from smallpond.logical.relational.join import JoinNode

if TYPE_CHECKING:
    from smallpond.logical.dataset import DataSet
    from smallpond.logical.optimizer.exchange import ExchangeLowering

SAMPLE_ROWS = 20_000
SAMPLE_PLACES = 8
HEAVY_KEYS_MAX = 32
SPLITTABLE = ("inner", "left", "semi", "anti")


@dataclass(frozen=True)
class HeavyKeys:
    """Heavy keys by their hashes, in the common types of the join."""

    hashes: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.hashes)

    def condition(self, keys: Sequence[str]) -> str:
        listed = ", ".join(f"{value}::ubigint" for value in self.hashes)
        return f"hash({', '.join(keys)}) in ({listed})"

    def dealt(self, keys: Sequence[str], count: int) -> Sql:
        """The left side with its partition: any for heavy keys."""
        chosen = f"hash({', '.join(keys)})"
        return Sql.concat(
            f"select *, (case when {self.condition(keys)} then floor(random() * {count})::ubigint "
            f"else {chosen} % {count} end)::integer as __partition\nfrom ",
            Sql.input(0),
        )

    def copied(self, keys: Sequence[str], count: int) -> Sql:
        """The right side with its partitions: all of them for heavy keys."""
        chosen = f"hash({', '.join(keys)})"
        return Sql.concat(
            f"select *, unnest(case when {self.condition(keys)} then range({count}) "
            f"else [({chosen} % {count})::bigint] end)::integer as __partition\nfrom ",
            Sql.input(0),
        )


def heavy_keys(
    lowering: ExchangeLowering, node: JoinNode, keys: Sequence[str], count: int
) -> HeavyKeys | None:
    """Keys of the left side that would make one partition much larger than the others."""
    if node.spec.how not in SPLITTABLE or count < 2:
        return None
    probe = sampled(lowering, node.input_deps[0])
    if probe is None:
        return None
    import duckdb

    stage, sources = probe
    hashed = f"hash({', '.join(keys)})"
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        try:
            names = []
            for index, source in enumerate(sources):
                fragment = some_rows(source.dataset).sql_query_fragment(conn=connection)
                connection.execute(
                    f"create view input_{index} as select * from {fragment} limit {SAMPLE_ROWS}"
                )
                names.append(f"input_{index}")
            rows = connection.execute(
                f"select {hashed}, count(*) as rows, sum(rows) over () from "
                f"({stage.statement().text(names)}\n) group by 1 order by rows desc "
                f"limit {HEAVY_KEYS_MAX}"
            ).fetchall()
        except (duckdb.Error, NotImplementedError):
            return None
    share = lowering.settings.skew_share / count
    found = tuple(int(key) for key, hits, total in rows if hits > share * float(total) and hits > 8)
    return HeavyKeys(found) if found else None


def some_rows(dataset: DataSet) -> DataSet:
    """Short ranges of rows from all over a set of files; other data as it is."""
    from smallpond.io.arrow import RowRange
    from smallpond.logical.dataset import ParquetDataSet

    if not isinstance(dataset, ParquetDataSet) or dataset.num_rows <= SAMPLE_ROWS:
        return dataset
    ranges = dataset.resolved_row_ranges
    step = max(1, len(ranges) // SAMPLE_PLACES)
    chosen = ranges[::step][:SAMPLE_PLACES]
    places = max(1, SAMPLE_PLACES // len(chosen))
    rows = SAMPLE_ROWS // (places * len(chosen))
    pieces = []
    for one in chosen:
        for place in range(places):
            begin = one.begin + one.num_rows * place // places
            end = min(begin + rows, one.begin + one.num_rows * (place + 1) // places)
            if begin < end:
                pieces.append(RowRange(one.path, one.data_size, one.file_num_rows, begin, end))
    return dataset.with_row_ranges(pieces)


def sampled(lowering: ExchangeLowering, node: Node) -> tuple[Stage, list[DataSourceNode]] | None:
    """The query of a node over its sources alone; None when it is more than row-wise."""
    if isinstance(node, DataSourceNode):
        return Stage((node,), IDENTITY), [node]
    if not isinstance(node, FilterNode | MapNode | SelectNode) or node.udfs:
        return None
    selects = isinstance(node, SelectNode)
    query = node.query() if selects else Sql.of_template(node.sql_queries[0])  # type: ignore
    if query.placeholders():
        return None
    inner = sampled(lowering, node.input_deps[0])
    if inner is None:
        return None
    return composed(query, [inner[0]], node), inner[1]
