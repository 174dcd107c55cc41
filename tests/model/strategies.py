"""What the state machine draws: names, paths, flags, sizes.

Why so few values: operations must meet each other, so names repeat and offsets lie around the
borders that matter (pages, blocks of the chunk store, chunks).
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.model.nodes import OpenFlags

CHUNK_BYTES = 64 << 10
PAGE_BYTES = 4096


@dataclass(frozen=True)
class Existing:
    """The n-th of the paths that exist; of one kind of inode, if it names one."""

    number: int
    kind: str = ""


@dataclass(frozen=True)
class Inside:
    """A name in the n-th of the directories that exist."""

    number: int
    name: bytes


# What a step means by a path.
Choice = bytes | Existing | Inside

PLAIN = [b"a", b"b", b"c"]
WEIRD = [b".", b"..", b"\xff\xfe", "ü".encode(), b"a b\n", b"-", b"x" * 255, b"y" * 256]

names = st.sampled_from([*PLAIN * 8, *WEIRD])
_written = st.builds(
    lambda parts, slash: b"/".join(parts) + slash,
    st.lists(names, min_size=1, max_size=4),
    st.sampled_from([b"", b"", b"", b"", b"/"]),
)
_index = st.integers(0, 30)
existing: st.SearchStrategy[Choice] = st.builds(Existing, _index)
files: st.SearchStrategy[Choice] = st.builds(Existing, _index, st.just("file"))
links: st.SearchStrategy[Choice] = st.builds(Existing, _index, st.just("symlink"))
directories: st.SearchStrategy[Choice] = st.builds(Existing, _index, st.just("directory"))
_in_place = st.builds(Inside, _index, st.sampled_from(PLAIN))
_in_any_way = st.builds(Inside, _index, names)
# For operations with two paths: which of several errors comes first is not promised everywhere.
short_paths: st.SearchStrategy[Choice] = st.one_of(
    existing, _in_place, existing, _in_place, _in_any_way, _written
)
paths: st.SearchStrategy[Choice] = st.one_of(
    existing, _in_place, existing, _in_place, _in_any_way, _written, st.just(b"a/" * 3000)
)
file_paths = st.one_of(files, files, paths)

targets = st.one_of(_written, st.sampled_from([b"", b"z" * 4096, b"../c", b"../../a", b"."]))

_borders = [0, 1, PAGE_BYTES, CHUNK_BYTES, 2 * CHUNK_BYTES, 5 * CHUNK_BYTES]
offsets = st.builds(
    lambda border, delta: max(0, border + delta),
    st.sampled_from(_borders),
    st.sampled_from([-7, -1, 0, 1, 500]),
)
lengths = st.sampled_from([0, 1, 10, PAGE_BYTES, PAGE_BYTES + 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
# Contents that differ from place to place, so that shifted bytes are seen.
content = st.builds(
    lambda length, seed: bytes((at * 7 + seed + at // 256) % 255 + 1 for at in range(length)),
    lengths,
    st.integers(0, 255),
)

opened_modes = st.sampled_from([0o644, 0o666, 0o600, 0o444, 0o777])
modes = st.sampled_from([0o755, 0o777, 0o644, 0o000, 0o1777, 0o2755, 0o4755, 0o6711, 0o2644])
owners = st.sampled_from([(0, 0), (7, -1), (-1, 9), (65534, 65534)])
times_ns = st.sampled_from([0, 1, 1_000_000_000, 1_700_000_000_123_456_789])
renames = st.sampled_from(["replace", "replace", "no_replace", "exchange"])


def _flags(access: str, create: bool, exclusive: bool, truncate: bool, append: bool) -> OpenFlags:
    write = "w" in access
    return OpenFlags(
        read="r" in access,
        write=write,
        create=create,
        exclusive=exclusive and create,
        truncate=truncate and write,
        append=append and write,
    )


_seldom = st.sampled_from([False, False, False, True])
flags = st.builds(
    _flags, st.sampled_from(["r", "w", "rw", "rw"]), st.booleans(), _seldom, _seldom, _seldom
)
