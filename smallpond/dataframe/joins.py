"""From the arguments of `join` to its node: keys, kinds, and the names of the result's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smallpond.common import InvalidArgument
from smallpond.logical.relational.join import (
    JOIN_KINDS,
    JoinColumn,
    JoinKind,
    JoinNode,
    JoinSpec,
    JoinStrategy,
)

if TYPE_CHECKING:
    from smallpond.dataframe.frame import DataFrame

Keys = str | Sequence[str] | None
ALIASES = {"outer": "full", "left_semi": "semi", "left_anti": "anti", "left_outer": "left"}
COMPARISONS = {"backward": ">=", "forward": "<="}


def joined(
    left: DataFrame,
    right: DataFrame,
    how: str,
    keys: tuple[Keys, Keys, Keys, Keys],
    condition: str | None,
    direction: str,
    suffix: str,
    strategy: JoinStrategy | None,
    options: dict[str, Any],
) -> DataFrame:
    """The frame of a join."""
    kind: Any = ALIASES.get(how, how)
    if kind not in JOIN_KINDS:
        raise InvalidArgument(f"join: how={how!r} is none of {', '.join(JOIN_KINDS)}")
    if strategy not in (None, "broadcast", "hash", "merge"):
        raise InvalidArgument(f"join: strategy={strategy!r} is none of broadcast, hash, merge")
    left_names, right_names = left.columns, right.columns
    spec = spec_of(kind, keys, condition, direction)
    checked(spec, left_names, right_names)
    shared = keys[0] is not None and kind != "asof"
    columns = output_columns(spec, left_names, right_names, suffix, shared)
    node = JoinNode(left.session._ctx, left.plan, right.plan, spec, columns, strategy, **options)
    result = left._derived(node)
    result.need_recompute = left.need_recompute or right.need_recompute
    return result


def spec_of(
    how: JoinKind, keys: tuple[Keys, Keys, Keys, Keys], condition: str | None, direction: str
) -> JoinSpec:
    """What is joined, or what is wrong with the arguments."""
    on, left_on, right_on, by = (names_of(one) for one in keys)
    lefts, rights = (on, on) if on else (left_on, right_on)
    if on and (left_on or right_on):
        raise InvalidArgument("join: give on, or left_on and right_on, not both")
    if len(lefts) != len(rights):
        raise InvalidArgument(f"join: {len(lefts)} key columns on the left, {len(rights)} right")
    if how == "asof":
        if len(lefts) != 1 or condition is not None:
            raise InvalidArgument("join: asof needs one column of nearest values, and by= for keys")
        if direction not in COMPARISONS:
            raise InvalidArgument(f"join: direction={direction!r} is not backward or forward")
        nearest = (lefts[0], COMPARISONS[direction], rights[0])
        return JoinSpec("asof", by, by, nearest=nearest)
    if by:
        raise InvalidArgument("join: by= is for asof")
    if how == "cross":
        if lefts or condition is not None:
            raise InvalidArgument("join: a cross join has neither keys nor a condition")
    elif not lefts and condition is None:
        raise InvalidArgument("join: give on, left_on and right_on, or condition")
    return JoinSpec(how, lefts, rights, condition)


def names_of(keys: Keys) -> tuple[str, ...]:
    if keys is None:
        return ()
    return (keys,) if isinstance(keys, str) else tuple(keys)


def checked(spec: JoinSpec, left: Sequence[str], right: Sequence[str]) -> None:
    """All key columns must be there; the error names those that are."""
    nearest = spec.nearest or ("", "", "")
    for side, wanted, own in (
        ("left", (*spec.left_on, nearest[0]), left),
        ("right", (*spec.right_on, nearest[2]), right),
    ):
        known = {name.lower() for name in own}
        missing = [name for name in wanted if name and name.lower() not in known]
        if missing:
            raise InvalidArgument(
                f"join: the {side} side has no column {', '.join(missing)}; it has {', '.join(own)}"
            )


def output_columns(
    spec: JoinSpec, left: Sequence[str], right: Sequence[str], suffix: str, shared: bool
) -> list[JoinColumn]:
    """The columns of the result: keys of equal name once, other collisions with the suffix."""
    pairs = dict(zip((n.lower() for n in spec.left_on), spec.right_on, strict=True))
    merged = shared or spec.how == "asof"
    columns = [
        JoinColumn("both", name, pairs[name.lower()], name)
        if merged and name.lower() in pairs
        else JoinColumn("l", name, name, name)
        for name in left
    ]
    if spec.how in ("semi", "anti"):
        return [JoinColumn("l", name, name, name) for name in left]
    hidden = {name.lower() for name in spec.right_on} if merged else set()
    taken = {name.lower() for name in left}
    for name in right:
        if name.lower() in hidden:
            continue
        alias = name
        while alias.lower() in taken:
            alias += suffix
            if not suffix:
                raise InvalidArgument(f"join: both sides have a column {name}; give a suffix")
        taken.add(alias.lower())
        columns.append(JoinColumn("r", name, name, alias))
    return columns
