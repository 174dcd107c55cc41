"""`firepond admin chain`: look at chains and change them while clients write.

A change is taken in at once and carried out in the background, by whichever manager leads then;
`--wait` shows it until it is done.
"""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from firepond.fs.cli.options import AddressOption, JsonOption, manager_client
from firepond.fs.cli.progress import resync_text

POLL_S = 0.3

ChainArgument = Annotated[int, typer.Argument(help="The chain's id.")]
TargetArgument = Annotated[int, typer.Argument(help="A target of the chain.")]
NodeOption = Annotated[int, typer.Option(help="The storage node that is to hold the new target.")]
DiskOption = Annotated[
    str | None, typer.Option(help="A disk of that node. Default: the one with fewest targets.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Return when the change is done.")]


def make_app() -> typer.Typer:
    """The group."""
    app = typer.Typer(help="Chains.", no_args_is_help=True, rich_markup_mode=None)
    app.command("list")(list_chains)
    app.command("show")(show)
    app.command("add-target")(add_target)
    app.command("remove-target")(remove_target)
    app.command("accept-loss")(accept_loss)
    app.command("replace-target")(replace_target)
    app.command("reorder")(reorder)
    return app


def list_chains(address: AddressOption = None, as_json: JsonOption = False) -> None:
    """List the chains with the states of their targets, head first."""
    found = manager_client(address).get("/v1/chains")
    if as_json:
        print(json.dumps(found))
        return
    for chain in found:
        print(line(chain))


def show(chain: ChainArgument, address: AddressOption = None, as_json: JsonOption = False) -> None:
    """Show one chain: where its targets are, what they hold, and what is under way."""
    found = manager_client(address).get(f"/v1/chains/{chain}")
    if as_json:
        print(json.dumps(found))
        return
    print(line(found))
    for one in found["targets"]:
        size = f"{one['chunk_count']} chunks, {one['used_bytes']} bytes"
        print(f"  target {one['target']} on node {one['node']}, {one['disk']}: {size}")
    for text in under_way(found):
        print(f"  {text}")


def add_target(
    chain: ChainArgument,
    node: NodeOption,
    disk: DiskOption = None,
    wait: WaitOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a replica to a chain: it is synced at the tail and then serves."""
    client = manager_client(address)
    found = client.post(f"/v1/chains/{chain}/targets", {"node": node, "disk": disk})
    _finish(client, found, wait, as_json)


def remove_target(
    chain: ChainArgument,
    target: TargetArgument,
    wait: WaitOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a target out of its chain; its node drops the data. Another one must serve."""
    client = manager_client(address)
    found = client.delete(f"/v1/chains/{chain}/targets/{target}")
    _finish(client, found, wait, as_json)


def accept_loss(
    chain: ChainArgument,
    target: TargetArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: WaitOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a chain that is down go on with one target alone; what others had more is lost."""
    question = f"Drop all other targets of chain {chain}, and what only they have?"
    if not yes:
        typer.confirm(question, abort=True)
    client = manager_client(address)
    found = client.post(f"/v1/chains/{chain}/targets/{target}/accepted-loss", {})
    _finish(client, found, wait, as_json)


def replace_target(
    chain: ChainArgument,
    target: TargetArgument,
    node: NodeOption,
    disk: DiskOption = None,
    wait: WaitOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a new target in another's place; that one leaves when the new one serves."""
    client = manager_client(address)
    path = f"/v1/chains/{chain}/targets/{target}/replacement"
    found = client.post(path, {"node": node, "disk": disk})
    _finish(client, found, wait, as_json)


def reorder(
    chain: ChainArgument,
    targets: Annotated[list[int], typer.Argument(help="All targets of the chain, head first.")],
    wait: WaitOption = False,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a chain's targets another order, for good: one moves at a time."""
    client = manager_client(address)
    found = client.put(f"/v1/chains/{chain}/order", {"targets": targets})
    _finish(client, found, wait, as_json)


def line(chain: dict[str, Any]) -> str:
    """A chain on one line."""
    targets = "  ".join(f"{one['target']}@{one['node']}:{one['state']}" for one in chain["targets"])
    return f"{chain['id']:>5}  v{chain['version']:<5} {chain['durability']:<8} {targets}"


def under_way(chain: dict[str, Any]) -> list[str]:
    """What is being done with a chain, a line each."""
    found = []
    for one in chain["leaving"]:
        after = f" once target {one['successor']} serves" if one["successor"] else ""
        found.append(f"target {one['target']} leaves{after}")
    if chain["reordering"]:
        found.append(f"targets move to the order {chain['preferred']}")
    found += [
        f"target {one['target']} is away until its disk has room"
        for one in chain["targets"]
        if one["full"]
    ]
    found += [f"resync: {resync_text(one['resync'])}" for one in chain["targets"] if one["resync"]]
    return found


def is_settled(chain: dict[str, Any]) -> bool:
    """Whether all that was asked for is done and every target serves."""
    serving = all(one["state"] == "serving" for one in chain["targets"])
    return serving and not chain["leaving"] and not chain["reordering"]


def _finish(client: Any, chain: dict[str, Any], wait: bool, as_json: bool) -> None:
    shown = ""
    while wait and not is_settled(chain):
        text = "; ".join([line(chain), *under_way(chain)])
        if text != shown and not as_json:
            print(text)
        shown = text
        time.sleep(POLL_S)
        chain = client.get(f"/v1/chains/{chain['id']}")
    if as_json:
        print(json.dumps(chain))
        return
    for text in [line(chain), *under_way(chain)]:
        print(text)
