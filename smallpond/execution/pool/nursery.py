"""The nursery: a small process with one thread that forks the workers of a driver.

A driver has threads (DuckDB, Arrow, the user's), and forking it could deadlock the child; starting
Python anew for each worker costs a second of imports. So one process imports what the driver has
imported, stays single-threaded, and forks on demand. It reaps its children and tells the driver how
they ended, and it kills for the driver, since only a parent knows that a pid is still that child.

When the driver is gone, by whatever means, its socket ends: the nursery kills all workers with
everything they started (each leads a process group) and exits. If something inherited the driver's
end of the socket, the change of parent is noticed within a second. When the nursery itself is
killed, the kernel kills the workers (`die_with_parent`), and they see the driver's socket end.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys

# To the nursery: F (fork; number, and the worker's socket), K (kill; pid).
# From it: B (born; number, pid), X (exited; pid, wait status).
MESSAGE = struct.Struct("<cIi")
PARENT_CHECK_S = 1.0


def _fork(control: socket.socket, number: int, worker_fd: int, wake: tuple[int, int]) -> int:
    pid = os.fork()
    if pid > 0:
        os.close(worker_fd)
        return pid
    code = 1
    try:
        control.close()
        signal.set_wakeup_fd(-1)
        for fd in wake:
            os.close(fd)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        from smallpond.execution.pool.worker import worker_main

        worker_main(socket.socket(fileno=worker_fd), number)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        # Nothing of the nursery's is to be finished by its children.
        os._exit(code)


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _reap(control: socket.socket, children: set[int]) -> None:
    while children:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        children.discard(pid)
        # What the worker left running would outlive the job.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        control.sendall(MESSAGE.pack(b"X", pid, status))


def _receive(control: socket.socket) -> tuple[bytes, int, int] | None:
    data, fds, _, _ = socket.recv_fds(control, MESSAGE.size, 1)
    while data and len(data) < MESSAGE.size:
        data += control.recv(MESSAGE.size - len(data))
    if len(data) < MESSAGE.size:
        return None
    kind, number, _ = MESSAGE.unpack(data)
    return kind, number, fds[0] if fds else -1


def _serve(control: socket.socket, children: set[int]) -> None:
    parent = os.getppid()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    while os.getppid() == parent:
        ready, _, _ = select.select([control.fileno(), wake_read], [], [], PARENT_CHECK_S)
        if wake_read in ready:
            os.read(wake_read, 4096)
        _reap(control, children)
        if control.fileno() not in ready:
            continue
        message = _receive(control)
        if message is None:
            return
        kind, number, worker_fd = message
        if kind == b"F":
            pid = _fork(control, number, worker_fd, (wake_read, wake_write))
            children.add(pid)
            control.sendall(MESSAGE.pack(b"B", number, pid))
        elif kind == b"K" and number in children:
            _kill(number)


def main(control_fd: int, modules: str) -> None:
    """Import what the driver has, then fork until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for module in ["smallpond.execution.pool.worker", *json.loads(modules)]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    # Objects that exist now are never collected, so that workers do not copy their pages.
    gc.collect()
    gc.freeze()
    children: set[int] = set()
    try:
        with contextlib.suppress(ConnectionError):
            _serve(socket.socket(fileno=control_fd), children)
    finally:
        for pid in children:
            _kill(pid)
        sys.stderr.flush()
        os._exit(0)
