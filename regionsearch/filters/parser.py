"""From a filter's text to its expression; docs/filters.md has the grammar."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Literal

from regionsearch.errors import InvalidFilter
from regionsearch.filters.expression import (
    EVERYTHING,
    And,
    Boolean,
    Comparison,
    Condition,
    Expression,
    Field,
    Instant,
    Membership,
    Not,
    Operator,
    Or,
    Prefix,
    Presence,
    Root,
    Text,
    Value,
)
from regionsearch.filters.known_fields import ENTITY_FIELDS, IMAGE_FIELDS, FieldType, KnownField
from regionsearch.filters.lexer import Token, refusal, tokens_of
from regionsearch.filters.timestamps import instant_of

MAX_DEPTH = 32
"""Of parentheses and NOTs inside one another."""
MAX_CONDITIONS = 256
MAX_IN_VALUES = 512
MAX_PATH = 33
"""Keys of a path: a payload is nested 32 deep at most."""

_OPERATORS: tuple[Operator, ...] = ("=", "!=", "<", "<=", ">", ">=", ":")
_EXPECTED_OPERATOR = "one of = != < <= > >= : IN"
_EXPECTED_VALUE = '"text", a number, true, false or a time such as 2024-05-01T12:30:00Z'
_ROOTS: tuple[Root, ...] = ("payload", "entity", "image")
_SAID: dict[FieldType, str] = {
    "text": "a text",
    "whole": "a number",
    "fraction": "a number",
    "time": "a time",
}


def parse(text: str) -> Expression:
    """What a filter says; a blank one says nothing, which everything satisfies.

    Raises InvalidFilter, which names the place and what was expected there: on text that does not follow
    the grammar, on fields that do not exist, on comparisons that can never be true, and beyond the limits.
    """
    parser = _Parser(text)
    return EVERYTHING if parser.at_end() else parser.whole()


def parse_path(path: str) -> Field:
    """The field of the payload that `path` names as filters do, without `payload.`: `year`, `camera.maker`,
    `"focal length"`. Raises InvalidFilter."""
    return _Parser(f"payload.{path}").whole_path()


class _Parser:
    """Recursive descent; each method reads one rule of the grammar from `token` on."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens_of(text)
        self._at = 0
        self._conditions = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._at]

    def at_end(self) -> bool:
        return self.token.kind == "end"

    def whole(self) -> Expression:
        expression = self.expression(0)
        if not self.at_end():
            raise self.unexpected("AND, OR or the end of the filter")
        return expression

    def whole_path(self) -> Field:
        field, _ = self._field()
        if not self.at_end():
            raise self.unexpected("the end of the path")
        return field

    def unexpected(self, expected: str, token: Token | None = None) -> InvalidFilter:
        token = token or self.token
        found = "the filter ends" if token.kind == "end" else f"found {self._source(token)}"
        return self._refusal(token, f"expected {expected}, {found}", expected)

    def expression(self, depth: int) -> Expression:
        parts = [self._term(depth)]
        joined_by = ""
        while self._is_word("AND") or self._is_word("OR"):
            word = self.token
            if joined_by and word.value != joined_by:
                raise self._refusal(
                    word,
                    "AND and OR side by side need parentheses to say which binds tighter",
                    "parentheses around what belongs together",
                )
            joined_by = word.value
            self._at += 1
            parts.append(self._term(depth))
        if self.token.kind == "name":
            meant = self.token.value.upper()
            if meant in ("AND", "OR", "IN"):
                raise self._refusal(
                    self.token, f"expected {meant} in capital letters, found '{self.token.value}'", meant
                )
        if len(parts) == 1:
            return parts[0]
        return And(tuple(parts)) if joined_by == "AND" else Or(tuple(parts))

    def _term(self, depth: int) -> Expression:
        first = self.token
        if depth > MAX_DEPTH:
            raise self._refusal(first, f"parentheses and NOTs are nested more than {MAX_DEPTH} deep")
        if self._is_word("NOT") or self._is_operator("-"):
            self._at += 1
            return Not(self._term(depth + 1))
        if self._is_operator("("):
            self._at += 1
            inner = self.expression(depth + 1)
            if not self._is_operator(")"):
                raise self.unexpected("AND, OR or )")
            self._at += 1
            return inner
        return self._condition()

    def _condition(self) -> Condition:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise self._refusal(self.token, f"a filter has at most {MAX_CONDITIONS} conditions")
        field, known = self._field()
        if self._is_word("IN"):
            self._at += 1
            return Membership(field, self._list(field, known))
        operator = self._operator(field)
        if operator == ":" and self._is_operator("*"):
            self._at += 1
            return Presence(field)
        place = self.token
        value = self._value(field, known)
        self._check_order(field, known, operator, value, place)
        return Comparison(field, operator, value)

    # fields

    def _field(self) -> tuple[Field, KnownField | None]:
        first = self.token
        if first.kind != "name" or first.value in ("AND", "OR", "IN", "true", "false"):
            raise self.unexpected("a field (payload.…, entity.… or image.…), NOT or (")
        root = next((root for root in _ROOTS if root == first.value), None)
        if root is None:
            raise self._refusal(first, f"no field '{first.value:.60}'{self._meant_instead(first)}", "a field")
        self._at += 1
        path: list[str] = []
        while self._is_operator("."):
            self._at += 1
            path.append(self._key())
        if not path:
            raise self.unexpected(f"a . and a field of {root}")
        if len(path) > MAX_PATH:
            raise self._refusal(first, f"a path has at most {MAX_PATH} keys")
        field = Field(root, tuple(path))
        if root == "payload":
            return field, None
        known = (ENTITY_FIELDS if root == "entity" else IMAGE_FIELDS).get(path[0])
        if known is None or len(path) > 1:
            raise self._refusal(first, f"no field '{field!s:.80}'{_suggestion(field)}", "a field")
        return field, known

    def _key(self) -> str:
        token = self.token
        if token.kind == "name":
            self._at += 1
            return token.value
        if token.kind == "text":
            if token.stars:
                raise self._refusal(token, "a key has no wildcards; write \\* for a star")
            self._at += 1
            return token.value
        if token.kind in ("number", "time"):
            raise self.unexpected('a key; keys that begin with a digit need quotes: payload."2024"')
        raise self.unexpected('a key, bare (year) or in quotes ("focal length")')

    def _meant_instead(self, token: Token) -> str:
        meant = token.value.upper()
        if meant == "NOT":
            return "; did you mean NOT in capital letters?"
        return _did_you_mean(token.value, [*_ROOTS, *_all_known()]) or (
            f"; fields of the payload are written payload.{token.value:.60}"
        )

    # operators and values

    def _operator(self, field: Field) -> Operator:
        token = self.token
        operator = next(
            (each for each in _OPERATORS if token.kind == "operator" and each == token.value), None
        )
        if operator is None:
            if token.kind == "name" and token.value.upper() == "IN":
                raise self._refusal(token, f"expected IN in capital letters, found '{token.value}'", "IN")
            raise self.unexpected(f"{_EXPECTED_OPERATOR} after {field!s:.80}")
        self._at += 1
        if operator == "=" and self._is_operator("="):
            raise self._refusal(self.token, "equality is written with one =", "a value")
        return operator

    def _list(self, field: Field, known: KnownField | None) -> tuple[Value, ...]:
        if not self._is_operator("("):
            raise self.unexpected("( and a list of values")
        self._at += 1
        values: list[Value] = []
        while True:
            if len(values) == MAX_IN_VALUES:
                raise self._refusal(self.token, f"IN takes at most {MAX_IN_VALUES} values")
            values.append(self._value(field, known))
            if self._is_operator(")"):
                self._at += 1
                return tuple(values)
            if not self._is_operator(","):
                raise self.unexpected(", or )")
            self._at += 1

    def _value(self, field: Field, known: KnownField | None) -> Value:
        token = self.token
        value = self._literal(token)
        self._at += 1
        if known is None:
            return value
        fits = {
            "text": isinstance(value, Text | Prefix),
            "whole": isinstance(value, int | float),
            "fraction": isinstance(value, int | float),
            "time": isinstance(value, Instant) or (isinstance(value, Text) and value.instant is not None),
        }[known.type]
        if not fits:
            expected = _SAID[known.type]
            raise self._refusal(
                token,
                f"{field} is {expected} and never equals or compares with {self._source(token)}",
                expected,
            )
        if known.type == "text" and isinstance(value, Text):
            if known.one_of and value.text not in known.one_of:
                allowed = " or ".join(f'"{each}"' for each in known.one_of)
                raise self._refusal(token, f"{field} is {allowed}, never {self._source(token)}", allowed)
            return Text(value.text)
        if isinstance(value, Text) and value.instant is not None:
            return Instant(value.instant)
        return value

    def _literal(self, token: Token) -> Value:
        if token.kind == "text":
            return self._text_value(token)
        if token.kind == "time":
            return Instant(_known_instant(token.value))
        if token.kind == "number":
            return self._number(token)
        if token.kind == "name":
            if token.value in ("true", "false"):
                return Boolean(token.value == "true")
            if token.value in ("null", "None", "NULL"):
                raise self._refusal(token, "null counts as missing: ask NOT field:* instead", _EXPECTED_VALUE)
            if token.value.lower() in ("true", "false"):
                raise self._refusal(
                    token, f"expected {token.value.lower()} in small letters", _EXPECTED_VALUE
                )
            raise self._refusal(
                token, f'expected a value; a text needs quotes: "{token.value:.60}"', _EXPECTED_VALUE
            )
        raise self.unexpected(_EXPECTED_VALUE)

    def _text_value(self, token: Token) -> Value:
        if not token.stars:
            return Text(token.value, instant_of(token.value))
        if token.stars != (len(token.value) - 1,):
            raise self._refusal(
                token, "a * stands for any ending and comes last; write \\* for a star", "a text or a prefix*"
            )
        return Prefix(token.value[:-1])

    def _number(self, token: Token) -> int | float:
        if token.value.lstrip("-").isdigit():
            return int(token.value)
        number = float(token.value)
        if not math.isfinite(number):
            raise self._refusal(token, "a number beyond the range of double precision", "a smaller number")
        return number

    def _check_order(
        self, field: Field, known: KnownField | None, operator: Operator, value: Value, place: Token
    ) -> None:
        if operator not in ("<", "<=", ">", ">="):
            return
        if isinstance(value, Boolean):
            raise self._refusal(
                place, f"true and false have no order: {operator} does not take them", "= or !="
            )
        if isinstance(value, Prefix):
            raise self._refusal(
                place, f"a prefix has no order: {operator} takes no *; write \\* for a star", "= or !="
            )
        if known is not None and known.one_of:
            raise self._refusal(place, f"{field} has no order; expected = or !=", "= or !=")

    # tokens

    def _is_word(self, word: Literal["AND", "OR", "NOT", "IN"]) -> bool:
        return self.token.kind == "name" and self.token.value == word

    def _is_operator(self, operator: str) -> bool:
        return self.token.kind == "operator" and self.token.value == operator

    def _source(self, token: Token) -> str:
        source = self._text[token.start : token.end]
        return source if len(source) <= 40 else source[:40] + "…"

    def _refusal(self, token: Token, what: str, expected: str = "") -> InvalidFilter:
        return refusal(self._text, token.start, what, expected)


def _known_instant(text: str) -> int:
    instant = instant_of(text)
    assert instant is not None  # the lexer refused all others
    return instant


def _all_known() -> list[str]:
    return [*(f"entity.{name}" for name in ENTITY_FIELDS), *(f"image.{name}" for name in IMAGE_FIELDS)]


def _suggestion(field: Field) -> str:
    """What a wrong field of entities or images was meant to be."""
    own = ENTITY_FIELDS if field.root == "entity" else IMAGE_FIELDS
    other = IMAGE_FIELDS if field.root == "entity" else ENTITY_FIELDS
    if field.path[0] in own:
        return f"; {field.root}.{field.path[0]} has no parts"
    other_root = "image" if field.root == "entity" else "entity"
    if field.path[0] in other:
        return f"; did you mean '{other_root}.{field.path[0]}'?"
    near = difflib.get_close_matches(field.path[0], own, n=1)
    if near:
        return f"; did you mean '{field.root}.{near[0]}'?"
    return f"; there are {', '.join(own)}; yours are written payload.{'.'.join(field.path):.60}"


def _did_you_mean(word: str, names: Iterable[str]) -> str:
    names = list(names)
    for name in names:
        if name.endswith(f".{word}"):
            return f"; did you mean '{name}'?"
    near = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
