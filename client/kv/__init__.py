"""The KV-cache tier: whole values by key, in batches, without a metadata server.

`kv()` opens a namespace; everything else is a method of `KvNamespace`. README.md in this folder
says what the classes promise and how eviction behaves.
"""

from __future__ import annotations

from firepond.client.kv.namespace import KvNamespace, kv
from firepond.client.kv.status import Status

__all__ = ["KvNamespace", "Status", "kv"]
