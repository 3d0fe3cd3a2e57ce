"""Random payloads and random filters: as expressions, and as people write them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from regionsearch.filters import (
    And,
    Boolean,
    Comparison,
    Expression,
    Field,
    Instant,
    Membership,
    Not,
    Or,
    Prefix,
    Presence,
    Text,
    Value,
)
from regionsearch.filters.timestamps import instant_of

# Few of each, so that filters and payloads meet often; all kinds of trouble among them.
KEYS = ["a", "b", "größe", "c d", 'q"\\*', "IN", "x-1"]
NUMBERS: list[Any] = [
    *(
        0,
        1,
        -1,
        7,
        2**53,
        2**53 + 1,
        -(2**53) - 1,
        2**63 - 1,
        2**63,
        -(2**63),
        -(2**63) - 1,
        2**64 + 1,
        10**30,
    ),
    *(0.0, 0.1, 1.0, 1.5, -2.5, 7.0, float(2**53), float(2**63), 1e30, 1.7e308, 5e-324),
]
TIMES = [
    "2020-01-01T00:00:00Z",
    "2020-01-01T01:00:00+01:00",
    "2020-01-01T00:00:00.5Z",
    "2019-12-31t23:59:60z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999999-23:59",
]
TEXTS = [
    "",
    "a",
    "ab",
    "abc",
    "ab*",
    "A",
    "Straße",
    "STRASSE",
    "é",
    "é",
    "日本",
    "😀",
    "￿",
    "2020-01-01",
    *TIMES,
]

scalars = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.booleans(),
    st.none(),
    st.integers(),
    st.text(max_size=3),
).filter(lambda value: not isinstance(value, str) or value.isascii() or _is_encodable(value))
payload_values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=5,
)
payloads = st.dictionaries(st.sampled_from(KEYS), payload_values, max_size=4)
payload_fields = st.lists(st.sampled_from(KEYS), min_size=1, max_size=2).map(
    lambda path: Field("payload", tuple(path))
)


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=2).filter(_is_encodable))
numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-3, 3))
times = st.sampled_from(TIMES).map(lambda text: Instant(instant_of(text) or 0))
ordered: st.SearchStrategy[Value] = st.one_of(
    texts.map(lambda text: Text(text, instant_of(text))), numbers, times
)
any_value: st.SearchStrategy[Value] = st.one_of(ordered, texts.map(Prefix), st.booleans().map(Boolean))
payload_conditions: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Comparison, payload_fields, st.sampled_from(["=", "!=", ":"]), any_value),
    st.builds(Comparison, payload_fields, st.sampled_from(["<", "<=", ">", ">="]), ordered),
    st.builds(Membership, payload_fields, st.lists(any_value, min_size=1, max_size=4).map(tuple)),
    st.builds(Presence, payload_fields),
)


def _known(root: Any, name: str) -> Field:
    return Field(root, (name,))


plain_texts = st.one_of(st.sampled_from(["dog", "Straße", "do", "", "3.jpg", "0.jpg"]), texts).map(Text)
fraction_fields = st.sampled_from(
    ["area", "box_area", "objectness", "x", "y", "left", "top", "right", "bottom"]
).map(lambda name: _known("entity", name))
whole_fields = st.sampled_from(
    [
        _known("entity", "index"),
        *(_known("image", name) for name in ("width", "height", "entities", "version")),
    ]
)
text_fields = st.sampled_from(
    [_known("entity", "label"), _known("image", "id"), _known("image", "content_hash")]
)
fractions = st.one_of(
    st.floats(0, 1, width=32).map(float), st.sampled_from([0, 1, 0.1, 0.3, 10**400, -(10**400), 1e300])
)
whole_numbers = st.one_of(st.integers(-1, 5), st.sampled_from([40, 60, 60.0, 2.5, 10**30]))
signs = st.sampled_from(["=", "!=", ":", "<", "<=", ">", ">="])
known_conditions: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Comparison, fraction_fields, signs, fractions),
    st.builds(Membership, fraction_fields, st.lists(fractions, min_size=1, max_size=3).map(tuple)),
    st.builds(Comparison, whole_fields, signs, whole_numbers),
    st.builds(Membership, whole_fields, st.lists(whole_numbers, min_size=1, max_size=3).map(tuple)),
    st.builds(Comparison, text_fields, signs, plain_texts),
    st.builds(Comparison, text_fields, st.sampled_from(["=", "!=", ":"]), texts.map(Prefix)),
    st.builds(Membership, text_fields, st.lists(plain_texts, min_size=1, max_size=3).map(tuple)),
    st.builds(
        Comparison,
        st.just(_known("entity", "label_source")),
        st.sampled_from(["=", "!=", ":"]),
        st.sampled_from([Text("given"), Text("predicted"), Prefix("pre")]),
    ),
    st.builds(Comparison, st.just(_known("image", "updated")), signs, times),
    st.builds(Presence, st.one_of(fraction_fields, whole_fields, text_fields)),
)
conditions = st.one_of(payload_conditions, known_conditions)


def _joined(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(several.map(And), several.map(Or), inner.map(Not))


expressions: st.SearchStrategy[Expression] = st.recursive(conditions, _joined, max_leaves=6)


def written(expression: Expression) -> str:
    """An expression as a filter's text, with no more parentheses than are needed around AND and OR."""
    match expression:
        case And(parts) | Or(parts):
            word = " AND " if isinstance(expression, And) else " OR "
            return word.join(f"({written(p)})" if isinstance(p, And | Or) else written(p) for p in parts)
        case Not(part):
            return f"NOT ({written(part)})" if isinstance(part, And | Or) else f"NOT {written(part)}"
        case Presence(field):
            return f"{field}:*"
        case Membership(field, values):
            return f"{field} IN ({', '.join(map(written_value, values))})"
        case Comparison(field, operator, value):
            return f"{field} {operator} {written_value(value)}"


def written_value(value: Value) -> str:
    match value:
        case Boolean(flag):
            return str(flag).lower()
        case int() | float():
            return repr(value)
        case Text(text):
            return f'"{escaped(text)}"'
        case Prefix(text):
            return f'"{escaped(text)}*"'
        case Instant(microseconds):
            return next(text for text in TIMES if instant_of(text) == microseconds)


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
