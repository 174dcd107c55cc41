"""SQL templates as values: text, inputs and placeholders, composed without textual `format`.

A query of a `SqlEngineNode` is a `str.format` template: `{0}` is an input, `{rand_seed}` a
placeholder that the task fills in, `{{` a brace. Fusing two templates with `format` loses the
escapes of the inner one and trips over its placeholders, so a template is parsed once into parts,
parts are composed, and the result is rendered with its escapes.

Invariant: `Sql.of_template(sql.render()) == sql` up to the splitting of literal text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

PLACEHOLDERS = frozenset(
    (
        "batch_index",
        "query_index",
        "rand_seed",
        "cpu_limit",
        "memory_limit",
        "output_filename",
        "__data_partition__",
    )
)
IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")
FIELD = re.compile(r"\{(\d+|[A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Input:
    """The n-th input relation of a query."""

    index: int


@dataclass(frozen=True)
class Placeholder:
    """A value that the running task fills in, with its format specification."""

    text: str


Part = str | Input | Placeholder


@dataclass(frozen=True)
class Sql:
    """One query or piece of a query."""

    parts: tuple[Part, ...]

    @staticmethod
    def literal(text: str) -> Sql:
        """Text in which braces mean themselves."""
        return Sql((text,))

    @staticmethod
    def input(index: int) -> Sql:
        """A reference to the n-th input."""
        return Sql((Input(index),))

    @staticmethod
    def concat(*pieces: Sql | str) -> Sql:
        """Pieces in a row; plain strings are literal text."""
        parts: list[Part] = []
        for piece in pieces:
            parts.extend((piece,) if isinstance(piece, str) else piece.parts)
        return Sql(tuple(merged(parts)))

    @staticmethod
    def of_template(template: str) -> Sql:
        """The parts of a `str.format` template; braces that cannot be fields are literal text."""
        try:
            fields = list(Formatter().parse(template))
        except ValueError:
            return scanned(template)
        parts: list[Part] = []
        automatic = 0
        for text, name, spec, conversion in fields:
            if text:
                parts.append(text)
            if name is None:
                continue
            if name == "" and not spec:
                parts.append(Input(automatic))
                automatic += 1
            elif name.isdigit() and not spec:
                parts.append(Input(int(name)))
            elif is_placeholder(name, spec):
                parts.append(Placeholder(field_text(name, spec, conversion)))
            else:
                inner = Sql.of_template(spec or "")
                parts += ["{" + name + (":" if spec else ""), *inner.parts, "}"]
        return Sql(tuple(merged(parts)))

    def render(self) -> str:
        """The `str.format` template that means this query."""
        return "".join(part_template(part) for part in self.parts)

    def text(self, names: Sequence[str] | Mapping[int, str], filler: str = "0") -> str:
        """The query with inputs named and placeholders replaced by `filler`, for parsing."""
        return "".join(
            part
            if isinstance(part, str)
            else (names[part.index] if isinstance(part, Input) else filler)
            for part in self.parts
        )

    def inputs(self) -> list[int]:
        """The inputs in order of appearance, with repetitions."""
        return [part.index for part in self.parts if isinstance(part, Input)]

    def placeholders(self) -> set[str]:
        """The names of the placeholders that are not inputs."""
        return {
            re.split("[:!]", part.text)[0] for part in self.parts if isinstance(part, Placeholder)
        }

    def substituted(self, replace: Callable[[int], Sql]) -> Sql:
        """This query with every input replaced."""
        pieces: list[Sql | str] = []
        for part in self.parts:
            if isinstance(part, Input):
                pieces.append(replace(part.index))
            else:
                pieces.append(Sql((part,)))
        return Sql.concat(*pieces)


def scanned(template: str) -> Sql:
    """The parts of a template that `str.format` refuses, such as one with `'}'` in its text."""
    parts: list[Part] = []
    escaped = "{{" in template
    position = 0
    for match in FIELD.finditer(template):
        text = template[position : match.start()]
        parts.append(text.replace("{{", "{").replace("}}", "}") if escaped else text)
        name = match[1]
        parts.append(Input(int(name)) if name.isdigit() else Placeholder(name))
        position = match.end()
    text = template[position:]
    parts.append(text.replace("{{", "{").replace("}}", "}") if escaped else text)
    return Sql(tuple(merged(parts)))


def parse_text(sql: Sql) -> str:
    """The query with stand-ins for inputs and placeholders, for the parser."""
    return sql.text([f"t{index}" for index in range(max(sql.inputs(), default=0) + 1)])


def subquery(sql: Sql) -> Sql:
    """The query in parentheses; the line breaks keep a trailing comment from eating them."""
    return Sql.concat("(\n", sql, "\n)")


def is_placeholder(name: str, spec: str | None) -> bool:
    """A dimension may be any identifier; `{a: 1}` is a struct and not a field of name `a`."""
    if name in PLACEHOLDERS:
        return True
    return bool(IDENTIFIER.match(name)) and not (spec or "").startswith(" ")


def field_text(name: str, spec: str | None, conversion: str | None) -> str:
    return name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")


def part_template(part: Part) -> str:
    if isinstance(part, str):
        return part.replace("{", "{{").replace("}", "}}")
    return f"{{{part.index}}}" if isinstance(part, Input) else f"{{{part.text}}}"


def merged(parts: Sequence[Part]) -> Iterator[Part]:
    """Neighbouring pieces of text become one."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        if text:
            yield text
            text = ""
        yield part
    if text:
        yield text
