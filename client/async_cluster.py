"""The files of a cluster for asyncio.

Owns: `AsyncCluster`, `AsyncFile`. Never: threads; the native client announces each completion to
the event loop. Cancelling a waiting task does not undo its operation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Self, TypeVar

from firepond.client.attributes import DirEntry, FileStat, FileSystemStat
from firepond.client.namespace import times_ns
from firepond.client.open_mode import StrPath, parse_mode, path_bytes, path_text, process_umask
from firepond.fs.errors import AlreadyExists, FirepondError, InvalidArgument

if TYPE_CHECKING:
    from firepond import _native
    from firepond.client.cluster import Cluster
    from firepond.client.raw_file import SupportsBuffer

Result = TypeVar("Result")


async def call(method: Callable[..., Result], *arguments: object, **named: object) -> Result:
    """Runs a native method with `done` and waits for its announcement."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def done(result: Result, error: BaseException | None) -> None:
        # A loop that was closed has nobody who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    method(*arguments, **named, done=done)
    return await future


class AsyncFile:
    """An open file without a position: every call says where. Buffers are used without a copy and
    must stay untouched until the call has ended."""

    def __init__(self, native: _native.File, name: str) -> None:
        self.native = native
        self.name = name

    async def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end of the file."""
        return await call(self.native.pread, offset, size)

    async def pread_into(self, buffer: SupportsBuffer, offset: int) -> int:
        """Fills a buffer from `offset`; returns the bytes read."""
        return await call(self.native.readinto, offset, buffer)

    async def pwrite(self, data: SupportsBuffer, offset: int) -> int:
        """Writes at `offset`; durable after `flush`, `sync` or `close`."""
        return await call(self.native.pwrite, offset, data)

    async def append(self, data: SupportsBuffer) -> int:
        """Writes at the end; returns the offset after the bytes."""
        return await call(self.native.append, data)

    async def truncate(self, size: int) -> None:
        """Cuts or extends with zeros."""
        await call(self.native.truncate, size)

    async def punch_hole(self, offset: int, length: int) -> None:
        """Makes a range zeros, as far as the file reaches."""
        await call(self.native.punch_hole, offset, length)

    async def stat(self) -> FileStat:
        """The attributes of the open file."""
        return FileStat.from_row(await call(self.native.stat))

    async def flush(self) -> None:
        """Returns when every byte written so far is durable on all replicas."""
        await call(self.native.flush)

    async def sync(self) -> None:
        """fsync: `flush`, and others see the new length and times."""
        await call(self.native.sync)

    async def close(self) -> None:
        """Makes everything durable and gives the file back."""
        await call(self.native.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncCluster:
    """The files of a cluster for asyncio. Made by `Cluster.aio`, with the same rules."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def open(
        self,
        path: StrPath,
        mode: str = "rb",
        *,
        permissions: int = 0o666,
        chunk_size_bytes: int = 0,
        stripe_count: int = 0,
    ) -> AsyncFile:
        """Opens a file; modes as for `Cluster.open`, always binary, "a" only by `append`."""
        parsed = parse_mode(mode if "b" in mode else mode + "b")
        native = await call(
            self.cluster.native().open,
            path_bytes(path),
            read=parsed.read,
            write=parsed.write,
            create=parsed.create,
            exclusive=parsed.exclusive,
            truncate=parsed.truncate,
            mode=permissions & ~process_umask(),
            chunk_size_bytes=chunk_size_bytes,
            stripe_count=stripe_count,
        )
        return AsyncFile(native, path_text(path))

    async def read_bytes(self, path: StrPath) -> bytes:
        """The whole contents of a file."""
        async with await self.open(path) as file:
            return await file.pread((await file.stat()).st_size, 0)

    async def write_bytes(self, path: StrPath, data: SupportsBuffer) -> int:
        """Makes `data` the contents of a file; durable when this returns."""
        async with await self.open(path, "wb") as file:
            return await file.pwrite(data, 0)

    async def read_batch(
        self,
        reads: Sequence[tuple[AsyncFile, int, SupportsBuffer]],
        *,
        raise_errors: bool = True,
    ) -> list[int | FirepondError]:
        """Reads of (file, offset, buffer) in one go, as `Cluster.read_batch`."""
        rows = [(file.native, offset, buffer) for file, offset, buffer in reads]
        results = await call(self.cluster.native().read_batch, rows)
        failed = [result for result in results if isinstance(result, BaseException)]
        if raise_errors and failed:
            raise failed[0]
        return results

    async def scandir(
        self, path: StrPath = "/", *, attributes: bool = False
    ) -> AsyncIterator[DirEntry]:
        """The entries of a directory in the order of their names, in pages."""
        directory = path_text(path)
        native = self.cluster.native()
        inode = (await call(native.stat, path_bytes(path), True))[0][0]
        after: bytes | None = None
        more = True
        while more:
            page = call(native.read_directory, inode, after, self.cluster.PAGE_COUNT, attributes)
            rows, more = await page
            for row in rows:
                yield DirEntry(directory, row, self._stat_for_entry)
            after = rows[-1][0] if rows else after
            more = more and bool(rows)

    def _stat_for_entry(self, path: str, follow: bool) -> FileStat:
        raise InvalidArgument("list with attributes=True, or await AsyncCluster.stat(entry.path)")

    async def listdir(self, path: StrPath = "/") -> list[str]:
        """The names of a directory, in order."""
        return [entry.name async for entry in self.scandir(path)]

    async def stat(self, path: StrPath, *, follow_symlinks: bool = True) -> FileStat:
        """The attributes of what a path leads to."""
        row = await call(self.cluster.native().stat, path_bytes(path), follow_symlinks)
        return FileStat.from_row(row)

    async def exists(self, path: StrPath) -> bool:
        """Whether a path leads to something."""
        try:
            await self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    async def lstat(self, path: StrPath) -> FileStat:
        """The attributes of a name; those of the link itself for a symbolic link."""
        return await self.stat(path, follow_symlinks=False)

    async def isdir(self, path: StrPath) -> bool:
        """Whether a path leads to a directory."""
        return await self.exists(path) and (await self.stat(path)).is_dir()

    async def isfile(self, path: StrPath) -> bool:
        """Whether a path leads to a regular file."""
        return await self.exists(path) and (await self.stat(path)).is_file()

    async def getsize(self, path: StrPath) -> int:
        """The size of a file in bytes."""
        return (await self.stat(path)).st_size

    async def mkdir(self, path: StrPath, mode: int = 0o777) -> None:
        """Makes a directory."""
        native = self.cluster.native()
        await call(native.make_directory, path_bytes(path), mode & ~process_umask())

    async def makedirs(self, path: StrPath, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        """Makes a directory and whatever is missing above it."""
        text = path_text(path).rstrip("/")
        parent = text.rpartition("/")[0]
        if parent and not await self.exists(parent):
            await self.makedirs(parent, exist_ok=True)
        try:
            await self.mkdir(text or "/", mode)
        except (AlreadyExists, InvalidArgument):
            # The root has no name that could be made.
            if not (exist_ok and await self.isdir(text or "/")):
                raise

    async def rmtree(self, path: StrPath) -> None:
        """Removes a directory with all below it. Symbolic links are removed, not followed."""
        for entry in [one async for one in self.scandir(path)]:
            if entry.is_dir(follow_symlinks=False):
                await self.rmtree(entry.path)
            else:
                await self.remove(entry.path)
        await self.rmdir(path)

    async def link(self, source: StrPath, destination: StrPath) -> None:
        """Gives a file a second name."""
        native = self.cluster.native()
        await call(native.link, path_bytes(source), path_bytes(destination))

    async def symlink(self, target: StrPath, path: StrPath) -> None:
        """Makes a symbolic link at `path` that leads to `target`."""
        native = self.cluster.native()
        await call(native.make_symlink, os.fsencode(target), path_bytes(path))

    async def readlink(self, path: StrPath) -> str:
        """The target of a symbolic link."""
        target = await call(self.cluster.native().read_link, path_bytes(path))
        return target.decode(errors="surrogateescape")

    async def chmod(self, path: StrPath, mode: int, *, follow_symlinks: bool = True) -> None:
        """Sets the permission bits."""
        native = self.cluster.native()
        await call(native.set_attributes, path_bytes(path), follow_symlinks, mode=mode & 0o7777)

    async def chown(
        self, path: StrPath, uid: int = -1, gid: int = -1, *, follow_symlinks: bool = True
    ) -> None:
        """Sets owner and group; −1 leaves one as it is."""
        await call(
            self.cluster.native().set_attributes,
            path_bytes(path),
            follow_symlinks,
            uid=None if uid == -1 else uid,
            gid=None if gid == -1 else gid,
        )

    async def utime(
        self,
        path: StrPath,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        """Sets times of access and change: seconds or nanoseconds since 1970; neither: now."""
        accessed, modified = times_ns(times, ns)
        await call(
            self.cluster.native().set_attributes,
            path_bytes(path),
            follow_symlinks,
            accessed_ns=accessed,
            modified_ns=modified,
        )

    async def walk(self, top: StrPath = "/") -> AsyncIterator[tuple[str, list[str], list[str]]]:
        """(directory, its directories, its other names) for a tree, as `os.walk` from the top:
        links to directories are listed and not followed."""
        directory = path_text(top)
        entries = [one async for one in self.scandir(directory)]
        links = {one.name for one in entries if one.is_symlink()}
        directories = [
            one.name
            for one in entries
            if (await self.isdir(one.path) if one.name in links else one.is_dir())
        ]
        known = set(directories)
        yield directory, directories, [one.name for one in entries if one.name not in known]
        for name in directories:
            if name not in links:
                async for found in self.walk(f"{directory.rstrip('/')}/{name}"):
                    yield found

    async def rmdir(self, path: StrPath) -> None:
        """Removes an empty directory."""
        await call(self.cluster.native().remove_directory, path_bytes(path))

    async def remove(self, path: StrPath) -> None:
        """Removes a file or symbolic link."""
        await call(self.cluster.native().unlink, path_bytes(path))

    async def rename(self, source: StrPath, destination: StrPath) -> None:
        """Renames; an existing destination is an error."""
        native = self.cluster.native()
        await call(native.rename, path_bytes(source), path_bytes(destination), False)

    async def replace(self, source: StrPath, destination: StrPath) -> None:
        """Renames; an existing destination is replaced at once."""
        native = self.cluster.native()
        await call(native.rename, path_bytes(source), path_bytes(destination), True)

    async def exchange(self, first: StrPath, second: StrPath) -> None:
        """Gives two names each other's file or directory, at once."""
        await call(self.cluster.native().exchange, path_bytes(first), path_bytes(second))

    async def truncate(self, path: StrPath, size: int) -> None:
        """Cuts a file or extends it with zeros."""
        if size < 0:
            raise InvalidArgument("a size is not negative", {"size": str(size)})
        await call(self.cluster.native().set_attributes, path_bytes(path), True, size=size)

    async def statvfs(self) -> FileSystemStat:
        """Space of the file system."""
        return FileSystemStat(*await call(self.cluster.native().stat_file_system))
