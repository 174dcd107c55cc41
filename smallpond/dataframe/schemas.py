"""The schema of a frame, from its plan or, where only code knows it, from its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smallpond.common import SmallpondError
from smallpond.logical.optimizer.schema import Schema, schema_of_arrow

if TYPE_CHECKING:
    from smallpond.dataframe.frame import DataFrame
    from smallpond.logical.node import Node

__all__ = ["Schema", "known_schema"]


def known_schema(frame: DataFrame) -> Schema:
    """The schema; computes the inputs of which the plan does not tell it."""
    finder = frame.session._schemas
    schema = finder.of(frame.plan)
    if schema is None:
        compute_unknown(frame, frame.plan)
        schema = finder.of(frame.plan)
    if schema is None:
        # The query is wrong or its types depend on data: running it tells.
        learn(frame)
        schema = finder.known.get(frame.plan)
    if schema is None:
        raise SmallpondError(
            f"the schema of {frame.plan!r} (made at {frame.plan.location}) is "
            "not known: it has no rows and no declared types"
        )
    return schema


def compute_unknown(frame: DataFrame, node: Node) -> None:
    """Learn the schemas of the lowest nodes whose types only running them tells."""
    finder = frame.session._schemas
    for dep in node.input_deps:
        if finder.of(dep) is None:
            compute_unknown(frame, dep)
    if finder.of(node) is None and all(finder.of(dep) is not None for dep in node.input_deps):
        learn(frame._derived(node))


def learn(frame: DataFrame) -> None:
    """Compute a frame and keep the schema of its files."""
    for dataset in frame._compute():
        if dataset.num_rows > 0:
            schema = dataset.to_batch_reader().schema
            frame.session._schemas.known[frame.plan] = schema_of_arrow(schema)
            return
