"""What the KV tier takes as keys, memory and addresses, before anything is sent."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from firepond.client.connection import managers_of
from firepond.client.kv.memory import encoded, in_place
from firepond.fs.errors import InvalidArgument


class FakeTensor:
    """As much of a torch tensor as is looked at."""

    def __init__(self, array: np.ndarray, device: str = "cpu") -> None:
        self.array = array
        self.device = SimpleNamespace(type=device)

    def is_contiguous(self) -> bool:
        return bool(self.array.flags["C_CONTIGUOUS"])

    def detach(self) -> FakeTensor:
        return self

    def reshape(self, count: int) -> FakeTensor:
        return FakeTensor(self.array.reshape(count))

    def view(self, kind: type) -> FakeTensor:
        return FakeTensor(self.array.view(kind))

    def numpy(self) -> np.ndarray:
        return self.array


@pytest.fixture
def fake_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for torch, which is too large to install for a test."""
    module = SimpleNamespace(Tensor=FakeTensor, uint8=np.uint8)
    monkeypatch.setitem(sys.modules, "torch", module)


def test_keys_are_bytes_or_text() -> None:
    """Goal: one form of keys. Oracle: their bytes; a single key in place of a list is refused."""
    assert encoded(["a", b"b", "ü"]) == [b"a", b"b", b"\xc3\xbc"]
    for single in ("key", b"key"):
        with pytest.raises(TypeError):
            encoded(single)  # type: ignore[arg-type]


def test_tensors_are_used_in_place(fake_torch: None) -> None:
    """Goal: no hidden copy. Method: write through the view. Oracle: the tensor's own bytes; what
    would need a copy is refused."""
    array = np.zeros((2, 3), dtype=np.float32)
    view = in_place(FakeTensor(array))
    memoryview(view).cast("B")[0] = 7
    assert array.view(np.uint8)[0, 0] == 7
    assert in_place(array) is array
    for unusable in (FakeTensor(array.T), FakeTensor(array, "cuda")):
        with pytest.raises(InvalidArgument):
            in_place(unusable)


def test_addresses() -> None:
    """Goal: one or many managers. Oracle: their base URLs; nonsense is refused."""
    assert managers_of("firepond://a:1,b:2") == ["http://a:1", "http://b:2"]
    assert managers_of("127.0.0.1:7300") == ["http://127.0.0.1:7300"]
    assert managers_of("firepond://[::1]:7300/") == ["http://[::1]:7300"]
    for address in ("", "firepond://", "host", "ftp://a:1", "a:b", "firepond://a:1,", "a:99999"):
        with pytest.raises(InvalidArgument):
            managers_of(address)
