"""What the reference model is made of: nodes, open files, attributes."""

from __future__ import annotations

import stat as bits
from collections.abc import Iterator
from dataclasses import dataclass, field


class Outside(Exception):
    """A path leads out of the model's root, about which it says nothing."""


@dataclass(frozen=True)
class Stat:
    """What is compared of an inode. The size of a directory is its file system's own business."""

    kind: str
    mode: int
    uid: int
    gid: int
    link_count: int
    size: int


@dataclass(frozen=True)
class OpenFlags:
    """open(2)'s flags. `truncate` is only given together with `write`."""

    read: bool = False
    write: bool = False
    create: bool = False
    exclusive: bool = False
    truncate: bool = False
    append: bool = False


@dataclass(eq=False)
class Node:
    """An inode. `modified` is an interval of steps, unless `modified_ns` was set exactly."""

    mode: int
    uid: int = 0
    gid: int = 0
    modified: tuple[int, int] = (0, 0)
    modified_ns: int | None = None
    link_count: int = 1

    def stat(self) -> Stat:
        """Its attributes."""
        kind = type(self).__name__.lower()
        return Stat(kind, self.mode, self.uid, self.gid, self.link_count, self.size())

    def size(self) -> int:
        """Bytes; 0 for a directory."""
        return 0


@dataclass(eq=False)
class File(Node):
    """A regular file."""

    content: bytearray = field(default_factory=bytearray)

    def size(self) -> int:
        return len(self.content)

    def resize(self, size: int) -> None:
        """Cuts, or extends with zeros."""
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))

    def put(self, data: bytes, offset: int) -> None:
        """Overwrites, with zeros up to the offset."""
        self.content.extend(bytes(max(0, offset - len(self.content))))
        self.content[offset : offset + len(data)] = data


@dataclass(eq=False)
class Symlink(Node):
    """A symbolic link."""

    target: bytes = b""

    def size(self) -> int:
        return len(self.target)


@dataclass(eq=False)
class Directory(Node):
    """A directory. The parent of the root is the root."""

    entries: dict[bytes, Node] = field(default_factory=dict)
    parent: Directory = field(init=False)

    def stat(self) -> Stat:
        subdirectories = sum(isinstance(node, Directory) for node in self.entries.values())
        return Stat("directory", self.mode, self.uid, self.gid, 2 + subdirectories, 0)

    def ancestors(self) -> Iterator[Directory]:
        """Itself, its parent and so on, to the root."""
        here = self
        while True:
            yield here
            if here.parent is here:
                return
            here = here.parent

    def walk(self, path: bytes = b"") -> Iterator[tuple[bytes, Node]]:
        """Every path below it with its node, in the order of the names."""
        for name, node in sorted(self.entries.items()):
            below = path + b"/" + name if path else name
            yield below, node
            if isinstance(node, Directory):
                yield from node.walk(below)


@dataclass
class Found:
    """A path's last component: where, what it is called, what is there, whether a slash follows."""

    parent: Directory
    name: bytes
    node: Node | None
    slash: bool

    @property
    def dots(self) -> bool:
        """Whether it has no name of its own."""
        return self.name in (b".", b"..")


@dataclass
class Handle:
    """An open file."""

    file: File
    flags: OpenFlags
    position: int = 0


def kind_of(mode: int) -> str:
    """The kind of inode that `st_mode` names, as `Stat` has it."""
    return {bits.S_IFREG: "file", bits.S_IFDIR: "directory", bits.S_IFLNK: "symlink"}[
        bits.S_IFMT(mode)
    ]
