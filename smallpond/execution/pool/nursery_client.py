"""The driver's end of the nursery: starts it, asks it for workers, hears how they end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from smallpond.execution.pool.nursery import MESSAGE

# What is worth importing once for all workers, if the driver uses it too.
SHARED_MODULES = (
    "cloudpickle",
    "numpy",
    "pandas",
    "pyarrow",
    "pyarrow.parquet",
    "pyarrow.compute",
    "pyarrow.dataset",
    "duckdb",
    "smallpond.logical.dataset",
    "smallpond.io.arrow",
)
EXIT_TIMEOUT_S = 2.0


class NurseryClient:
    """A running nursery process."""

    def __init__(self, needed: Sequence[str] = ()) -> None:
        """`needed`: what tasks will import, whether or not the driver has by now."""
        self.sock, theirs = socket.socketpair()
        self._buffer = b""
        modules = [name for name in SHARED_MODULES if name in sys.modules or name in needed]
        # The child needs the driver's path before it can import anything of ours.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            "from smallpond.execution.pool.nursery import main\n"
            f"main({theirs.fileno()}, {json.dumps(modules)!r})"
        )
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        self._process = subprocess.Popen(
            [sys.executable, *flags, "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()

    def fork(self, number: int) -> socket.socket:
        """Ask for a worker; the driver's end of its socket. It is born some milliseconds later."""
        ours, theirs = socket.socketpair()
        # A dead nursery is noticed where its messages are read.
        with theirs, contextlib.suppress(ConnectionError):
            socket.send_fds(self.sock, [MESSAGE.pack(b"F", number, 0)], [theirs.fileno()])
        return ours

    def kill(self, pid: int) -> None:
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(MESSAGE.pack(b"K", pid, 0))

    def receive(self) -> tuple[list[tuple[bytes, int, int]], bool]:
        """Births and deaths, and whether the nursery itself is gone."""
        gone = False
        try:
            data = self.sock.recv(65536, socket.MSG_DONTWAIT)
            gone = not data
            self._buffer += data
        except BlockingIOError:
            pass
        except ConnectionError:
            gone = True
        whole = len(self._buffer) // MESSAGE.size * MESSAGE.size
        messages = list(MESSAGE.iter_unpack(self._buffer[:whole]))
        self._buffer = self._buffer[whole:]
        return messages, gone

    def stop(self) -> None:
        """End the nursery and, through it, all workers."""
        self.sock.close()
        try:
            self._process.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def abandon(self) -> None:
        """In a forked copy of the driver: let go without touching the driver's workers."""
        with contextlib.suppress(OSError):
            os.close(self.sock.detach())
        self._process.returncode = 0
