"""The state machine: random operations, the same on all surfaces, compared after every step.

Why few names and indices into what exists: random paths would meet nothing. Replay: Hypothesis
prints the failing steps as a program, and every step is noted with its real arguments.
"""

from __future__ import annotations

from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, multiple, rule

from tests.model.comparison import brief, compare, compare_trees
from tests.model.nodes import Directory, OpenFlags
from tests.model.reference import Reference
from tests.model.strategies import (
    Choice,
    Existing,
    content,
    directories,
    existing,
    file_paths,
    files,
    flags,
    lengths,
    links,
    modes,
    names,
    offsets,
    opened_modes,
    owners,
    paths,
    renames,
    short_paths,
    targets,
    times_ns,
)
from tests.model.world import LocalWorld

sides = st.booleans()


class FileSystemMachine(RuleBasedStateMachine):
    """Files and directories without faults."""

    handles = Bundle("handles")

    def __init__(self, world: LocalWorld) -> None:
        super().__init__()
        self.world = world
        self.model = Reference()
        self.surfaces = world.fresh_surfaces()
        self.slot_count = 0

    def path(self, choice: Choice) -> bytes:
        """The path that is meant: itself, one that exists, or a name in a directory that does."""
        if isinstance(choice, bytes):
            return choice
        found = list(self.model.root.walk())
        if isinstance(choice, Existing):
            fitting = [path for path, node in found if choice.kind in ("", node.stat().kind)]
            return fitting[choice.number % len(fitting)] if fitting else b"a"
        directories = [b"", *(path for path, node in found if isinstance(node, Directory))]
        directory = directories[choice.number % len(directories)]
        return directory + b"/" + choice.name if directory else choice.name

    def apply(self, by_mount: bool, name: str, *arguments: Any) -> bool:
        """Runs an operation everywhere; whether it succeeded."""
        note(f"    {name}{brief(arguments)}{' by the mount' if by_mount else ''}")
        self.world.take_turn(by_mount)
        found = compare(self.model, self.surfaces, name, arguments)
        if found is not None:
            self.world.outcomes[name, found[0]] += 1
        return found is not None and found[0] == "returned"

    @initialize()
    def start(self) -> None:
        """A little tree to begin with."""
        for path in (b"a", b"a/b"):
            self.apply(False, "mkdir", path, 0o755)
        for slot, path in enumerate((b"c", b"a/c"), 1000):
            self.apply(True, "open", slot, path, OpenFlags(write=True, create=True), 0o644)
            self.apply(True, "write", slot, path * 100)
            self.apply(True, "close", slot)

    # Open files.

    @rule(target=handles, at=sides, path=paths, how=flags, mode=opened_modes)
    def open(self, at: bool, path: Choice, how: OpenFlags, mode: int) -> Any:
        self.slot_count += 1
        slot = self.slot_count
        if self.apply(at, "open", slot, self.path(path), how, mode):
            return slot
        return multiple()

    @rule(target=handles, at=sides, path=files, how=flags)
    def open_existing(self, at: bool, path: Choice, how: OpenFlags) -> Any:
        return self.open(at, path, how, 0o644)

    def on_handle(self, slot: int, name: str, *arguments: Any) -> None:
        if slot in self.model.handles:
            self.apply(False, name, slot, *arguments)

    @rule(slot=consumes(handles))
    def close(self, slot: int) -> None:
        self.on_handle(slot, "close")

    @rule(slot=handles, size=lengths, offset=offsets)
    def pread(self, slot: int, size: int, offset: int) -> None:
        self.on_handle(slot, "pread", size, offset)

    @rule(slot=handles, data=content, offset=offsets)
    def pwrite(self, slot: int, data: bytes, offset: int) -> None:
        """Not for appending: there Linux appends, against POSIX, and the SDK does not."""
        if slot in self.model.handles and not self.model.handles[slot].flags.append:
            self.on_handle(slot, "pwrite", data, offset)

    @rule(slot=handles, size=lengths)
    def read(self, slot: int, size: int) -> None:
        self.on_handle(slot, "read", size)

    @rule(slot=handles, data=content)
    def write(self, slot: int, data: bytes) -> None:
        self.on_handle(slot, "write", data)

    @rule(slot=handles, offset=st.one_of(offsets, st.just(-5)), whence=st.sampled_from([0, 1, 2]))
    def seek(self, slot: int, offset: int, whence: int) -> None:
        handle = self.model.handles.get(slot)
        # A position far away would make the file as long with the next write.
        if handle and max(handle.position, handle.file.size()) < 1 << 20:
            self.on_handle(slot, "seek", offset, whence)

    @rule(slot=handles, size=offsets)
    def ftruncate(self, slot: int, size: int) -> None:
        self.on_handle(slot, "ftruncate", size)

    @rule(slot=handles, offset=offsets, length=lengths)
    def extend(self, slot: int, offset: int, length: int) -> None:
        self.on_handle(slot, "extend", offset, length + 1)

    @rule(slot=handles, offset=offsets, length=lengths)
    def punch_hole(self, slot: int, offset: int, length: int) -> None:
        self.on_handle(slot, "punch_hole", offset, length + 1)

    @rule(slot=handles)
    def fsync(self, slot: int) -> None:
        self.on_handle(slot, "fsync")

    @rule(slot=handles)
    def fstat(self, slot: int) -> None:
        self.on_handle(slot, "fstat")

    # Names.

    @rule(at=sides, path=paths, mode=modes)
    def mkdir(self, at: bool, path: Choice, mode: int) -> None:
        self.apply(at, "mkdir", self.path(path), mode & 0o777)

    @rule(at=sides, path=st.one_of(directories, paths))
    def rmdir(self, at: bool, path: Choice) -> None:
        self.apply(at, "rmdir", self.path(path))

    @rule(at=sides, path=paths)
    def unlink(self, at: bool, path: Choice) -> None:
        self.apply(at, "unlink", self.path(path))

    @rule(at=sides, leads_to=targets, path=short_paths)
    def symlink(self, at: bool, leads_to: bytes, path: Choice) -> None:
        self.apply(at, "symlink", leads_to, self.path(path))

    @rule(at=sides, source=st.one_of(files, short_paths), path=short_paths)
    def link(self, at: bool, source: Choice, path: Choice) -> None:
        self.apply(at, "link", self.path(source), self.path(path))

    @rule(at=sides, source=short_paths, path=short_paths, how=renames)
    def rename(self, at: bool, source: Choice, path: Choice, how: str) -> None:
        self.apply(at, "rename", self.path(source), self.path(path), how)

    @rule(at=sides, choice=existing, name=names)
    def rename_below_itself(self, at: bool, choice: Choice, name: bytes) -> None:
        path = self.path(choice)
        self.apply(at, "rename", path, path + b"/" + name, "replace")

    @rule(at=sides, path=st.one_of(links, paths))
    def readlink(self, at: bool, path: Choice) -> None:
        self.apply(at, "readlink", self.path(path))

    @rule(at=sides, path=paths)
    def listdir(self, at: bool, path: Choice) -> None:
        self.apply(at, "listdir", self.path(path))

    # Attributes.

    @rule(at=sides, path=paths)
    def stat(self, at: bool, path: Choice) -> None:
        self.apply(at, "stat", self.path(path))
        self.apply(not at, "lstat", self.path(path))

    @rule(at=sides, path=file_paths, execute=st.booleans())
    def access(self, at: bool, path: Choice, execute: bool) -> None:
        self.apply(at, "access", self.path(path), execute)

    @rule(at=sides, path=paths, mode=modes)
    def chmod(self, at: bool, path: Choice, mode: int) -> None:
        self.apply(at, "chmod", self.path(path), mode)

    @rule(at=sides, path=paths, owner=owners, follow=st.booleans())
    def chown(self, at: bool, path: Choice, owner: tuple[int, int], follow: bool) -> None:
        self.apply(at, "chown", self.path(path), *owner, follow)

    @rule(at=sides, path=paths, modified_ns=times_ns, follow=st.booleans())
    def utime(self, at: bool, path: Choice, modified_ns: int, follow: bool) -> None:
        self.apply(at, "utime", self.path(path), modified_ns, follow)

    @rule(at=sides, path=file_paths, size=offsets)
    def truncate(self, at: bool, path: Choice, size: int) -> None:
        self.apply(at, "truncate", self.path(path), size)

    # The whole.

    @rule()
    def compare_trees(self) -> None:
        for side in (False, True):
            self.world.take_turn(side)
            compare_trees(self.model, self.surfaces)

    def teardown(self) -> None:
        """Ends the example; the trees are compared once more unless it has failed already."""
        self.world.close_files()
