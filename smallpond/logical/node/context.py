"""The context of one logical plan: it numbers the nodes and knows the user-defined functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallpond.logical.node.base import NodeId

if TYPE_CHECKING:
    from smallpond.logical.udf import UDFContext


class Context:
    """One per plan; every node of the plan is made with it."""

    def __init__(self) -> None:
        self.next_node_id = 0
        self.udfs: dict[str, UDFContext] = {}

    def _new_node_id(self) -> NodeId:
        self.next_node_id += 1
        return NodeId(self.next_node_id)

    def create_function(
        self,
        name: str,
        func: Callable[..., Any],
        params: Any,
        return_type: Any,
        use_arrow_type: bool = False,
    ) -> str:
        """Define a scalar Python function that SQL can call by `name`; returns the name.

        `params` is a list of `UDFType` (or of the container types `UDFListType`, `UDFStructType`,
        `UDFMapType`), or `UDFAnyParameters()`. With `use_arrow_type` the function takes and
        returns Arrow arrays, a vector of rows at a time; else it is called once a row.
        """
        from smallpond.logical.udf import PythonUDFContext

        self.udfs[name] = PythonUDFContext(name, func, params, return_type, use_arrow_type)
        return name

    def create_external_module(self, module_path: str, name: str | None = None) -> str:
        """Load functions of a module that defines `create_duckdb_udfs(conn)`; returns its name."""
        from smallpond.logical.udf import ExternalModuleContext

        name = name or Path(module_path).name
        self.udfs[name] = ExternalModuleContext(name, module_path)
        return name

    def create_duckdb_extension(self, extension_path: str, name: str | None = None) -> str:
        """Load a DuckDB extension; returns the name under which a node asks for it."""
        from smallpond.logical.udf import DuckDbExtensionContext

        name = name or Path(extension_path).name
        self.udfs[name] = DuckDbExtensionContext(name, extension_path)
        return name
