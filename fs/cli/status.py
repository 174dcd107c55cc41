"""`firepond status`: nodes, disks, chains, resyncs and namespaces, as the manager sees them."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from typing import Annotated, Any

import typer

from firepond.fs.cli.chain import under_way
from firepond.fs.cli.options import AddressOption, JsonOption, manager_client
from firepond.fs.cli.progress import human_bytes, human_seconds
from firepond.fs.errors import ClusterUnreachable

WATCH_PAUSE_S = 0.5
CHAINS_SHOWN = 40
COLORS = {
    "serving": "green",
    "last-serving": "red",
    "syncing": "cyan",
    "waiting": "yellow",
    "offline": "red",
}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(status)


def status(
    address: AddressOption = None,
    as_json: JsonOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")
    ] = False,
) -> None:
    """Show what the cluster is made of and what is wrong with it."""
    client = manager_client(address)
    if as_json:
        print(json.dumps(client.get("/v1/status")))
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    if not watch:
        console.print(render(client.get("/v1/status")))
        return
    with (
        suppress(KeyboardInterrupt),  # The way to leave; nothing was interrupted.
        Live(render(client.get("/v1/status")), console=console) as live,
    ):
        while True:
            time.sleep(WATCH_PAUSE_S)
            try:
                live.update(render(client.get("/v1/status")))
            except ClusterUnreachable as error:  # It may come back; that is worth watching.
                live.update(Text(str(error), style="red"))


def render(found: dict[str, Any]) -> Any:
    """The whole picture as rich tables."""
    from rich.console import Group

    parts = [_headline(found), _nodes(found), _disks(found), _chains(found)]
    if any(target["scrub"] for chain in found["chains"] for target in chain["targets"]):
        parts.append(_scrubs(found))
    if found["namespaces"]:
        parts.append(_namespaces(found))
    return Group(*parts)


def _headline(found: dict[str, Any]) -> str:
    states = found["target_states"]
    odd = {state: count for state, count in states.items() if state != "serving"}
    if not found["ready"]:
        verdict = f"[red]not ready[/]: waits for {found['waiting_for']}"
    elif odd:
        words = ", ".join(f"{count} {state}" for state, count in odd.items())
        verdict = f"[yellow]serves, not fully redundant[/]: {words}"
    else:
        verdict = f"[green]all {states.get('serving', 0)} targets serve[/]"
    return f"{verdict}   term {found['term']}, routing {found['version']}"


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _nodes(found: dict[str, Any]) -> Any:
    table = _table("nodes", "id", "role", "state", "data", "admin", "last heartbeat")
    for node in found["nodes"]:
        age = node["heartbeat_age_ms"]
        table.add_row(
            str(node["id"]),
            ",".join(node["roles"]),
            "[green]alive[/]" if node["alive"] else "[red]dead[/]",
            node["data_address"],
            node["admin_address"],
            f"{age} ms ago" if age is not None else "",
        )
    return table


def _disks(found: dict[str, Any]) -> Any:
    table = _table("disks", "node", "path", "engine", "free", "of", "state")
    for node in found["nodes"]:
        for disk in node["disks"]:
            failed = disk.get("failed")
            table.add_row(
                str(node["id"]),
                disk["path"],
                disk.get("engine", ""),
                human_bytes(disk.get("free_bytes")),
                human_bytes(disk.get("total_bytes")),
                f"[red]{failed}[/]" if failed else "ok",
            )
    return table


def _chains(found: dict[str, Any]) -> Any:
    table = _table("chains", "id", "class", "version", "targets (head first)", "used", "under way")
    order = sorted(found["chains"], key=lambda one: (_healthy(one), one["id"]))
    for chain in order[:CHAINS_SHOWN]:
        targets = "  ".join(
            f"{one['target']}@{one['node']} [{COLORS[one['state']]}]{one['state']}[/]"
            for one in chain["targets"]
        )
        used = max((one["used_bytes"] or 0 for one in chain["targets"]), default=0)
        progress = "; ".join(under_way(chain))
        table.add_row(
            str(chain["id"]),
            chain["durability"],
            str(chain["version"]),
            targets,
            human_bytes(used),
            progress,
        )
    hidden = Counter(_healthy(chain) for chain in order[CHAINS_SHOWN:])
    if hidden:
        table.caption = f"{sum(hidden.values())} more chains, {hidden[True]} of them healthy"
    return table


def _scrubs(found: dict[str, Any]) -> Any:
    """What was found of the data of each node since its process began."""
    table = _table(
        "scrubber", "node", "chunks read", "bytes", "bad", "repaired", "not repaired", "last pass"
    )
    nodes: dict[int, list[dict[str, Any]]] = {}
    for chain in found["chains"]:
        for target in chain["targets"]:
            if target["scrub"]:
                nodes.setdefault(target["node"], []).append(target["scrub"])
    for node, rows in sorted(nodes.items()):
        left = sum(row["unrepairable_count"] for row in rows)
        oldest = min(row["last_pass_unix_s"] for row in rows)
        table.add_row(
            str(node),
            str(sum(row["chunks_checked"] for row in rows)),
            human_bytes(sum(row["bytes_checked"] for row in rows)),
            str(sum(row["bad_count"] for row in rows)),
            str(sum(row["repaired_count"] for row in rows)),
            f"[red]{left}[/]" if left else "0",
            f"{human_seconds(max(time.time() - oldest, 0))} ago" if oldest else "not yet",
        )
    return table


def _namespaces(found: dict[str, Any]) -> Any:
    table = _table("KV namespaces", "id", "name", "class", "capacity")
    for one in found["namespaces"]:
        capacity = human_bytes(one["capacity_bytes"])
        table.add_row(str(one["id"]), one["name"], one["class"], capacity)
    return table


def _healthy(chain: dict[str, Any]) -> bool:
    return all(target["state"] == "serving" for target in chain["targets"])
