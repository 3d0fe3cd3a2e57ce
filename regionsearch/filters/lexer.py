"""A filter's text as tokens, each with its place, and the refusal that points at one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from regionsearch.errors import InvalidFilter
from regionsearch.filters.timestamps import instant_of

MAX_FILTER_LENGTH = 4_096
"""Characters: as much as a person writes, and a list of a few hundred values."""
_EXCERPT = 40
_MARK = "‸"

Kind = Literal["name", "text", "number", "time", "operator", "end"]


@dataclass(frozen=True, slots=True)
class Token:
    """start, end: characters of the filter. value: of a text, what its escapes stand for.
    stars: of a text, where in value its unescaped stars are."""

    kind: Kind
    start: int
    end: int
    value: str
    stars: tuple[int, ...] = ()


# What looks like a time is read as one to its end, so that a wrong one is named as a whole.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[0-9A-Za-z:.+\-]*", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_OPERATORS = ("<=", ">=", "!=", "=", "<", ">", ":", "(", ")", ",", ".", "*", "-")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\", "*": "*"}
_HEX = re.compile(r"[0-9a-fA-F]{4}", re.ASCII)


def refusal(text: str, start: int, what: str, expected: str = "") -> InvalidFilter:
    """An error that shows the filter around the character `start`, which it marks."""
    before, after = text[max(0, start - _EXCERPT) : start], text[start : start + _EXCERPT]
    shown = (
        ("…" if start > _EXCERPT else "")
        + f"{before}{_MARK}{after}"
        + ("…" if start + _EXCERPT < len(text) else "")
    )
    line = "".join(letter if letter.isprintable() else " " for letter in shown)
    metadata = {"position": str(start)} | ({"expected": expected} if expected else {})
    return InvalidFilter(
        f"filter, character {start + 1}: {what}: {line}",
        field="filter",
        metadata=metadata,
    )


def tokens_of(text: str) -> list[Token]:
    """The last one is the end. Raises InvalidFilter."""
    if len(text) > MAX_FILTER_LENGTH:
        raise InvalidFilter(
            f"the filter has {len(text)} characters; the limit is {MAX_FILTER_LENGTH}", field="filter"
        )
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token = _token_at(text, at, tokens[-1] if tokens else None)
        tokens.append(token)
        at = token.end
    tokens.append(Token("end", len(text), len(text), ""))
    return tokens


def _token_at(text: str, at: int, before: Token | None) -> Token:
    letter = text[at]
    if letter in "\"'":
        return _quoted(text, at)
    if letter.isalpha() or letter == "_":
        end = at + 1
        while end < len(text) and (text[end].isalnum() or text[end] in "_-"):
            end += 1
        return Token("name", at, end, text[at:end])
    # A minus before a digit belongs to the number only where a value stands.
    if letter.isdecimal() or (letter == "-" and before is not None and before.value in _BEFORE_VALUES):
        time = _TIME.match(text, at)
        if time is not None:
            if instant_of(time.group()) is None:
                raise refusal(
                    text,
                    at,
                    f"'{time.group():.60}' is no RFC 3339 time with a zone",
                    "a time such as 2024-05-01T12:30:00Z or 2024-05-01T12:30:00+02:00",
                )
            return Token("time", at, time.end(), time.group())
        number = _NUMBER.match(text, at)
        if number is not None:
            end = number.end()
            if end < len(text) and (text[end].isalnum() or text[end] in "_."):
                raise refusal(text, end, "a number is followed by something else", "a space or an operator")
            return Token("number", at, end, number.group())
    for operator in _OPERATORS:
        if text.startswith(operator, at):
            return Token("operator", at, at + len(operator), operator)
    raise refusal(text, at, f"{letter!r} has no meaning here", "a field, a value or an operator")


_BEFORE_VALUES = frozenset({"=", "!=", "<", "<=", ">", ">=", ":", "(", ","})


def _quoted(text: str, start: int) -> Token:
    quote = text[start]
    letters: list[str] = []
    stars: list[int] = []
    at = start + 1
    while at < len(text) and text[at] != quote:
        if text[at] == "\\":
            letter, at = _escaped(text, at)
            letters.append(letter)
            continue
        if text[at] == "*":
            stars.append(len(letters))
        letters.append(text[at])
        at += 1
    if at == len(text):
        raise refusal(text, start, f"a text begins here and does not end; expected another {quote}", quote)
    value = "".join(letters)
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise refusal(text, start, "this text has half of a surrogate pair")
    return Token("text", start, at + 1, value, tuple(stars))


def _escaped(text: str, at: int) -> tuple[str, int]:
    """What the backslash at `at` begins, and the place after it."""
    letter = text[at + 1 : at + 2]
    if letter in _ESCAPES:
        return _ESCAPES[letter], at + 2
    if letter == "u":
        first = _HEX.match(text, at + 2)
        if first is not None:
            code = int(first.group(), 16)
            if 0xD800 <= code <= 0xDBFF and text[at + 6 : at + 8] == "\\u":
                second = _HEX.match(text, at + 8)
                if second is not None and 0xDC00 <= int(second.group(), 16) <= 0xDFFF:
                    return chr(0x10000 + ((code - 0xD800) << 10) + int(second.group(), 16) - 0xDC00), at + 12
            return chr(code), at + 6
    expected = "one of \\\" \\' \\\\ \\* \\n \\t \\r \\uXXXX"
    raise refusal(text, at, f"an escape that is not known; expected {expected}", expected)
