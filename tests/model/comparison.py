"""What "equal" means: of one operation's outcome, and of a whole tree.

The list of differences is complete: what is not named here must be equal to the reference.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from tests.model.nodes import File, Node, Outside, Symlink
from tests.model.reference import Reference

# (kind of surface, operation): why it is not asked.
NOT_ASKED: dict[tuple[str, str], str] = {
    ("sdk", "access"): "the SDK has no access(2): programs without a descriptor ask stat",
}

# (kind of surface, operation, the reference's errno): the other errno, and why.
OTHER_ERRNO: dict[tuple[str, str, str], tuple[str, str]] = {
    ("sdk", "rename", "EBUSY"): ("EINVAL", "POSIX says so for names that end in a dot"),
}

Outcome = tuple[str, Any]


def outcome(operation: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """What an operation returned, or the name of its errno."""
    try:
        return "returned", operation(*arguments)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        return "refused", name


def brief(value: Any) -> str:
    """A value for a message: long contents by their ends."""
    text = repr(value)
    return text if len(text) < 300 else f"{text[:140]} … {text[-140:]} ({len(text)} characters)"


def compare(model: Reference, surfaces: list[Any], name: str, arguments: tuple[Any, ...]) -> Any:
    """Runs an operation on all; returns the reference's outcome, `None` if it has no opinion."""
    try:
        expected = outcome(getattr(model, name), arguments)
    except Outside:
        return None
    for surface in surfaces:
        if (surface.kind, name) in NOT_ASKED:
            continue
        found = outcome(getattr(surface, name), arguments)
        other = OTHER_ERRNO.get((surface.kind, name, str(expected[1])))
        if found != expected and not (other and found == ("refused", other[0])):
            raise AssertionError(
                f"{surface.name}: {name}{brief(arguments)} {brief(found)}, "
                f"and the reference {brief(expected)}{first_difference(expected, found)}"
            )
    return expected


def first_difference(expected: Outcome, found: Outcome) -> str:
    """Where two contents part."""
    if not (isinstance(expected[1], bytes) and isinstance(found[1], bytes)):
        return ""
    pairs = enumerate(zip(expected[1], found[1], strict=False))
    at = next((at for at, (a, b) in pairs if a != b), min(len(expected[1]), len(found[1])))
    return f"; they part at byte {at} of {len(expected[1])} and {len(found[1])}"


def compare_trees(model: Reference, surfaces: list[Any]) -> None:
    """Every path with its attributes, contents, target and the order of modification times."""
    for surface in surfaces:
        check_listings(model, surface)
        times: list[tuple[bytes, Node, int]] = []
        for path, node in model.root.walk():
            found = surface.lstat(path)
            assert found == node.stat(), f"{surface.name}: {path!r} {found}, not {node.stat()}"
            times.append((path, node, surface.modified_ns(path)))
            if isinstance(node, Symlink):
                assert surface.readlink(path) == node.target, f"{surface.name}: {path!r}"
            if isinstance(node, File):
                content = surface.contents(path)
                expected = ("returned", bytes(node.content))
                parts = first_difference(expected, ("returned", content))
                assert content == node.content, f"{surface.name}: contents of {path!r}{parts}"
        check_times(surface.name, times)


def check_listings(model: Reference, surface: Any) -> None:
    """Every directory holds the reference's names and no others."""
    for path, node in [(b".", model.root), *model.root.walk()]:
        if node.stat().kind == "directory":
            found = surface.listdir(path)
            expected = sorted(node.entries)
            assert found == expected, f"{surface.name}: {path!r} holds {found}, not {expected}"


def check_times(name: str, times: list[tuple[bytes, Node, int]]) -> None:
    """Times that were set are exact; the others are in the order of the changes."""
    for path, node, modified_ns in times:
        if node.modified_ns is not None:
            assert modified_ns == node.modified_ns, f"{name}: time of {path!r}"
    ordered = [one for one in times if one[1].modified_ns is None]
    for path, node, modified_ns in ordered:
        for other_path, other, other_ns in ordered:
            if node.modified[1] < other.modified[0]:
                assert modified_ns <= other_ns, (
                    f"{name}: {path!r} was changed before {other_path!r}, but its time is later: "
                    f"{modified_ns}, {other_ns}"
                )
