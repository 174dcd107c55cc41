"""The process that serves a mount: connects, mounts, waits, writes out, ends.

Owns: the life of one mount. `firepond mount` starts it in the background, or calls `serve` itself
in the foreground. What happened at the start goes through a pipe to whoever started it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import structlog

from firepond import _native
from firepond.client import connection
from firepond.client.mount_table import MountRecord, find_mount, process_start
from firepond.fs import logging
from firepond.fs.errors import FirepondError, MountBusy

__all__ = ["MountRequest", "serve"]

# How often the waiting process looks at its signals.
WAIT_STEP_MS = 200


@dataclass(frozen=True)
class MountRequest:
    """Everything that `firepond mount` was asked for."""

    address: str
    mount_point: str
    allow_other: bool = False
    read_only: bool = False
    attribute_timeout_ms: int = 1000
    read_ahead_bytes: int = 8 << 20
    log_path: str = ""
    log_level: str = "info"

    def options(self) -> dict[str, int | str]:
        """The settings of the native mount."""
        return {
            # A comma would end the option in the table of mounts.
            "source": self.address.replace(",", ";"),
            "allow_other": int(self.allow_other),
            "read_only": int(self.read_only),
            "attribute_timeout_ms": self.attribute_timeout_ms,
            "entry_timeout_ms": self.attribute_timeout_ms,
        }

    def encode(self) -> str:
        """The form that `main` takes."""
        return json.dumps(asdict(self))


class _Signals:
    """The first signal unmounts, the second one ends the process at once."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._received)

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def serve(request: MountRequest, ready: Callable[[], None]) -> None:
    """Mounts and serves until the mount is taken away. Calls `ready` once it answers."""
    log = logging.get_logger("firepond.mount")
    signals = _Signals()
    cluster = connection.acquire(request.address)
    try:
        mount = _native.Mount(cluster.native, request.mount_point, request.options())
        mount.start()
        record = MountRecord(
            mount_point=request.mount_point,
            address=request.address,
            pid=os.getpid(),
            start=process_start(os.getpid()) or 0,
            log_path=request.log_path,
        )
        record.write()
        try:
            _set_read_ahead(request)
            log.info("mount_ready", mount_point=request.mount_point, address=request.address)
            ready()
            _wait(mount, signals, log)
        except BaseException:
            mount.unmount(detach=True)
            raise
        finally:
            record.remove()
    finally:
        connection.release(cluster)


def _wait(
    mount: _native.Mount, signals: _Signals, log: structlog.typing.FilteringBoundLogger
) -> None:
    asked = False
    while not mount.wait(WAIT_STEP_MS):
        if signals.count >= 2:
            log.info("mount_abandoned", status=mount.status())
            return
        if signals.count and not asked:
            asked = True
            try:
                mount.unmount()
            except MountBusy as error:
                # Nobody may enter any more; who is inside finishes.
                log.info("mount_detached", reason=str(error))
                mount.unmount(detach=True)


def _set_read_ahead(request: MountRequest) -> None:
    """The kernel reads 128 KiB ahead unless told otherwise; only root may tell it."""
    entry = find_mount(request.mount_point)
    if entry is None:
        return
    setting = Path(f"/sys/class/bdi/{entry.device}/read_ahead_kb")
    try:
        setting.write_text(str(request.read_ahead_bytes >> 10))
    except OSError as error:
        logging.get_logger("firepond.mount").info("read_ahead_unchanged", reason=str(error))


def main(encoded: str, ready_descriptor: int) -> int:
    """Serves in the background; tells the outcome of the start through the descriptor."""
    request = MountRequest(**json.loads(encoded))
    os.chdir("/")
    logging.configure(request.log_level)
    _native.logging_init(request.log_level)
    told = False

    def tell(outcome: dict[str, object]) -> None:
        nonlocal told
        told = True
        os.write(ready_descriptor, json.dumps(outcome).encode())
        os.close(ready_descriptor)

    try:
        serve(request, lambda: tell({"pid": os.getpid()}))
    except FirepondError as error:
        logging.get_logger("firepond.mount").error("mount_failed", reason=str(error))
        if not told:
            tell({"code": error.code, "message": error.message, "context": error.context})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
