"""What filters may say, and how a wrong one is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from written_filters import expressions, written

from regionsearch.errors import InvalidFilter
from regionsearch.filters import (
    EVERYTHING,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_FILTER_LENGTH,
    MAX_IN_VALUES,
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
    parse,
    parse_path,
)

YEAR = Field("payload", ("year",))
LABEL = Field("entity", ("label",))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", EVERYTHING),
        (" \n\t ", EVERYTHING),
        ("payload.year=2020", Comparison(YEAR, "=", 2020)),
        ("payload.year >= -2.5e3", Comparison(YEAR, ">=", -2500.0)),
        ("payload.year = 9007199254740993", Comparison(YEAR, "=", 9007199254740993)),
        ("payload.year:*", Presence(YEAR)),
        ("payload.year IN (1, 'a', true)", Membership(YEAR, (1, Text("a"), Boolean(True)))),
        ("payload.year = 'it''s'", None),
        (r"""payload.year = 'it\'s "so"'""", Comparison(YEAR, "=", Text('it\'s "so"'))),
        (r'payload.year = "ä\n\\\*\ud83d\ude00"', Comparison(YEAR, "=", Text("ä\n\\*😀"))),
        ('payload.year = "ab*"', Comparison(YEAR, "=", Prefix("ab"))),
        ('payload.year = "*"', Comparison(YEAR, "=", Prefix(""))),
        ("payload.year > 2020-01-01T00:00:00Z", Comparison(YEAR, ">", Instant(1577836800000000))),
        ("payload.year > 1970-01-01T01:00:00.000001+01:00", Comparison(YEAR, ">", Instant(1))),
        (
            'payload.year > "1970-01-01T00:00:00Z"',
            Comparison(YEAR, ">", Text("1970-01-01T00:00:00Z", 0)),
        ),
        # A label that looks like a time is a text; a time that an image has is none.
        ('entity.label = "1970-01-01T00:00:00Z"', Comparison(LABEL, "=", Text("1970-01-01T00:00:00Z"))),
        (
            'image.updated > "1970-01-01T00:00:00Z"',
            Comparison(Field("image", ("updated",)), ">", Instant(0)),
        ),
        (
            'payload.camera."focal length".x-1 = 5',
            Comparison(Field("payload", ("camera", "focal length", "x-1")), "=", 5),
        ),
        ("payload.größe = 5", Comparison(Field("payload", ("größe",)), "=", 5)),
        ("NOT payload.year:*", Not(Presence(YEAR))),
        ("-payload.year:*", Not(Presence(YEAR))),
        ("- NOT -payload.year:*", Not(Not(Not(Presence(YEAR))))),
        (
            "payload.year = 1 AND NOT (payload.year = 2 OR payload.year = 3) AND payload.year:*",
            And(
                (
                    Comparison(YEAR, "=", 1),
                    Not(Or((Comparison(YEAR, "=", 2), Comparison(YEAR, "=", 3)))),
                    Presence(YEAR),
                )
            ),
        ),
        ("((payload.year:*))", Presence(YEAR)),
    ],
)
def test_a_filter_says_what_is_written(text: str, meant: Expression | None) -> None:
    if meant is None:
        with pytest.raises(InvalidFilter):
            parse(text)
        return
    assert parse(text) == meant


@given(expressions)
def test_whatever_can_be_written_is_read_as_it_was_meant(expression: Expression) -> None:
    assert parse(written(expression)) == expression


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("entity.aera > 0.5", 0, "did you mean 'entity.area'?"),
        ("image.label = 'x'", 0, "did you mean 'entity.label'?"),
        ("label = 'x'", 0, "did you mean 'entity.label'?"),
        ("year = 5", 0, "payload.year"),
        ("entity.colour = 5", 0, "there are label, label_source"),
        ("entity.area.x = 5", 0, "has no parts"),
        ("entity > 5", 7, "expected a . and a field of entity"),
        ("payload.a = 1 AND payload.b = 2 OR payload.c = 3", 32, "need parentheses"),
        ("payload.a = 1 OR payload.b = 2 AND payload.c = 3", 31, "need parentheses"),
        ("payload.a = 1 payload.b = 2", 14, "expected AND, OR or the end"),
        ("payload.a = 1 and payload.b = 2", 14, "AND in capital letters"),
        ("payload.a in (1)", 10, "IN in capital letters"),
        ("not payload.a:*", 0, "NOT in capital letters"),
        ("payload.a", 9, "expected one of = != < <= > >= : IN"),
        ("payload.a =", 11, "the filter ends"),
        ("payload.a == 1", 11, "one ="),
        ("payload.a = dog", 12, 'a text needs quotes: "dog"'),
        ("payload.a = null", 12, "NOT field:*"),
        ("payload.a = True", 12, "true in small letters"),
        ("payload.a = 'dog", 12, "does not end"),
        ("payload.a = 'd*g'", 12, "comes last"),
        ("payload.a < 'd*'", 12, "takes no *"),
        ("payload.a > true", 12, "no order"),
        (r"payload.a = '\x'", 13, "escape"),
        (r"payload.a = '\ud800'", 12, "surrogate"),
        ("payload.a = 1e999", 12, "double precision"),
        ("payload.a = 12abc", 14, "followed by something else"),
        ("payload.a = 2020-01-01", 12, "no RFC 3339 time"),
        ("payload.a = 2020-13-01T00:00:00Z", 12, "no RFC 3339 time"),
        ("payload.a = 2020-01-01T00:00:00", 12, "no RFC 3339 time"),
        ("payload.2024 = 1", 8, "need quotes"),
        ("payload.a IN ()", 14, "expected"),
        ("payload.a IN (1 2)", 16, "expected , or )"),
        ("payload.a IN 1", 13, "expected ( and a list"),
        ("(payload.a = 1", 14, "expected AND, OR or )"),
        ("payload.a = 1)", 13, "found )"),
        ("payload.a = 1 AND", 17, "the filter ends"),
        ("payload.a ~ 1", 10, "no meaning here"),
        ('entity.area > "x"', 14, "never equals or compares"),
        ("entity.area = true", 14, "never equals or compares"),
        ("entity.label = 5", 15, "never equals or compares"),
        ("entity.index IN (1, 'a')", 20, "never equals or compares"),
        ("image.updated > 'yesterday'", 16, "a time"),
        ("image.updated = '2020*'", 16, "a time"),
        ("entity.label_source = 'guessed'", 22, '"given" or "predicted"'),
        ("entity.label_source < 'given'", 22, "no order"),
    ],
)
def test_a_wrong_filter_is_refused_with_its_place_marked(text: str, place: int, words: str) -> None:
    with pytest.raises(InvalidFilter) as refused:
        parse(text)
    message = refused.value.message
    assert words in message
    assert f"character {place + 1}:" in message
    assert refused.value.metadata["position"] == str(place)
    assert f"{text[:place][-40:]}‸{text[place:][:40]}" in message
    assert "\n" not in message  # errors are one line on the command line


def test_long_filters_are_shown_around_the_place_that_is_wrong() -> None:
    good = " AND ".join(f"payload.field{number} = {number}" for number in range(40))
    with pytest.raises(InvalidFilter) as refused:
        parse(f"{good} AND entity.aera > 1 AND {good}")
    assert "…" in refused.value.message
    assert "‸entity.aera > 1" in refused.value.message
    assert len(refused.value.message) < 250


def test_limits_are_refused_beyond_and_kept_up_to() -> None:
    parse("(" * MAX_DEPTH + "payload.a:*" + ")" * MAX_DEPTH)
    with pytest.raises(InvalidFilter, match=f"more than {MAX_DEPTH} deep"):
        parse("(" * 4000)
    with pytest.raises(InvalidFilter, match=f"more than {MAX_DEPTH} deep"):
        parse("NOT " * 1000)
    condition = "payload.a:*"
    parse(" OR ".join([condition] * MAX_CONDITIONS))
    with pytest.raises(InvalidFilter, match=f"at most {MAX_CONDITIONS} conditions"):
        parse(" OR ".join([condition] * (MAX_CONDITIONS + 1)))
    parse(f"payload.a IN ({','.join(['1'] * MAX_IN_VALUES)})")
    with pytest.raises(InvalidFilter, match=f"at most {MAX_IN_VALUES} values"):
        parse(f"payload.a IN ({','.join(['1'] * (MAX_IN_VALUES + 1))})")
    parse("payload.a = 1".ljust(MAX_FILTER_LENGTH))
    with pytest.raises(InvalidFilter, match=f"{MAX_FILTER_LENGTH + 1} characters"):
        parse("payload.a = 1".ljust(MAX_FILTER_LENGTH + 1))


@given(expressions)
def test_every_beginning_of_a_filter_is_read_or_refused_as_a_filter(expression: Expression) -> None:
    text = written(expression)
    for end in range(0, len(text), max(1, len(text) // 30)):
        try:
            parse(text[:end])
        except InvalidFilter as error:
            assert error.field == "filter"  # noqa: PT017


def test_paths_of_indexed_fields_are_written_as_in_filters() -> None:
    assert parse_path("year").path == ("year",)
    assert parse_path('camera."focal length"').path == ("camera", "focal length")
    for wrong in ("", "year = 5", ".", "a..b", "2024", "a.*"):
        with pytest.raises(InvalidFilter):
            parse_path(wrong)
