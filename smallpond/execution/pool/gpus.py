"""GPUs of a machine in fractions: who has how much of which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class GpuShares:
    """Grants shares of GPUs: a request of one or less is served by one GPU where one has room."""

    def __init__(self, gpus: Sequence[Any]) -> None:
        self._gpus = list(gpus)
        self._free = [1.0] * len(self._gpus)

    def grant(self, quota: float) -> dict[Any, float]:
        """Shares that sum up to the quota; the caller has made sure that there is room."""
        if quota <= 0:
            return {}
        if quota <= 1:
            for index, free in enumerate(self._free):
                if free + 1e-9 >= quota:
                    self._free[index] -= quota
                    return {self._gpus[index]: quota}
        granted: dict[Any, float] = {}
        for index, free in enumerate(self._free):
            share = min(free, quota)
            if share > 1e-9:
                self._free[index] -= share
                granted[self._gpus[index]] = share
                quota -= share
            if quota <= 1e-9:
                break
        return granted

    def release(self, granted: dict[Any, float]) -> None:
        for gpu, share in granted.items():
            index = self._gpus.index(gpu)
            self._free[index] = min(1.0, self._free[index] + share)
