"""`firepond admin`: settings, nodes, chains, KV namespaces, growing, the comparison of replicas."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from firepond.fs.cli import chain
from firepond.fs.cli.options import (
    AddressOption,
    ConfigOption,
    JsonOption,
    SetOption,
    load_settings,
    manager_client,
    resolve_address,
)

NameArgument = Annotated[str, typer.Argument(help="The namespace's name.")]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    admin = typer.Typer(
        help="Look into a cluster and change it.", no_args_is_help=True, rich_markup_mode=None
    )
    admin.command()(config)
    admin.command()(nodes)
    admin.command("chains")(chain.list_chains)
    admin.command()(extend)
    admin.command()(verify)
    namespaces = typer.Typer(help="KV namespaces.", no_args_is_help=True, rich_markup_mode=None)
    namespaces.command("list")(namespaces_list)
    namespaces.command("delete")(namespaces_delete)
    admin.add_typer(namespaces, name="namespaces")
    admin.add_typer(chain.make_app(), name="chain")
    app.add_typer(admin, name="admin")


def config(
    file: ConfigOption = None, assignments: SetOption = None, as_json: JsonOption = False
) -> None:
    """Print every setting: value, default, where the value came from, what it means."""
    from firepond.fs.config import rows

    found = rows(load_settings(file, assignments))
    if as_json:
        keys = ("key", "value", "default", "source", "description")
        print(json.dumps([{key: getattr(row, key) for key in keys} for row in found]))
        return
    for row in found:
        print(f"# {row.description}")
        origin = "" if row.source == "default" else f"  # default {_toml(row.default)}, "
        print(f"{row.key} = {_toml(row.value)}{origin}{row.source if origin else ''}\n")


def nodes(address: AddressOption = None, as_json: JsonOption = False) -> None:
    """List the nodes."""
    found = manager_client(address).get("/v1/status")
    if as_json:
        print(json.dumps(found["nodes"]))
        return
    for node in found["nodes"]:
        state = "alive" if node["alive"] else "dead"
        print(f"{node['id']:>5}  {','.join(node['roles']):<8} {state:<6} {node['admin_address']}")


def extend(address: AddressOption = None, as_json: JsonOption = False) -> None:
    """Put chains on storage nodes that joined later; new files use them too."""
    added = manager_client(address).post("/v1/tables/extend")["chains_added"]
    print(json.dumps({"chains_added": added}) if as_json else f"{added} chains were added")


def verify(address: AddressOption = None, as_json: JsonOption = False) -> int:
    """Compare the replicas of every chain while the cluster is in use.

    Compared are the versions, lengths and checksums that each recorded for each chunk. Bytes on
    disk are checked against their checksums when they are read.
    """
    from firepond.fs.cli import verify as verify_command

    return verify_command.run(resolve_address(address), as_json)


def namespaces_list(address: AddressOption = None, as_json: JsonOption = False) -> None:
    """List the KV namespaces."""
    found = manager_client(address).get("/v1/status")["namespaces"]
    if as_json:
        print(json.dumps(found))
        return
    for one in found:
        print(f"{one['id']:>5}  {one['class']:<8} {one['capacity_bytes']:>16}  {one['name']}")


def namespaces_delete(
    name: NameArgument, address: AddressOption = None, as_json: JsonOption = False
) -> None:
    """Delete a KV namespace; its values cannot be read from then on."""
    manager_client(address).delete(f"/v1/namespaces/{quote(name, safe='')}")
    print(json.dumps({"deleted": name}) if as_json else f"deleted {name}")


def _toml(value: Any) -> str:
    """A value as TOML writes it; for our settings JSON's form is the same."""
    return json.dumps(value)
