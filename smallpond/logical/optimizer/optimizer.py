"""The optimiser's face: logical nodes in, nodes for the planner out.

Order of work: equal sub-plans become one; filters and limits move down and files are pruned; then
everything is lowered, to one task a pipeline or to exchanges. Every decision leaves a note, which
`explain` shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from smallpond.logical.node import Node
from smallpond.logical.optimizer.exchange import ExchangeLowering
from smallpond.logical.optimizer.graph import nodes_of, users_of, with_inputs
from smallpond.logical.optimizer.large_orders import LargeOrderLowering, is_large_order
from smallpond.logical.optimizer.lower import Lowering
from smallpond.logical.optimizer.rules.common import merged_common
from smallpond.logical.optimizer.rules.filters import FilterRule
from smallpond.logical.optimizer.rules.limits import limit_pushed
from smallpond.logical.optimizer.rules.pruning import files_pruned
from smallpond.logical.optimizer.schema import SchemaFinder
from smallpond.logical.optimizer.settings import OptimizerSettings
from smallpond.logical.optimizer.statistics import Statistics


class Optimizer:
    """Optimises the plans of one run."""

    def __init__(
        self,
        exclude_nodes: Iterable[Node] = (),
        settings: OptimizerSettings | None = None,
        finished: Mapping[int, Node] | None = None,
        schemas: SchemaFinder | None = None,
    ) -> None:
        """`exclude_nodes` stay as they are; `finished` maps the id of a node that has run to the
        planner's node that holds its result."""
        self.exclude_nodes = set(exclude_nodes)
        self.optimized_node_map: dict[Node, Node] = {}
        self.settings = settings or OptimizerSettings()
        self.finished = finished or {}
        self.schemas = schemas or SchemaFinder()
        self.statistics = Statistics()
        self.notes: list[str] = []
        self.rewritten: list[Node] = []

    def visit(self, node: Node, depth: int = 0) -> Node:
        """The node that the planner should run in place of this one."""
        if node not in self.optimized_node_map:
            [optimized] = self.visit_all([node])
            self.optimized_node_map[node] = optimized
        return self.optimized_node_map[node]

    def visit_all(self, nodes: Sequence[Node]) -> list[Node]:
        """The same for several results of one run; what they share is computed once."""
        roots = merged_common(list(nodes), self.notes, self.is_done)
        roots = self.rewrite(roots)
        self.rewritten = roots
        lowering = self.lowering_class(roots)(
            self.settings, self.statistics, self.schemas, self.done, roots, self.notes
        )
        optimized = [lowering.node(root) for root in roots]
        self.optimized_node_map.update(zip(nodes, optimized, strict=True))
        return optimized

    def done(self, node: Node) -> Node | None:
        """The node that already holds the result of another."""
        if node in self.exclude_nodes:
            return node
        return self.finished.get(node.id)

    def is_done(self, node: Node) -> bool:
        return self.done(node) is not None

    def rewrite(self, roots: list[Node]) -> list[Node]:
        """The plan with filters and limits as low as they go."""
        users = users_of(roots, self.is_done)
        rule = FilterRule(self.schemas, self.notes)
        new: dict[int, Node] = {}
        for node in nodes_of(roots, self.is_done):
            if self.is_done(node):
                new[id(node)] = node
                continue
            rebuilt = with_inputs(node, [new[id(dep)] for dep in node.input_deps])
            alone = all(
                len(users[id(dep)]) == 1 and not self.is_done(dep) for dep in node.input_deps
            )
            if alone:
                rebuilt = self.moved(rebuilt, rule)
            new[id(node)] = rebuilt
        return [new[id(root)] for root in roots]

    def moved(self, node: Node, rule: FilterRule) -> Node:
        node = rule.applied(node)
        node = limit_pushed(node, self.notes)
        return pruned_below(node, self.notes)

    def lowering_class(self, roots: Sequence[Node]) -> type[Lowering]:
        """By exchanges, one task a pipeline, or both."""
        if self.spreads(roots):
            return ExchangeLowering
        pending = [node for node in nodes_of(roots, self.is_done) if not self.is_done(node)]
        if self.settings.mode == "auto" and any(
            is_large_order(node, self.statistics, self.schemas, self.settings) for node in pending
        ):
            return LargeOrderLowering
        return Lowering

    def spreads(self, roots: Sequence[Node]) -> bool:
        """Whether the work is spread by exchanges."""
        settings = self.settings
        if settings.mode != "auto":
            return settings.mode == "exchange"
        if settings.machines > 1:
            return True
        largest = max((self.statistics.of(node).bytes for node in nodes_of(roots)), default=0)
        if largest > settings.spill_factor * settings.memory_bytes:
            self.notes.append(
                f"exchanges: about {largest / 2**30:.1f} GiB at once are more than one task "
                f"spills well with {settings.memory_bytes / 2**30:.1f} GiB of memory"
            )
            return True
        return False


def pruned_below(node: Node, notes: list[str]) -> Node:
    """Pruning of every filter over a source that a rule may just have made."""
    done: dict[int, Node] = {}
    for one in nodes_of([node]):
        rebuilt = with_inputs(one, [done[id(dep)] for dep in one.input_deps])
        done[id(one)] = files_pruned(rebuilt, notes)
    return done[id(node)]
