"""What all relational nodes share: one query over whole inputs, and options for its tasks.

Invariants: `query` names input `n` as `Sql.input(n)` exactly once or through a CTE, so that an
input is evaluated once; a relational node never reaches the planner.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, ClassVar

from smallpond.logical.node import Context, Node
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.udf import UserDefinedFunction

NODE_OPTIONS = ("output_name", "output_path", "cpu_limit", "gpu_limit", "memory_limit")


class RelationalNode(Node):
    """An operation on whole tables."""

    operation: ClassVar[str] = "relation"

    def __init__(self, ctx: Context, input_deps: Iterable[Node], **options: Any) -> None:
        """`options` are those of `SqlEngineNode`; `npartitions` fixes the number of exchanges."""
        self.npartitions: int | None = options.pop("npartitions", None)
        udfs = options.pop("udfs", None) or ()
        self.options = {name: value for name, value in options.items() if value is not None}
        common = {name: self.options[name] for name in NODE_OPTIONS if name in self.options}
        super().__init__(ctx, tuple(input_deps), **common)
        self.udfs = [registered(ctx, udf) for udf in udfs]

    def query(self) -> Sql:
        """The operation as one query over its inputs."""
        raise NotImplementedError

    def detail(self) -> str:
        """What `explain` shows next to the operation."""
        return ""

    def parameters(self) -> Hashable:
        """Equal parameters over equal inputs are equal results."""
        return self.query().render()

    @property
    def num_partitions(self) -> int:
        """To its user, the result of a relational operation is one partition."""
        return 1

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.operation}: {self.detail()}"


def registered(ctx: Context, udf: UserDefinedFunction | str) -> str:
    """The name under which the context knows a function, an extension or a module."""
    if isinstance(udf, UserDefinedFunction):
        return ctx.create_function(
            udf.name, udf.func, udf.params, udf.return_type, udf.use_arrow_type
        )
    if udf in ctx.udfs:
        return udf
    if udf.endswith(".duckdb_extension"):
        return ctx.create_duckdb_extension(udf)
    if udf.endswith(".so"):
        return ctx.create_external_module(udf)
    raise ValueError(
        f"invalid udf {udf!r}: give a function made with @udf, or a path to a .duckdb_extension "
        "or .so file"
    )
