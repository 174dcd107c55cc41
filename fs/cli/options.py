"""Options that several commands share, and where a command finds its cluster.

Order of `--address`: the option, FIREPOND_ADDRESS, `./.firepond/cluster.json`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firepond.fs.errors import ClusterUnreachable, InvalidArgument

if TYPE_CHECKING:
    from firepond.fs.config import Loaded
    from firepond.fs.manager_client import ManagerClient

DEFAULT_DIRECTORY = Path(".firepond")

AddressOption = Annotated[
    str | None,
    typer.Option(
        help="The cluster, firepond://host:port. Default: FIREPOND_ADDRESS, else the cluster that "
        "`firepond up` started in this directory."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DirectoryOption = Annotated[
    Path, typer.Option("--dir", help="The directory that holds the whole cluster.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="A TOML configuration file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting, section.key=value; may be given many times."),
]


def resolve_address(address: str | None) -> str:
    """The cluster as "firepond://host:port". Raises ClusterUnreachable if none is known."""
    found = address or os.environ.get("FIREPOND_ADDRESS")
    if not found:
        found = _address_of(DEFAULT_DIRECTORY / "cluster.json")
    if not found:
        raise ClusterUnreachable("no address was given and no cluster was started here")
    scheme, separator, rest = found.partition("://")
    if separator and scheme != "firepond":
        raise InvalidArgument("an address is firepond://host:port", {"address": found})
    hosts = (rest if separator else found).split("/")[0]
    for host in hosts.split(","):
        name, _, port = host.rpartition(":")
        if not name or not port.isdigit() or not 0 < int(port) < 65536:
            raise InvalidArgument("an address is firepond://host:port", {"address": found})
    return f"firepond://{hosts}"


def manager_client(address: str | None) -> ManagerClient:
    """A client of the cluster's managers."""
    from firepond.fs.manager_client import ManagerClient

    return ManagerClient(resolve_address(address).removeprefix("firepond://").split(","))


def load_settings(config: Path | None, assignments: list[str] | None) -> Loaded:
    """Settings of all sources. FIREPOND_CONFIG names a file when `--config` does not."""
    from firepond.fs.config import load

    named = os.environ.get("FIREPOND_CONFIG")
    return load(config or (Path(named) if named else None), os.environ, assignments or ())


def _address_of(file: Path) -> str | None:
    try:
        return str(json.loads(file.read_text())["address"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
