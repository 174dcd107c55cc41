"""A join over partitions: which strategy, which keys, and what to do about heavy keys.

Broadcast copies a small side to every partition of the other; hash brings equal keys of both sides
together; merge deals both sides by the same ranges of the key, which leaves the result in the
order of the key. A side may be copied only where its own unmatched rows are not part of the result.

Invariant: both sides of a key are cast to the type in which DuckDB compares them before hashing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from smallpond.logical.node import (
    ConsolidateNode,
    EvenlyDistributedPartitionNode,
    ExchangeNode,
)
from smallpond.logical.optimizer.ranges import exchanged, split_points
from smallpond.logical.optimizer.schema import common_type
from smallpond.logical.optimizer.skew import HeavyKeys, heavy_keys
from smallpond.logical.optimizer.stage import Stage, composed, cut, ended, gathered, plain
from smallpond.logical.optimizer.syntax import column_names, quoted, select_list
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.join import JoinNode

if TYPE_CHECKING:
    from smallpond.logical.optimizer.exchange import ExchangeLowering

# Which side may be seen by several tasks, by kind of join.
COPY_RIGHT = ("inner", "left", "semi", "anti", "cross", "asof")
COPY_LEFT = ("inner", "right", "cross")


class ExchangeJoin:
    """Lowers one join."""

    def __init__(
        self, lowering: ExchangeLowering, node: JoinNode, left: Stage, right: Stage
    ) -> None:
        self.lowering = lowering
        self.node = node
        self.left = left
        self.right = right
        self.settings = lowering.settings
        self.statistics = lowering.statistics

    def lowered(self) -> Stage:
        """The stage of the join."""
        strategy = self.strategy()
        self.lowering.notes.append(f"join: {self.node!r} by {strategy}")
        if strategy == "broadcast right":
            return self.joined(self.spread(self.left), self.copied(self.right))
        if strategy == "broadcast left":
            return self.joined(self.copied(self.left), self.spread(self.right))
        if strategy == "merge":
            return self.merge()
        if strategy == "hash":
            return self.hash()
        one = [gathered(stage, self.settings) for stage in (self.left, self.right)]
        return self.joined(*one)

    def strategy(self) -> str:
        """By the user's word, else by size."""
        spec, wanted = self.node.spec, self.node.strategy
        left, right = (self.statistics.of(dep).bytes for dep in self.node.input_deps)
        small = self.settings.broadcast_bytes_max
        right_fits = spec.how in COPY_RIGHT and (right <= small or wanted == "broadcast")
        left_fits = spec.how in COPY_LEFT and (left <= small or wanted == "broadcast")
        keyed = bool(spec.left_on) and self.key_types() is not None
        if wanted == "merge" and keyed and len(spec.left_on) == 1 and spec.how != "asof":
            return "merge"
        if wanted == "hash" and keyed:
            return "hash"
        if right_fits and (right <= left or not left_fits):
            return "broadcast right"
        if left_fits:
            return "broadcast left"
        if keyed:
            return "hash"
        if spec.how in COPY_RIGHT:
            return "broadcast right"
        return "broadcast left" if spec.how in COPY_LEFT else "one partition"

    def joined(self, left: Stage, right: Stage) -> Stage:
        """The join partition by partition."""
        node = self.node
        return composed(node.query(), [left, right], node, options=node.options, ordered=False)

    def spread(self, stage: Stage) -> Stage:
        """The side that stays where it is."""
        return stage

    def copied(self, stage: Stage) -> Stage:
        """The side that every partition of the other sees."""
        done = cut(stage, self.settings)
        if done.count == 1:
            return done
        dealt = done.inputs[0]
        if isinstance(dealt, EvenlyDistributedPartitionNode) and stage.is_plain and stage.free:
            # A source need not be dealt to be put together again.
            return plain(dealt.input_deps[0], ordered=False)
        one = ConsolidateNode(self.node.ctx, ended(done, self.settings), [])
        one.location = self.node.location
        return plain(one, ordered=False)

    def key_types(self) -> list[str] | None:
        """The type in which each pair of keys is compared."""
        schemas = [self.lowering.schemas.of(dep) for dep in self.node.input_deps]
        if schemas[0] is None or schemas[1] is None:
            return None
        left, right = ({n.lower(): kind for n, kind in one} for one in schemas if one is not None)
        found = []
        for mine, other in zip(self.node.spec.left_on, self.node.spec.right_on, strict=True):
            kind = common_type([left[mine.lower()], right[other.lower()]])
            if kind is None:
                return None
            found.append(kind)
        return found

    def keys(self, names: tuple[str, ...]) -> list[str]:
        """The key expressions of one side in the common types."""
        kinds = self.key_types() or []
        return [f"{quoted(name)}::{kind}" for name, kind in zip(names, kinds, strict=True)]

    def pruned(self, stage: Stage, side: int) -> Stage:
        """One side with the columns that the join reads; the others do not travel."""
        needed = self.needed(side)
        schema = self.lowering.schemas.of(self.node.input_deps[side])
        if needed is None or schema is None:
            return stage
        kept = [name for name, _ in schema if name.lower() in needed]
        if not kept or len(kept) == len(schema):
            return stage
        self.lowering.notes.append(
            f"projection: {len(kept)} of {len(schema)} columns of {self.node.input_deps[side]!r} "
            f"travel to {self.node!r}"
        )
        columns = ", ".join(quoted(name) for name in kept)
        query = Sql.concat(f"select {columns}\nfrom ", Sql.input(0))
        return composed(query, [stage], self.node, ordered=stage.ordered)

    def needed(self, side: int) -> set[str] | None:
        """The columns of one side that the join reads, in lower case; None: all."""
        spec = self.node.spec
        names = set(spec.right_on if side else spec.left_on)
        for column in self.node.columns:
            if column.side == "both":
                names.add(column.right_name if side else column.name)
            elif column.side == ("r" if side else "l"):
                names.add(column.name)
        if spec.nearest is not None:
            names.add(spec.nearest[2 if side else 0])
        if spec.condition is not None:
            read = column_names(select_list(spec.condition) or [])
            if not read:
                return None
            names |= read
        return {name.lower() for name in names}

    def hash(self) -> Stage:
        """Equal keys of both sides in one partition; heavy ones in several."""
        node, spec = self.node, self.node.spec
        count = self.lowering.partitions(
            max(node.input_deps, key=lambda dep: self.statistics.of(dep).bytes), node.npartitions
        )
        sides = [self.pruned(self.left, 0), self.pruned(self.right, 1)]
        heavy = heavy_keys(self.lowering, node, self.keys(spec.left_on), count)
        if heavy is not None:
            self.lowering.notes.append(f"skew: {heavy.count} heavy keys of {node!r} are split")
            return self.skewed(sides, heavy, count)
        ends = [
            self.lowering.hashed(
                self.lowering.fusable_producer(side), self.keys(names), count, node
            )
            for side, names in zip(sides, (spec.left_on, spec.right_on), strict=True)
        ]
        return self.joined(*ends)

    def skewed(self, sides: list[Stage], heavy: HeavyKeys, count: int) -> Stage:
        """Rows of heavy keys are dealt over all partitions; their matches are copied to each."""
        ends = []
        texts = (
            heavy.dealt(self.keys(self.node.spec.left_on), count),
            heavy.copied(self.keys(self.node.spec.right_on), count),
        )
        for side, query in zip(sides, texts, strict=True):
            marked = self.lowering.fusable_producer(
                composed(query, [side], self.node, ordered=False)
            )
            exchange = ExchangeNode(
                self.node.ctx,
                marked.inputs,
                count,
                partition_by="__partition",
                query=marked.statement().render(),
                udfs=list(marked.udfs),
            )
            exchange.location = self.node.location
            ends.append(replace(plain(exchange, count, ordered=False), origins=marked.origins))
        return self.joined(*ends)

    def merge(self) -> Stage:
        """Both sides dealt by the same ranges of the key, and joined in its order."""
        node, spec = self.node, self.node.spec
        larger = max((0, 1), key=lambda side: self.statistics.of(node.input_deps[side]).bytes)
        count = self.lowering.partitions(node.input_deps[larger], node.npartitions)
        sides = [self.pruned(self.left, 0), self.pruned(self.right, 1)]
        data = [ended(cut(side, self.settings), self.settings) for side in sides]
        orders = [self.keys(spec.left_on), self.keys(spec.right_on)]
        points = split_points(node, data[larger], orders[larger], count)
        ends = [
            exchanged(node, one, order, points, count)
            for one, order in zip(data, orders, strict=True)
        ]
        return self.joined(*ends)
