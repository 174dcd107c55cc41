"""The things that are compared: one cluster, its SDK and two mounts, and a local directory.

Why two mounts: the one of the `mount` surface has its tree for itself and caches as mounts do; the
other shares a tree with the SDK and asks for attributes each time, because names and attributes of
another client's changes are otherwise promised within a second only.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import firepond
from firepond.client.cluster import Cluster
from tests.fixtures.cluster import TestCluster
from tests.model.strategies import CHUNK_BYTES
from tests.model.surfaces import KernelSurface, SdkSurface, SharedSurface

CLUSTER_SETTINGS = [f"meta.chunk_size_bytes={CHUNK_BYTES}"]
OPERATION_TIMEOUT_S = 120.0


class LocalWorld:
    """A local directory alone: what the reference itself is compared with."""

    def __init__(self, local: Path) -> None:
        self.local = local
        self.numbers = itertools.count()
        self.surfaces: list[Any] = []
        # How often each operation of the reference succeeded and was refused.
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def fresh_surfaces(self) -> list[Any]:
        """Surfaces over empty trees."""
        local = self.local / str(next(self.numbers))
        local.mkdir()
        self.surfaces = [KernelSurface("local", str(local))]
        return self.surfaces

    def take_turn(self, by_mount: bool) -> None:
        """Says which side of a shared tree acts next."""

    def close_files(self) -> None:
        """Closes what an example left open, and removes the local tree."""
        for surface in self.surfaces:
            for slot in list(surface.files):
                surface.close(slot)
        shutil.rmtree(self.surfaces[0].root)


class World(LocalWorld):
    """A cluster by the SDK, by a mount, and by both in turn, beside the local directory."""

    def __init__(
        self, cluster: TestCluster, client: Cluster, mounts: tuple[Path, Path], local: Path
    ) -> None:
        super().__init__(local)
        self.cluster = cluster
        self.client = client
        self.mounts = mounts
        self.slowest_s = 0.0
        self.fault_counts: Counter[str] = Counter()
        self.shared: SharedSurface

    def fresh_surfaces(self) -> list[Any]:
        local = super().fresh_surfaces()
        number = next(self.numbers)
        sdk, mount, shared = (f"{kind}-{number}" for kind in ("sdk", "mount", "shared"))
        for name in (sdk, mount, shared):
            self.client.mkdir(f"/{name}", 0o755)
        own, other = self.mounts
        both = (SdkSurface("shared", self.client, f"/{shared}"),)
        self.shared = SharedSurface("shared", *both, KernelSurface("shared", str(other / shared)))
        self.surfaces = [
            *local,
            SdkSurface("sdk", self.client, f"/{sdk}"),
            KernelSurface("mount", str(own / mount)),
            self.shared,
        ]
        return self.surfaces

    def take_turn(self, by_mount: bool) -> None:
        self.shared.by_mount = by_mount

    def close_files(self) -> None:
        self.surfaces = [*self.surfaces[:-1], *self.shared.sides]
        super().close_files()


@contextmanager
def mounted(cluster: TestCluster, name: str, *options: str) -> Iterator[Path]:
    """The cluster, mounted below its test directory."""
    mount_point = cluster.directory / name
    mount_point.mkdir()
    command = [sys.executable, "-m", "firepond.fs.cli"]
    log = str(cluster.directory / f"{name}.log")
    where = [cluster.address, str(mount_point), "--log-file", log]
    subprocess.run([*command, "mount", *where, *options], check=True)
    try:
        yield mount_point
    finally:
        subprocess.run([*command, "umount", str(mount_point)], check=True)


@contextmanager
def made_world(cluster: TestCluster) -> Iterator[World]:
    """Connects and mounts; on a clean end all of it is taken away."""
    fast = Path("/dev/shm")
    umask = os.umask(0o022)
    try:
        with (
            tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as local,
            firepond.connect(cluster.address, timeout_s=OPERATION_TIMEOUT_S) as client,
            mounted(cluster, "own") as own,
            mounted(cluster, "other", "--attribute-timeout-ms", "0") as other,
        ):
            yield World(cluster, client, (own, other), Path(local))
    finally:
        os.umask(umask)
