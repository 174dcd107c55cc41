"""Arrow types with 64-bit offsets.

Arrow's plain strings and binaries end at 2 GiB a column chunk, which a partition passes easily. All
tables that this engine hands out have the large ones instead, at every depth, so that concatenating
cannot overflow.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa


def convert_type_to_large(type_: pa.DataType) -> pa.DataType:
    """The type with large strings and binaries in place of plain ones, recursively."""
    if pa.types.is_string(type_) or pa.types.is_string_view(type_):
        return pa.large_string()
    if pa.types.is_binary(type_) or pa.types.is_binary_view(type_):
        return pa.large_binary()
    if pa.types.is_list(type_):
        return pa.list_(_large_field(type_.value_field))
    if pa.types.is_large_list(type_):
        return pa.large_list(_large_field(type_.value_field))
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(_large_field(type_.value_field), type_.list_size)
    if pa.types.is_struct(type_):
        return pa.struct([_large_field(type_.field(i)) for i in range(type_.num_fields)])
    if pa.types.is_map(type_):
        return pa.map_(
            convert_type_to_large(type_.key_type),
            convert_type_to_large(type_.item_type),
            keys_sorted=type_.keys_sorted,
        )
    return type_


def _large_field(field: pa.Field) -> pa.Field:
    # DuckDB marks columns without a NULL as required, file by file; files of one table then differ.
    return field.with_type(convert_type_to_large(field.type)).with_nullable(True)


def convert_types_to_large_string(schema: pa.Schema) -> pa.Schema:
    """The schema with large strings and binaries; names, order and metadata stay."""
    return pa.schema([_large_field(field) for field in schema], metadata=schema.metadata)


def cast_columns_to_large_string(table: pa.Table) -> pa.Table:
    """The table (or batch) with large strings and binaries; itself when it has no plain ones."""
    schema = convert_types_to_large_string(table.schema)
    return table if schema == table.schema else table.cast(schema)


def filter_schema(
    schema: pa.Schema,
    included_cols: Sequence[str] | None = None,
    excluded_cols: Sequence[str] | None = None,
) -> pa.Schema:
    """The schema with only the included columns, in that order, or without the excluded ones."""
    assert included_cols is None or excluded_cols is None, "name included or excluded columns"
    if included_cols is not None:
        fields = [schema.field(name) for name in included_cols]
    elif excluded_cols is not None:
        fields = [field for field in schema if field.name not in excluded_cols]
    else:
        return schema
    return pa.schema(fields, metadata=schema.metadata)
