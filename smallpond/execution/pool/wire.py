"""Messages between the driver and its workers: a length, a kind, a payload, over a socket pair.

The driver's end never blocks: what the socket does not take waits in a buffer. A worker's end
blocks, and has a thread of its own to read, so that it notices at once when the driver is gone.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

HEAD = struct.Struct("<Ic")
RECEIVE_BYTES = 1 << 20

# Driver to worker.
CONTEXT = b"C"
TASKS = b"T"
REVOKE = b"R"
# Worker to driver.
HELLO = b"H"
OUTCOME = b"O"
CHECKPOINT = b"P"
REVOKED = b"V"


def frame(kind: bytes, payload: bytes) -> bytes:
    return HEAD.pack(len(payload), kind) + payload


class Channel:
    """The driver's end: non-blocking, for a selector."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._in = bytearray()
        self._out = bytearray()

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def unsent(self) -> bool:
        return bool(self._out)

    def send(self, kind: bytes, payload: bytes) -> None:
        """Send what can be sent now; the rest goes with `flush`."""
        self._out += frame(kind, payload)
        self.flush()

    def flush(self) -> None:
        try:
            while self._out:
                sent = self.sock.send(memoryview(self._out)[:RECEIVE_BYTES])
                del self._out[:sent]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionError):
            # The other end is gone; reading will tell.
            self._out.clear()

    def receive(self) -> tuple[list[tuple[bytes, bytes]], bool]:
        """All messages that are there, and whether the other end is gone."""
        gone = False
        try:
            while True:
                data = self.sock.recv(RECEIVE_BYTES)
                if not data:
                    gone = True
                    break
                self._in += data
                if len(data) < RECEIVE_BYTES:
                    break
        except BlockingIOError:
            pass
        except ConnectionError:
            gone = True
        return list(self._messages()), gone

    def _messages(self) -> Iterator[tuple[bytes, bytes]]:
        offset = 0
        while offset + HEAD.size <= len(self._in):
            length, kind = HEAD.unpack_from(self._in, offset)
            end = offset + HEAD.size + length
            if end > len(self._in):
                break
            yield kind, bytes(memoryview(self._in)[offset + HEAD.size : end])
            offset = end
        del self._in[:offset]

    def close(self) -> None:
        self.sock.close()


class WorkerEnd:
    """The worker's end: blocking; messages of several threads do not mix."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._file = sock.makefile("rb", buffering=RECEIVE_BYTES)
        self._lock = threading.Lock()

    def send(self, kind: bytes, payload: bytes) -> None:
        with self._lock:
            self._sock.sendall(frame(kind, payload))

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next message; None when the driver is gone."""
        try:
            head = self._file.read(HEAD.size)
            if len(head) < HEAD.size:
                return None
            length, kind = HEAD.unpack(head)
            payload = self._file.read(length)
        except OSError:
            return None
        return (kind, payload) if len(payload) == length else None
