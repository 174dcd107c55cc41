"""Who is behind a queue: a small file that names a process, so that its death is seen at once.

Probes find a dead process after several missed rounds, which is minutes with the default settings.
On one machine the kernel knows at once. The file names the machine by boot id and process
namespace as well, because host names repeat among containers and pids among machines; about a
process of another machine nothing is concluded.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import threading
from pathlib import Path

Presence = dict[str, str | int | None]


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _process_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


@functools.cache
def machine_name() -> str:
    """Names what can see this process by its pid: the host, its boot, its process namespace."""
    boot = _first_line("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot}/{_process_namespace()}"


def _start_ticks(pid: int) -> int | None:
    """When the process started; None when there is none, or when only its exit code is left."""
    stat = _first_line(f"/proc/{pid}/stat")
    if not stat:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def presence_write(path: str) -> None:
    """Say that this process is behind the file's folder."""
    record = {
        "machine": machine_name(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "start_ticks": _start_ticks(os.getpid()),
    }
    written = Path(f"{path}.{os.getpid()}")
    written.write_text(json.dumps(record))
    written.rename(path)


class Heartbeat:
    """A presence whose file is touched at intervals, for those who cannot see the process.

    A thread of its own does it, because the process may have nothing to do for hours and still be
    there. The file goes with `stop`.
    """

    def __init__(self, path: str, interval_s: float) -> None:
        presence_write(path)
        self._path = Path(path)
        self._ended = threading.Event()
        thread = threading.Thread(
            target=self._beat, args=(interval_s,), name="smallpond-heartbeat", daemon=True
        )
        thread.start()

    def _beat(self, interval_s: float) -> None:
        while not self._ended.wait(interval_s):
            try:
                os.utime(self._path)
            except OSError:
                # The job's folder is gone, and whoever looked at it.
                return

    def stop(self) -> None:
        """Be there no longer."""
        self._ended.set()
        self._path.unlink(missing_ok=True)


def presence_read(path: str) -> Presence:
    """The record; empty when there is none."""
    try:
        record: Presence = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return {}
    return record


def presence_is_dead(record: Presence) -> bool:
    """Whether the process of the record is surely gone: it was on this machine, and is not now."""
    if not record or record.get("start_ticks") is None or record["machine"] != machine_name():
        return False
    return _start_ticks(int(record["pid"] or 0)) != record["start_ticks"]
