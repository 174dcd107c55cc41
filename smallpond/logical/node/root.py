"""The top of a plan with several results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smallpond.logical.node.base import Node

if TYPE_CHECKING:
    from smallpond.logical.node.context import Context


class RootNode(Node):
    """Waits for all its inputs and puts out nothing."""

    def __init__(self, ctx: Context, input_deps: Sequence[Node]) -> None:
        """Assemble `input_deps` under one root."""
        super().__init__(ctx, input_deps)
