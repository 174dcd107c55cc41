"""`firepond admin verify`: do the replicas of every chain agree?

Compares what each serving replica has committed, chunk by chunk, while the cluster is in use: what
it recorded, not the bytes on its disk, which every read checks.
"""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

VERIFY_TIMEOUT_MS = 3_600_000


def compare(address: str) -> dict[str, Any]:
    """Counts of chains, replicas and chunks, and a line for each difference.

    Raises:
        FirepondError: a replica cannot be asked.
    """
    from firepond import _native
    from firepond.client import connection

    shared = connection.acquire(address)
    try:
        return _native.verify_replicas(shared.native, VERIFY_TIMEOUT_MS)
    finally:
        connection.release(shared)


def run(address: str, as_json: bool) -> int:
    """Prints the report; 1 when replicas differ."""
    console = Console()
    if as_json:
        report = compare(address)
        print(json.dumps(report))
        return 1 if report["differences"] else 0
    with console.status("comparing replicas"):
        report = compare(address)
    console.print(
        f"{report['chunk_count']:,} chunks on {report['replica_count']} replicas of "
        f"{report['chain_count']} chains compared"
    )
    for line in report["differences"]:
        console.print(f"[red]differs[/] {line}")
    if report["differences"]:
        console.print("next: restart the storage process of the odd replica; it is resynced")
        return 1
    console.print("all replicas agree")
    return 0
