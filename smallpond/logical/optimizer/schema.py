"""Names and types of a node's columns, found by binding and without running anything.

Each input becomes an empty view of the right types, and DuckDB describes the query over them. A
node whose types only its Python code knows has no schema until it has run.

Invariant: a schema is what the task's own DuckDB would say; `None` means unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.io.scratch import scratch_cursor
from smallpond.io.url import is_url
from smallpond.logical.node import (
    ConsolidateNode,
    DataSinkNode,
    DataSourceNode,
    HashPartitionNode,
    LimitNode,
    Node,
    PartitionNode,
    ProjectionNode,
    SqlEngineNode,
    UnionNode,
)
from smallpond.logical.optimizer.syntax import quoted
from smallpond.logical.optimizer.template import Sql
from smallpond.logical.relational.base import RelationalNode
from smallpond.logical.udf import UDFContext

if TYPE_CHECKING:
    import duckdb
    import pyarrow as arrow

Schema = tuple[tuple[str, str], ...]
"""Pairs of a column's name and its DuckDB type."""


class SchemaFinder:
    """Schemas of the nodes of one plan, each found once."""

    def __init__(self, known: dict[Node, Schema] | None = None) -> None:
        """`known` holds schemas of nodes that have run, and takes those found here."""
        self.known = known if known is not None else {}

    def of(self, node: Node) -> Schema | None:
        """The schema of a node's output."""
        if node not in self.known:
            found = self.found(node)
            if found is None:
                return None
            self.known[node] = found
        return self.known[node]

    def found(self, node: Node) -> Schema | None:
        if isinstance(node, DataSourceNode):
            return source_schema(node)
        declared: Schema | None = getattr(node, "declared_schema", None)
        if declared is not None:
            return declared
        if isinstance(node, RelationalNode | SqlEngineNode) and not isinstance(node, LimitNode):
            return self.bound(node)
        if isinstance(node, HashPartitionNode) and not (
            node.shuffle_only or node.drop_partition_column
        ):
            schema = self.of(node.input_deps[0])
            column = (node.data_partition_column, "UBIGINT")
            return None if schema is None else (*schema, column)
        passing = (PartitionNode, ConsolidateNode, LimitNode, DataSinkNode, UnionNode)
        if isinstance(node, passing) and node.input_deps:
            return self.of(node.input_deps[0])
        if isinstance(node, ProjectionNode) and not node.generated_columns:
            schema = self.of(node.input_deps[0])
            if schema is None or "*" in node.columns:
                return schema
            types = dict(schema)
            return tuple((name, types[name]) for name in node.columns if name in types)
        return None

    def bound(self, node: RelationalNode | SqlEngineNode) -> Schema | None:
        inputs = [self.of(dep) for dep in node.input_deps]
        if isinstance(node, RelationalNode):
            sql, names = node.query(), node.udfs
        elif len(node.sql_queries) == 1:
            sql, names = Sql.of_template(node.sql_queries[0]), node.udfs
        else:
            return None
        schemas = [schema for schema in inputs if schema is not None]
        if len(schemas) < len(inputs):
            return None
        return described(sql, schemas, [node.ctx.udfs[name] for name in names])


def described(sql: Sql, inputs: Sequence[Schema], udfs: Sequence[UDFContext] = ()) -> Schema | None:
    """The schema of a query; None when DuckDB refuses it, which its task then reports."""
    import duckdb

    own = duckdb.connect(":memory:", config={"threads": 1}) if udfs else scratch_cursor()
    with own as connection:
        try:
            for udf in udfs:
                udf.bind(connection)
            names = empty_views(connection, inputs)
            rows = connection.execute(f"describe {sql.text(names)}").fetchall()
        except (duckdb.Error, IndexError):
            return None
        return tuple((str(row[0]), str(row[1])) for row in rows)


def empty_views(connection: duckdb.DuckDBPyConnection, inputs: Sequence[Schema]) -> list[str]:
    """Views of no rows with the given columns; their names."""
    names = []
    for index, schema in enumerate(inputs):
        columns = ", ".join(f"null::{kind} as {quoted(name)}" for name, kind in schema)
        connection.execute(f"create temp view input_{index} as select {columns} where false")
        names.append(f"input_{index}")
    return names


def source_schema(node: DataSourceNode) -> Schema | None:
    """The columns of a source, from the file that comes first or the table in memory."""
    import duckdb

    dataset = node.dataset
    if not dataset.paths and type(dataset).__name__ == "ParquetDataSet":
        return None
    if dataset.read_by_python and hasattr(dataset, "arrow_schema"):
        # Asking DuckDB would read all of it.
        return schema_of_arrow(dataset.arrow_schema)
    remote = any(map(is_url, dataset.paths))
    own = duckdb.connect(":memory:", config={"threads": 1}) if remote else scratch_cursor()
    with own as connection:
        try:
            fragment = dataset.sql_query_fragment(conn=connection)
            rows = connection.execute(f"describe select * from {fragment}").fetchall()
        except (duckdb.Error, NotImplementedError):
            return None
        return tuple((str(row[0]), str(row[1])) for row in rows)


def arrow_schema(schema: Schema) -> arrow.Schema:
    """The same columns as results have them in Arrow: text is large, wide integers are narrowed."""
    import duckdb

    stored = tuple((name, re.sub(r"\bU?HUGEINT\b", "BIGINT", kind)) for name, kind in schema)
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.execute("set arrow_large_buffer_size = true")
        [name] = empty_views(connection, [stored])
        relation: Any = connection.sql(f"select * from {name}")
        # DuckDB 2 renamed the method.
        reader = getattr(relation, "to_arrow_reader", None) or relation.fetch_record_batch
        found: arrow.Schema = reader(1).schema
        return found


def schema_of_arrow(schema: arrow.Schema) -> Schema:
    """Arrow's types in DuckDB's."""
    import pyarrow as arrow

    with scratch_cursor() as connection:
        connection.register("given", arrow.Table.from_pylist([], schema=schema))
        rows = connection.execute("describe select * from given").fetchall()
        return tuple((str(row[0]), str(row[1])) for row in rows)


def common_type(types: Sequence[str]) -> str | None:
    """The type to which DuckDB casts both sides of a comparison of these types."""
    if len(set(types)) == 1:
        return types[0]
    union = "\nunion all\n".join(f"select null::{kind} as k" for kind in types)
    schema = described(Sql.literal(union), [])
    return schema[0][1] if schema else None
