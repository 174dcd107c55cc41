"""Python functions of users as they run in tasks: on rows, on batches, with state.

A class given in place of a function is instantiated once per worker process, however many tasks
run there, so that a model is loaded once. Classes here are plain and travel with the task; what
they call is pickled by value when it is not importable.

Invariant: a batch without rows gives a table without rows, with the schema if one was given or
seen.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as arrow

# One instance of each stateful function in this process, by its token.
_instances: dict[str, Any] = {}


class Callee:
    """A function, or a class to make one callable of in each process."""

    def __init__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.token = uuid.uuid4().hex if inspect.isclass(func) else None

    def __call__(self, value: Any) -> Any:
        return self.resolved()(value)

    def resolved(self) -> Callable[[Any], Any]:
        """What is to be called with a row or a table."""
        if self.token is None:
            if not self.args and not self.kwargs:
                function: Callable[[Any], Any] = self.func
                return function
            return lambda value: self.func(value, *self.args, **self.kwargs)
        if self.token not in _instances:
            _instances[self.token] = self.func(*self.args, **self.kwargs)
        instance: Callable[[Any], Any] = _instances[self.token]
        return instance


def callee_of(func: Any, args: Iterable[Any] | None, kwargs: dict[str, Any] | None) -> Callee:
    """The function with what it is called or made with; refuses what cannot be called."""
    if not callable(func):
        raise ValueError(f"must be a SQL expression or a function: {func!r}")
    return Callee(func, tuple(args or ()), dict(kwargs or {}))


class RowFilter:
    """Keeps the rows for which a function says so."""

    def __init__(self, callee: Callee) -> None:
        self.callee = callee

    def __call__(self, _runtime_ctx: Any, tables: list[arrow.Table]) -> arrow.Table:
        import pyarrow as arrow

        [table] = tables
        call = self.callee.resolved()
        keep = [bool(call(row)) for row in table.to_pylist()]
        return table.filter(arrow.array(keep, type=arrow.bool_()))


class RowMap:
    """A row for each row, or rows for each row."""

    def __init__(self, callee: Callee, schema: arrow.Schema | None, flat: bool) -> None:
        self.callee = callee
        self.schema = schema
        self.flat = flat

    def __call__(self, _runtime_ctx: Any, tables: list[arrow.Table]) -> arrow.Table:
        import pyarrow as arrow

        call = self.callee.resolved()
        rows = tables[0].to_pylist()
        if self.flat:
            results = [item for row in rows for item in call(row)]
        else:
            results = [call(row) for row in rows]
        return arrow.Table.from_pylist(results, schema=self.schema)


class BatchMap:
    """A table for each batch."""

    def __init__(self, callee: Callee) -> None:
        self.callee = callee

    def __call__(self, _runtime_ctx: Any, tables: list[Any]) -> Any:
        return self.callee.resolved()(tables[0])
