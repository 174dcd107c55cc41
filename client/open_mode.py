"""The modes of `open`, and paths as the native module wants them.

Owns: what "r", "w", "x", "a", "+", "b" and "t" mean; what a path may look like.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from firepond.fs.errors import InvalidArgument, NameTooLong

PATH_MAX_BYTES = 4096

StrPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


@dataclass(frozen=True, slots=True)
class OpenMode:
    """A parsed mode."""

    read: bool
    write: bool
    create: bool
    exclusive: bool
    truncate: bool
    append: bool
    binary: bool

    @property
    def text(self) -> str:
        """The mode of the raw file, as `FileIO.mode` gives it."""
        if self.exclusive:
            return "xb+" if self.read else "xb"
        if self.append:
            return "ab+" if self.read else "ab"
        if self.read and self.write:
            return "rb+"
        return "rb" if self.read else "wb"


def parse_mode(mode: str) -> OpenMode:
    """Parses a mode by the rules of `open`.

    Raises:
        InvalidArgument: not such a mode.
    """
    letters = set(mode)
    kinds = letters & set("rwxa")
    if letters - set("rwxa+bt") or len(letters) != len(mode) or len(kinds) != 1:
        raise InvalidArgument("a mode has exactly one of r, w, x, a", {"mode": mode})
    if {"b", "t"} <= letters:
        raise InvalidArgument("a mode cannot be both text and binary", {"mode": mode})
    kind = kinds.pop()
    both = "+" in letters
    return OpenMode(
        read=kind == "r" or both,
        write=kind != "r" or both,
        create=kind != "r",
        exclusive=kind == "x",
        truncate=kind == "w",
        append=kind == "a",
        binary="b" in letters,
    )


def path_bytes(path: StrPath) -> bytes:
    """A path as bytes from the root; a relative path starts at the root, too.

    Raises:
        InvalidArgument: empty, or with a zero byte.
        NameTooLong: longer than 4096 bytes.
    """
    name = os.fspath(path)
    encoded = name.encode(errors="surrogateescape") if isinstance(name, str) else name
    if not encoded:
        raise InvalidArgument("a path is not empty")
    if b"\0" in encoded:
        raise InvalidArgument("a path has no zero byte", {"path": repr(name)})
    if len(encoded) > PATH_MAX_BYTES:
        raise NameTooLong("the path is too long", {"max_bytes": str(PATH_MAX_BYTES)})
    return encoded


def path_text(path: StrPath) -> str:
    """A path as text, for names and messages."""
    return path_bytes(path).decode(errors="surrogateescape")


def process_umask() -> int:
    """The process's umask; reading it by setting it would race with other threads."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
