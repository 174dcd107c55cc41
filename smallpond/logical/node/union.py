"""Several flows of data as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    from smallpond.logical.node.context import Context


class UnionNode(Node):
    """All partitions of all inputs, which must have the same set of partition dimensions."""

    def __init__(self, ctx: Context, input_deps: Sequence[Node]) -> None:
        """Unite `input_deps`; no data moves."""
        super().__init__(ctx, input_deps)
