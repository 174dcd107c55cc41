"""What is mounted on this machine, and which process serves it.

Owns: reading the kernel's table, the record that a mount's process leaves for `firepond umount`,
and finding who keeps a mount point busy. Never: a system call on the mount point itself, which
could wait for a process that is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = [
    "MOUNT_TYPE",
    "MountEntry",
    "MountRecord",
    "absolute",
    "find_mount",
    "process_start",
    "users_of",
]

MOUNT_TYPE = "fuse.firepond"
_TABLE = Path("/proc/self/mountinfo")
_USERS_MAX_COUNT = 5


@dataclass(frozen=True)
class MountEntry:
    """One line of the kernel's table of mounts."""

    mount_point: str
    kind: str
    source: str
    device: str


@dataclass(frozen=True)
class MountRecord:
    """Who serves a mount. Kept in a file while the process lives."""

    mount_point: str
    address: str
    pid: int
    start: int
    log_path: str

    @staticmethod
    def path(mount_point: str) -> Path:
        """The file that holds the record of a mount point."""
        digest = hashlib.sha256(os.fsencode(mount_point)).hexdigest()[:16]
        return runtime_directory() / f"mount-{digest}.json"

    @staticmethod
    def read(mount_point: str) -> MountRecord | None:
        """The record of a mount point, if there is one that can be read."""
        try:
            return MountRecord(**json.loads(MountRecord.path(mount_point).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self) -> None:
        """Keeps the record."""
        path = MountRecord.path(self.mount_point)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(asdict(self)))
        fresh.replace(path)

    def remove(self) -> None:
        """Forgets the record, unless another process has taken its place."""
        if MountRecord.read(self.mount_point) == self:
            MountRecord.path(self.mount_point).unlink(missing_ok=True)

    def is_alive(self) -> bool:
        """Whether the very process that wrote the record still lives."""
        return process_start(self.pid) == self.start


def runtime_directory() -> Path:
    """Where records of this user's running processes are."""
    if os.geteuid() == 0:
        return Path("/run/firepond")
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "firepond" if base else Path(f"/tmp/firepond-{os.geteuid()}")


def absolute(path: str | Path) -> str:
    """The absolute path without links in its parents; the last component is not looked at."""
    full = Path(path).absolute()
    if full.name in ("", ".", ".."):
        return os.path.realpath(full)
    return str(Path(os.path.realpath(full.parent)) / full.name)


def find_mount(mount_point: str) -> MountEntry | None:
    """The topmost mount at exactly this path."""
    found = None
    for line in _TABLE.read_text(errors="surrogateescape").splitlines():
        entry = _parse(line)
        if entry is not None and entry.mount_point == mount_point:
            found = entry
    return found


def _parse(line: str) -> MountEntry | None:
    left, _, right = line.partition(" - ")
    fields, kinds = left.split(" "), right.split(" ")
    if len(fields) < 5 or len(kinds) < 2:
        return None
    return MountEntry(_unescape(fields[4]), kinds[0], _unescape(kinds[1]), fields[2])


def _unescape(text: str) -> str:
    """The kernel writes blanks and backslashes as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def process_start(pid: int) -> int | None:
    """When a process began, in ticks since boot: with the pid it names the process for ever."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # A zombie has ended; only its parent has not noticed.
    return None if fields[0] == "Z" else int(fields[19])


def users_of(mount_point: str) -> list[str]:
    """Processes that have files open below a mount point or work in it, as text; a few of them."""
    found: list[str] = []
    for process in sorted(Path("/proc").glob("[0-9]*")):
        reason = _use(process, mount_point)
        if reason is not None:
            found.append(f"pid {process.name} ({_command(process)}): {reason}")
        if len(found) == _USERS_MAX_COUNT:
            break
    return found


def _use(process: Path, mount_point: str) -> str | None:
    for name in ("cwd", "root"):
        if _is_below(_link(process / name), mount_point):
            return f"its {'working directory' if name == 'cwd' else 'root'} is there"
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return None
    for descriptor in descriptors:
        target = _link(descriptor)
        if _is_below(target, mount_point):
            return f"has {target} open"
    return None


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _is_below(path: str, mount_point: str) -> bool:
    return path == mount_point or path.startswith(mount_point.rstrip("/") + "/")


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "?"
