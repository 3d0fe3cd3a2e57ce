"""What a filter says, as values: conditions on one field each, joined by AND, OR and NOT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Root = Literal["payload", "entity", "image"]
Operator = Literal["=", "!=", "<", "<=", ">", ">=", ":"]


@dataclass(frozen=True, slots=True)
class Field:
    """root: whose. path: the keys below it, at least one; of entities and images exactly one."""

    root: Root
    path: tuple[str, ...]

    def __str__(self) -> str:
        """As a filter writes it."""
        return ".".join([self.root, *(key if is_bare_key(key) else _quoted(key) for key in self.path)])


@dataclass(frozen=True, slots=True)
class Text:
    """A text between quotes. instant: microseconds since 1970 UTC when the text is an RFC 3339 time and
    the field may hold times; it is then compared as an instant."""

    text: str
    instant: int | None = None


@dataclass(frozen=True, slots=True)
class Prefix:
    """A text that ended in `*`: all texts that begin so."""

    text: str


@dataclass(frozen=True, slots=True)
class Instant:
    """A time: microseconds since 1970, UTC."""

    microseconds: int


@dataclass(frozen=True, slots=True)
class Boolean:
    """Not Python's own, which equals 0 or 1: equal expressions must mean the same."""

    value: bool


Value = Text | Prefix | Instant | Boolean | int | float
"""What a field is compared with."""


@dataclass(frozen=True, slots=True)
class Comparison:
    field: Field
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class Membership:
    """field IN (values)."""

    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Presence:
    """field:*"""

    field: Field


Condition = Comparison | Membership | Presence


@dataclass(frozen=True, slots=True)
class And:
    """parts: none of them means everything."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Expression


Expression = And | Or | Not | Comparison | Membership | Presence
EVERYTHING = And(())


def conditions_of(expression: Expression) -> Iterator[Condition]:
    """All conditions of an expression, in the order of its text."""
    if isinstance(expression, And | Or):
        for part in expression.parts:
            yield from conditions_of(part)
    elif isinstance(expression, Not):
        yield from conditions_of(expression.part)
    else:
        yield expression


def is_bare_key(key: str) -> bool:
    """Whether a key of a path needs no quotes."""
    return (
        key != ""
        and (key[0].isalpha() or key[0] == "_")
        and all(letter.isalnum() or letter in "_-" for letter in key)
        and key not in KEYWORDS
    )


KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "true", "false"})


def _quoted(key: str) -> str:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
    return '"' + "".join(_escaped_control(letter) for letter in escaped) + '"'


def _escaped_control(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 32 else letter
