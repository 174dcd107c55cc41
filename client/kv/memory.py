"""Keys and memory in the forms that the native side takes.

Why torch is special: its tensors have no buffer protocol, and NumPy knows no bfloat16, so a tensor
goes through its bytes. Nothing is copied: what cannot be used in place is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from firepond.fs.errors import InvalidArgument

if TYPE_CHECKING:
    from typing_extensions import Buffer

Key = bytes | str
Memory = Any
"""Anything with the buffer protocol (bytes, bytearray, memoryview, NumPy array), or a torch tensor
in host memory."""


def encoded(keys: Sequence[Key]) -> list[bytes]:
    """Keys as bytes; text is UTF-8."""
    if isinstance(keys, str | bytes):
        raise TypeError("keys must be a list of keys, not one key")
    return [key.encode() if isinstance(key, str) else bytes(key) for key in keys]


def in_place(memory: Memory) -> Buffer:
    """The bytes of an object, without a copy."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(memory, torch.Tensor):
        buffer: Buffer = memory
        return buffer
    if memory.device.type != "cpu" or not memory.is_contiguous():
        context = {"device": str(memory.device), "contiguous": str(memory.is_contiguous())}
        raise InvalidArgument("a tensor must be contiguous and in host memory", context)
    view: Buffer = memory.detach().reshape(-1).view(torch.uint8).numpy()
    return view
