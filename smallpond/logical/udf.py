"""User-defined functions for SQL: their types, the decorator, and how they get into a DuckDB
connection.

DuckDB moved its type constants between releases (`duckdb.typing` is gone since 1.5), so types are
made from their SQL names, which never change. DuckDB is imported when a function is bound and not
before.

Invariant: a `UDFContext` can be pickled; it holds names, paths and functions, never a connection.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "DuckDbExtensionContext",
    "ExternalModuleContext",
    "PythonUDFContext",
    "UDFAnyParameters",
    "UDFContext",
    "UDFListType",
    "UDFMapType",
    "UDFStructType",
    "UDFType",
    "UserDefinedFunction",
    "udf",
]

# Where the SQL name is not the name of the enumeration.
_SQL_NAMES = {
    "SQLNULL": "NULL",
    "TIME_TZ": "TIME WITH TIME ZONE",
    "TIMESTAMP_TZ": "TIMESTAMP WITH TIME ZONE",
}


class SqlType(Protocol):
    """What can stand for a parameter or a result of a function."""

    def to_duckdb_type(self) -> Any:
        """The type in DuckDB's terms."""


class UDFType(Enum):
    """The scalar types of DuckDB."""

    SQLNULL = 1
    BOOLEAN = 2
    TINYINT = 3
    UTINYINT = 4
    SMALLINT = 5
    USMALLINT = 6
    INTEGER = 7
    UINTEGER = 8
    BIGINT = 9
    UBIGINT = 10
    HUGEINT = 11
    UUID = 12
    FLOAT = 13
    DOUBLE = 14
    DATE = 15
    TIMESTAMP = 16
    TIMESTAMP_MS = 17
    TIMESTAMP_NS = 18
    TIMESTAMP_S = 19
    TIME = 20
    TIME_TZ = 21
    TIMESTAMP_TZ = 22
    VARCHAR = 23
    BLOB = 24
    BIT = 25
    INTERVAL = 26
    # What the published documentation calls it.
    INT = INTEGER

    def to_duckdb_type(self) -> Any:
        """The type object that DuckDB's `create_function` takes."""
        import duckdb

        return duckdb.sqltype(_SQL_NAMES.get(self.name, self.name))


class UDFStructType:
    """A struct: `UDFStructType({"host": "VARCHAR", "port": "INTEGER"})`."""

    def __init__(self, fields: dict[str, str] | list[str]) -> None:
        self.fields = fields

    def to_duckdb_type(self) -> Any:
        """The type in DuckDB's terms; a field's type may also be one of the classes here."""
        import duckdb

        if not isinstance(self.fields, dict):
            return duckdb.struct_type(self.fields)
        return duckdb.struct_type(
            {
                name: kind if isinstance(kind, str) else kind.to_duckdb_type()
                for name, kind in self.fields.items()
            }
        )


class UDFListType:
    """A list of one type: `UDFListType(UDFType.INTEGER)`."""

    def __init__(self, child: SqlType) -> None:
        self.child = child

    def to_duckdb_type(self) -> Any:
        """The type in DuckDB's terms."""
        import duckdb

        return duckdb.list_type(self.child.to_duckdb_type())


class UDFMapType:
    """A map: `UDFMapType(UDFType.VARCHAR, UDFType.INTEGER)`."""

    def __init__(self, key: SqlType, value: SqlType) -> None:
        self.key = key
        self.value = value

    def to_duckdb_type(self) -> Any:
        """The type in DuckDB's terms."""
        import duckdb

        return duckdb.map_type(self.key.to_duckdb_type(), self.value.to_duckdb_type())


class UDFAnyParameters:
    """Parameters of any number and type."""

    def to_duckdb_type(self) -> None:
        """None: DuckDB then checks nothing."""
        return


class UDFContext:
    """Something that makes functions known to a DuckDB connection."""

    def bind(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Make it known to this connection."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is bound")


class PythonUDFContext(UDFContext):
    """A Python function under a name in SQL."""

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        params: Sequence[SqlType] | UDFAnyParameters | None,
        return_type: SqlType | None,
        use_arrow_type: bool = False,
    ) -> None:
        self.name = name
        self.func = func
        self.params = params
        self.return_type = return_type
        self.use_arrow_type = use_arrow_type

    def __str__(self) -> str:
        return f"{self.name}@{self.func}"

    __repr__ = __str__

    def bind(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Register the function."""
        if self.params is None or isinstance(self.params, UDFAnyParameters):
            params = None
        else:
            params = [param.to_duckdb_type() for param in self.params]
        connection: Any = conn
        connection.create_function(
            self.name,
            self.func,
            params,
            None if self.return_type is None else self.return_type.to_duckdb_type(),
            type="arrow" if self.use_arrow_type else "native",
        )


class ExternalModuleContext(UDFContext):
    """A Python file that defines `create_duckdb_udfs(conn)`."""

    def __init__(self, name: str, module_path: str) -> None:
        self.name = name
        self.module_path = module_path

    def __str__(self) -> str:
        return f"{self.name}@{self.module_path}"

    __repr__ = __str__

    def bind(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Run the file and let it register its functions."""
        spec = importlib.util.spec_from_file_location(Path(self.module_path).stem, self.module_path)
        if spec is None or spec.loader is None:
            raise ImportError(f"'{self.module_path}' is not a Python module; name a .py file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.create_duckdb_udfs(conn)


class DuckDbExtensionContext(UDFContext):
    """A DuckDB extension, by its path or name."""

    def __init__(self, name: str, extension_path: str) -> None:
        self.name = name
        self.extension_path = extension_path

    def __str__(self) -> str:
        return f"{self.name}@{self.extension_path}"

    __repr__ = __str__

    def bind(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Load the extension."""
        conn.load_extension(self.extension_path)


@dataclass
class UserDefinedFunction:
    """A Python function with the types it has in SQL; it can still be called as itself."""

    name: str
    func: Callable[..., Any]
    params: Sequence[SqlType] | UDFAnyParameters
    return_type: SqlType
    use_arrow_type: bool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)


def udf(
    params: Sequence[SqlType] | UDFAnyParameters,
    return_type: SqlType,
    use_arrow_type: bool = False,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], UserDefinedFunction]:
    """Decorate a function that SQL may call.

    With `use_arrow_type` it is called with whole Arrow arrays and returns one.

    >>> @udf(params=[UDFType.INTEGER], return_type=UDFType.INTEGER)
    ... def half(x):
    ...     return x // 2
    >>> half(8)
    4
    """
    return lambda func: UserDefinedFunction(
        name or func.__name__, func, params, return_type, use_arrow_type
    )
