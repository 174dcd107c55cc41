"""The reference model: what files and directories do, for root, in plain Python.

Why: there is one definition of correctness, small enough to be read, and everything else is
compared with it. Each operation raises `OSError` with the errno that Linux gives, in Linux's order
of checks. Owns: names, links, modes, contents, which modification time is older. Never: I/O.
Times: a node's `modified` is the interval of steps in which its time was set last (an interval,
because POSIX leaves some changes open), or what `utime` set.
Reading order: `nodes.py`, the walk in `_find`, then the operations by name.
"""

from __future__ import annotations

import errno
import stat as bits
from collections import deque

from tests.model.nodes import (
    Directory,
    File,
    Found,
    Handle,
    Node,
    OpenFlags,
    Outside,
    Stat,
    Symlink,
)

PATH_MAX = 4096
NAME_MAX = 255
LINKS_MAX = 40
UMASK = 0o022


def fail(number: int) -> OSError:
    """The error that Linux would give."""
    return OSError(number, errno.errorcode[number])


class Reference:
    """A file system in memory. Paths are bytes and start at its root, without a slash."""

    def __init__(self) -> None:
        self.step = 0
        self.root = Directory(mode=0o755)
        self.root.parent = self.root
        self.handles: dict[int, Handle] = {}

    # How a path is walked.

    def _find(self, path: bytes, *, follow: bool) -> Found:
        """Walks to the last component, which is followed if it is a link and `follow` says so."""
        if not path:
            raise fail(errno.ENOENT)
        if len(path) >= PATH_MAX:
            raise fail(errno.ENAMETOOLONG)
        slash = path.endswith(b"/")
        names = deque(name for name in path.split(b"/") if name)
        here: Node = self.root
        links = 0
        while True:
            name = names.popleft()
            if not isinstance(here, Directory):
                raise fail(errno.ENOTDIR)
            if names and len(name) > NAME_MAX:
                raise fail(errno.ENAMETOOLONG)
            if name == b".." and here is self.root:
                raise Outside
            found = {b".": here, b"..": here.parent}.get(name) or here.entries.get(name)
            if isinstance(found, Symlink) and (names or follow):
                links += 1
                if links > LINKS_MAX:
                    raise fail(errno.ELOOP)
                if found.target.startswith(b"/"):
                    raise Outside
                if not names:
                    slash = slash or found.target.endswith(b"/")
                names.extendleft(part for part in found.target.split(b"/")[::-1] if part)
                continue
            if not names:
                return Found(here, name, found, slash)
            if found is None:
                raise fail(errno.ENOENT)
            here = found

    def _node(self, path: bytes, *, follow: bool = True) -> Node:
        """What a path leads to; a slash at its end follows a link and asks for a directory."""
        found = self._find(path, follow=follow or path.endswith(b"/"))
        if self._look_up(found) is None:
            raise fail(errno.ENOENT)
        assert found.node is not None
        if found.slash and not isinstance(found.node, Directory):
            raise fail(errno.ENOTDIR)
        return found.node

    def _look_up(self, found: Found) -> Node | None:
        """What has the last name: here Linux notices that the name is too long."""
        if len(found.name) > NAME_MAX:
            raise fail(errno.ENAMETOOLONG)
        return found.node

    def _new_place(self, path: bytes, *, directory: bool = False) -> Found:
        """Where a name is to be made."""
        found = self._find(path, follow=False)
        if found.dots or self._look_up(found) is not None:
            raise fail(errno.EEXIST)
        if found.slash and not directory:
            raise fail(errno.ENOENT)
        return found

    # Names.

    def mkdir(self, path: bytes, mode: int) -> None:
        """Makes a directory."""
        place = self._new_place(path, directory=True)
        node = Directory(mode=mode & ~UMASK & 0o1777)
        node.parent = place.parent
        if place.parent.mode & bits.S_ISGID:
            node.mode |= bits.S_ISGID
        self._add(place, node)

    def symlink(self, target: bytes, path: bytes) -> None:
        """Makes a symbolic link."""
        if not target:
            raise fail(errno.ENOENT)
        if len(target) >= PATH_MAX:
            raise fail(errno.ENAMETOOLONG)
        self._add(self._new_place(path), Symlink(mode=0o777, target=target))

    def link(self, source: bytes, path: bytes) -> None:
        """Gives a file or symbolic link another name."""
        node = self._node(source, follow=False)
        place = self._new_place(path)
        if isinstance(node, Directory):
            raise fail(errno.EPERM)
        place.parent.entries[place.name] = node
        node.link_count += 1
        self._modified(place.parent)

    def unlink(self, path: bytes) -> None:
        """Removes a name of what is no directory."""
        place = self._find(path, follow=False)
        if place.dots or isinstance(self._look_up(place), Directory):
            raise fail(errno.EISDIR)
        if place.node is None:
            raise fail(errno.ENOENT)
        if place.slash:
            raise fail(errno.ENOTDIR)
        place.node.link_count -= 1
        self._remove(place)

    def rmdir(self, path: bytes) -> None:
        """Removes an empty directory."""
        place = self._find(path, follow=False)
        if place.dots:
            raise fail(errno.EINVAL if place.name == b"." else errno.ENOTEMPTY)
        if self._look_up(place) is None:
            raise fail(errno.ENOENT)
        if not isinstance(place.node, Directory):
            raise fail(errno.ENOTDIR)
        if place.node.entries:
            raise fail(errno.ENOTEMPTY)
        self._remove(place)

    def rename(self, source: bytes, path: bytes, how: str) -> None:
        """`how` is "replace", "no_replace" or "exchange"."""
        old = self._find(source, follow=False)
        new = self._find(path, follow=False)
        if old.dots:
            raise fail(errno.EBUSY)
        if new.dots:
            raise fail(errno.EEXIST if how == "no_replace" else errno.EBUSY)
        if self._look_up(old) is None:
            raise fail(errno.ENOENT)
        if self._look_up(new) is not None and how == "no_replace":
            raise fail(errno.EEXIST)
        if how == "exchange":
            self._check_exchange(new)
        assert old.node is not None
        if not isinstance(old.node, Directory) and (old.slash or (new.slash and how != "exchange")):
            raise fail(errno.ENOTDIR)
        if old.node in new.parent.ancestors():
            raise fail(errno.EINVAL)
        if new.node in old.parent.ancestors():
            raise fail(errno.EINVAL if how == "exchange" else errno.ENOTEMPTY)
        if old.node is new.node:
            return
        if how == "exchange":
            assert new.node is not None
            self._put(old, new.node)
        else:
            self._check_replaced(old.node, new.node)
            if isinstance(new.node, File | Symlink):
                new.node.link_count -= 1
            self._remove(old)
        self._put(new, old.node)

    def _check_exchange(self, new: Found) -> None:
        if new.node is None:
            raise fail(errno.ENOENT)
        if not isinstance(new.node, Directory) and new.slash:
            raise fail(errno.ENOTDIR)

    def _check_replaced(self, moved: Node, replaced: Node | None) -> None:
        if replaced is None:
            return
        if isinstance(moved, Directory):
            if not isinstance(replaced, Directory):
                raise fail(errno.ENOTDIR)
            if replaced.entries:
                raise fail(errno.ENOTEMPTY)
        elif isinstance(replaced, Directory):
            raise fail(errno.EISDIR)

    def readlink(self, path: bytes) -> bytes:
        """The target of a symbolic link."""
        node = self._node(path, follow=False)
        if not isinstance(node, Symlink):
            raise fail(errno.EINVAL)
        return node.target

    def listdir(self, path: bytes) -> list[bytes]:
        """The names in a directory, sorted."""
        node = self._node(path)
        if not isinstance(node, Directory):
            raise fail(errno.ENOTDIR)
        return sorted(node.entries)

    # Attributes.

    def stat(self, path: bytes) -> Stat:
        """The attributes of what a path leads to."""
        return self._node(path).stat()

    def lstat(self, path: bytes) -> Stat:
        """The attributes of a path itself."""
        return self._node(path, follow=False).stat()

    def access(self, path: bytes, execute: bool) -> None:
        """What root may do: all, but execute only what anybody may."""
        node = self._node(path)
        if execute and not isinstance(node, Directory) and not node.mode & 0o111:
            raise fail(errno.EACCES)

    def chmod(self, path: bytes, mode: int) -> None:
        """Sets the permission bits."""
        self._node(path).mode = mode

    def chown(self, path: bytes, uid: int, gid: int, follow: bool) -> None:
        """Sets owner and group; −1 leaves one as it is."""
        node = self._node(path, follow=follow)
        node.uid = node.uid if uid == -1 else uid
        node.gid = node.gid if gid == -1 else gid
        if not isinstance(node, Directory):
            node.mode &= ~bits.S_ISUID
            if node.mode & bits.S_IXGRP:
                node.mode &= ~bits.S_ISGID

    def utime(self, path: bytes, modified_ns: int, follow: bool) -> None:
        """Sets the time of modification."""
        self._node(path, follow=follow).modified_ns = modified_ns

    def truncate(self, path: bytes, size: int) -> None:
        """Cuts or extends a file by its name."""
        node = self._node(path)
        if isinstance(node, Directory):
            raise fail(errno.EISDIR)
        assert isinstance(node, File)
        same = len(node.content) == size
        node.resize(size)
        self._modified(node, surely=not same)

    # Open files.

    def open(self, slot: int, path: bytes, flags: OpenFlags, mode: int) -> None:
        """Opens a file as number `slot`. As in Python, one for appending starts at its end."""
        found = self._find_to_open(path, flags)
        self._look_up(found)
        if flags.create and flags.exclusive and (found.dots or found.node is not None):
            raise fail(errno.EEXIST)
        if flags.create and isinstance(found.node, Directory):
            raise fail(errno.EISDIR)
        if found.node is None:
            if not flags.create:
                raise fail(errno.ENOENT)
            found.node = File(mode=mode & ~UMASK)
            self._add(found, found.node)
        elif isinstance(found.node, Symlink):
            raise fail(errno.ELOOP)
        elif found.slash and not isinstance(found.node, Directory):
            raise fail(errno.ENOTDIR)
        elif isinstance(found.node, File) and flags.truncate:
            found.node.resize(0)
            self._modified(found.node)
        if not isinstance(found.node, File):
            raise fail(errno.EISDIR)
        position = found.node.size() if flags.append else 0
        self.handles[slot] = Handle(found.node, flags, position)

    def _find_to_open(self, path: bytes, flags: OpenFlags) -> Found:
        found = self._find(path, follow=False)
        if flags.create and found.slash and not found.dots:
            raise fail(errno.EISDIR)
        if flags.create and flags.exclusive:
            return found
        found = self._find(path, follow=True)
        if flags.create and found.slash and not found.dots:
            raise fail(errno.EISDIR)
        return found

    def close(self, slot: int) -> None:
        """Closes an open file."""
        del self.handles[slot]

    def pread(self, slot: int, size: int, offset: int) -> bytes:
        """Reads at an offset."""
        handle = self._handle(slot, read=True)
        return bytes(handle.file.content[offset : offset + size])

    def pwrite(self, slot: int, data: bytes, offset: int) -> int:
        """Writes at an offset; what lies between the end and the offset becomes zeros."""
        handle = self._handle(slot, write=True)
        if data:
            handle.file.put(data, offset)
            self._modified(handle.file)
        return len(data)

    def read(self, slot: int, size: int) -> bytes:
        """Reads at the handle's position."""
        handle = self._handle(slot, read=True)
        data = self.pread(slot, size, handle.position)
        handle.position += len(data)
        return data

    def write(self, slot: int, data: bytes) -> int:
        """Writes at the handle's position, or at the end of the file if it was opened so."""
        handle = self._handle(slot, write=True)
        if handle.flags.append and data:
            handle.position = len(handle.file.content)
        handle.position += self.pwrite(slot, data, handle.position)
        return len(data)

    def seek(self, slot: int, offset: int, whence: int) -> int:
        """Moves the handle's position: from the start, from itself, from the end."""
        handle = self.handles[slot]
        start = (0, handle.position, len(handle.file.content))[whence]
        if start + offset < 0:
            raise fail(errno.EINVAL)
        handle.position = start + offset
        return handle.position

    def ftruncate(self, slot: int, size: int) -> None:
        """Cuts or extends an open file."""
        handle = self.handles[slot]
        if not handle.flags.write:
            raise fail(errno.EINVAL)
        handle.file.resize(size)
        self._modified(handle.file)

    def extend(self, slot: int, offset: int, length: int) -> None:
        """fallocate without a mode: the file reaches at least `offset + length`."""
        handle = self._handle(slot, write=True)
        if offset + length > len(handle.file.content):
            handle.file.resize(offset + length)
        self._modified(handle.file, surely=False)

    def punch_hole(self, slot: int, offset: int, length: int) -> None:
        """fallocate that makes a hole: bytes inside the file become zeros, its size stays."""
        handle = self._handle(slot, write=True)
        end = min(offset + length, len(handle.file.content))
        if offset < end:
            handle.file.put(bytes(end - offset), offset)
        self._modified(handle.file, surely=False)

    def fsync(self, slot: int) -> None:
        """Changes nothing that can be seen."""
        assert slot in self.handles

    def fstat(self, slot: int) -> Stat:
        """The attributes of an open file, also when its name is gone."""
        return self.handles[slot].file.stat()

    # Parts.

    def _handle(self, slot: int, *, read: bool = False, write: bool = False) -> Handle:
        handle = self.handles[slot]
        if (read and not handle.flags.read) or (write and not handle.flags.write):
            raise fail(errno.EBADF)
        return handle

    def _add(self, place: Found, node: Node) -> None:
        if place.parent.mode & bits.S_ISGID:
            node.gid = place.parent.gid
        self._modified(node)
        self._put(place, node)

    def _put(self, place: Found, node: Node) -> None:
        place.parent.entries[place.name] = node
        if isinstance(node, Directory):
            node.parent = place.parent
        self._modified(place.parent)

    def _remove(self, place: Found) -> None:
        del place.parent.entries[place.name]
        self._modified(place.parent)

    def _modified(self, node: Node, *, surely: bool = True) -> None:
        """The step changed the node's time of modification, or was free to."""
        self.step += 1
        if surely:
            node.modified = (self.step, self.step)
            node.modified_ns = None
        elif node.modified_ns is None:
            node.modified = (node.modified[0], self.step)
        else:
            node.modified = (0, self.step)
            node.modified_ns = None
