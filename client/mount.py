"""`firepond mount` and `firepond umount`.

Owns: the two commands, and the checks that turn a refusal of the system into a sentence. The
process that serves is in `mount_daemon`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from firepond import _native
from firepond.client.connection import managers_of
from firepond.client.mount_daemon import MountRequest, serve
from firepond.client.mount_table import (
    MOUNT_TYPE,
    MountRecord,
    absolute,
    find_mount,
    users_of,
)
from firepond.fs import logging
from firepond.fs.errors import (
    BY_CODE,
    DeadlineExceeded,
    DirectoryNotEmpty,
    FirepondError,
    Internal,
    InvalidArgument,
    MountBusy,
    NotADirectory,
    NotFound,
    NotPermitted,
    Unsupported,
)

__all__ = ["mount", "register", "umount"]

START_TIMEOUT_S = 60.0
UMOUNT_TIMEOUT_S = 60.0
_DEVICE = Path("/dev/fuse")


def mount(request: MountRequest) -> MountRecord:
    """Mounts in the background; returns when the mount answers.

    Raises:
        NotFound, NotADirectory, DirectoryNotEmpty, MountBusy: the mount point is not usable.
        Unsupported, NotPermitted: this host or user cannot mount.
        ClusterUnreachable: no cluster answers at the address.
    """
    prepare(request)
    reader, writer = os.pipe()
    log_path = Path(request.log_path)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "firepond.client.mount_daemon", request.encode(), str(writer)]
    try:
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writer],
                start_new_session=True,
            )
    finally:
        os.close(writer)
    outcome = _read_outcome(reader, process, log_path)
    if "code" in outcome:
        raise BY_CODE[int(outcome["code"])](outcome["message"], outcome["context"])
    Path(request.mount_point).stat()
    record = MountRecord.read(request.mount_point)
    if record is None:
        raise Internal("the mount has ended at once", {"log": str(log_path)})
    return record


def _read_outcome(reader: int, process: subprocess.Popen[bytes], log_path: Path) -> dict[str, Any]:
    """What the process said of its start; an error that names its log when it said nothing."""
    deadline = time.monotonic() + START_TIMEOUT_S
    said = b""
    os.set_blocking(reader, False)
    try:
        while time.monotonic() < deadline:
            try:
                part = os.read(reader, 65536)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            if not part:
                break
            said += part
    finally:
        os.close(reader)
    if said:
        outcome: dict[str, Any] = json.loads(said)
        return outcome
    process.kill()
    tail = log_path.read_text(errors="replace").splitlines()[-1:]
    raise Internal(
        "the mount process said nothing of its start",
        {"log": str(log_path), "last_line": tail[0] if tail else ""},
    )


def prepare(request: MountRequest) -> None:
    """Refuses with a clear sentence what cannot work, before anything is started."""
    managers_of(request.address)
    if not _DEVICE.exists():
        message = (
            "this system has no /dev/fuse: run `modprobe fuse`, or give the container the device"
        )
        raise Unsupported(message)
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        message = f"no access to {_DEVICE}: mount as root, or have root run `chmod 666 {_DEVICE}`"
        raise NotPermitted(message)
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        message = "only root may mount without fusermount3: install the package fuse3"
        raise NotPermitted(message)
    _check_mount_point(request.mount_point)


def _check_mount_point(mount_point: str) -> None:
    context = {"mount_point": mount_point}
    entry = find_mount(mount_point)
    if entry is not None and entry.kind == MOUNT_TYPE:
        if _answers(mount_point):
            raise MountBusy(f"{entry.source} is mounted there already", context)
        # Its process was killed. The mount point is taken over.
        _native.unmount(mount_point, True)
    path = Path(mount_point)
    if not path.exists():
        raise NotFound("the mount point does not exist: make it with mkdir", context)
    if not path.is_dir():
        raise NotADirectory("the mount point is not a directory", context)
    try:
        empty = next(path.iterdir(), None) is None
    except PermissionError as error:
        raise NotPermitted("the mount point cannot be read", context) from error
    if not empty:
        raise DirectoryNotEmpty("the mount point has files, which a mount would hide", context)


def _answers(mount_point: str) -> bool:
    try:
        Path(mount_point).stat()
    except OSError as error:
        return error.errno != errno.ENOTCONN
    return True


def umount(mount_point: str, lazy: bool = False, timeout_s: float = UMOUNT_TIMEOUT_S) -> None:
    """Takes a mount away; returns when its process has written everything out and is gone.

    Raises:
        NotFound: nothing of firepond is mounted there.
        MountBusy: files are open; the error names processes.
        DeadlineExceeded: the process still writes out after `timeout_s`.
    """
    context = {"mount_point": mount_point}
    entry = find_mount(mount_point)
    if entry is None:
        raise NotFound("nothing is mounted there", context)
    if entry.kind != MOUNT_TYPE:
        raise InvalidArgument(f"what is mounted there is {entry.kind}, not firepond", context)
    record = MountRecord.read(mount_point)
    dead = record is None or not record.is_alive()
    try:
        _native.unmount(mount_point, lazy or dead)
    except MountBusy as error:
        users = "; ".join(users_of(mount_point)) or "none of this user's"
        raise MountBusy("the mount is in use", {**context, "users": users}) from error
    if record is None:
        return
    if not lazy:
        _wait_gone(record, timeout_s)
    if not record.is_alive():
        record.remove()


def _wait_gone(record: MountRecord, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while record.is_alive():
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                "the mount's process has not ended: it may be writing out",
                {"pid": str(record.pid), "log": record.log_path},
            )
        time.sleep(0.02)


def _default_log_path(mount_point: str) -> str:
    name = mount_point.strip("/").replace("/", "-") or "root"
    if os.geteuid() == 0:
        return f"/var/log/firepond/mount-{name}.log"
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return f"{state}/firepond/mount-{name}.log"


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("mount")(_mount_command)
    app.command("umount")(_umount_command)


def _mount_command(
    address: Annotated[str, typer.Argument(help="firepond://host:port of a manager.")],
    mount_point: Annotated[Path, typer.Argument(help="An empty directory.")],
    foreground: Annotated[bool, typer.Option(help="Serve in this process.")] = False,
    allow_other: Annotated[bool, typer.Option(help="Let other users enter.")] = False,
    read_only: Annotated[bool, typer.Option(help="Refuse every change.")] = False,
    attribute_timeout_ms: Annotated[
        int, typer.Option(min=0, help="The bound after which other clients' changes are seen.")
    ] = 1000,
    read_ahead_bytes: Annotated[
        int, typer.Option(min=0, help="How far the kernel reads ahead (needs root).")
    ] = 8 << 20,
    log_file: Annotated[
        Path | None, typer.Option(help="Where the background process logs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Mount the cluster's file system; returns when the mount answers."""
    path = absolute(mount_point)
    request = MountRequest(
        address=address,
        mount_point=path,
        allow_other=allow_other,
        read_only=read_only,
        attribute_timeout_ms=attribute_timeout_ms,
        read_ahead_bytes=read_ahead_bytes,
        log_path=str(log_file.absolute()) if log_file else _default_log_path(path),
    )
    if foreground:
        prepare(request)
        logging.configure(request.log_level)
        _native.logging_init(request.log_level)
        serve(request, lambda: typer.echo(f"mounted {address} at {path}; Ctrl-C unmounts"))
        return
    with Console(stderr=True).status("mounting"):
        record = mount(request)
    if as_json:
        fields = {"mount_point": path, "pid": record.pid, "log_path": record.log_path}
        typer.echo(json.dumps(fields))
    else:
        typer.echo(f"mounted {address} at {path} (pid {record.pid}, log {record.log_path})")


def _umount_command(
    # Text, because for a path typer asks the mount, which may wait for a cluster that is gone.
    mount_point: Annotated[str, typer.Argument(help="Where it is mounted.")],
    lazy: Annotated[
        bool, typer.Option(help="Take it away at once; open files work until they are closed.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option(min=0, help="How long to wait for the last writes.")
    ] = UMOUNT_TIMEOUT_S,
) -> None:
    """Unmount; returns when everything is written out."""
    path = absolute(mount_point)
    with Console(stderr=True).status("unmounting"):
        umount(path, lazy, timeout_s)
    typer.echo(f"unmounted {path}")


def main() -> None:
    """The two commands alone, without the rest of the command line."""
    app = typer.Typer()
    register(app)
    try:
        app(standalone_mode=False)
    except FirepondError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
