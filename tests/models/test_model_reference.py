"""How models are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionsearch.errors import InvalidRequest
from regionsearch.models.reference import ModelReference

WORDS = st.text("abzAZ09_-é 漢", min_size=1, max_size=8)


@settings(deadline=None)
@given(
    kind=WORDS,
    location=st.one_of(st.just(""), WORDS, WORDS.map(lambda word: f"/models/{word}")),
    options=st.dictionaries(WORDS, WORDS, max_size=3),
)
def test_a_reference_is_read_back_as_it_was_written(
    kind: str, location: str, options: dict[str, str]
) -> None:
    reference = ModelReference(kind, location, dict(sorted(options.items())))
    assert ModelReference.parse(str(reference)) == reference


def test_the_order_of_options_means_nothing() -> None:
    assert str(ModelReference.parse("m:/x,b=2,a=1")) == str(ModelReference.parse("m:/x,a=1,b=2"))


def test_a_relative_folder_means_the_same_wherever_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert ModelReference.parse("m:./x,head=../y").location == str(tmp_path / "x")
    assert ModelReference.parse("m:./x,head=../y").options["head"] == str(tmp_path / ".." / "y")
    assert ModelReference.parse("m:~/x").location == "/home/somebody/x"
    assert ModelReference.parse("m:owner/name").location == "owner/name"
    assert ModelReference.parse("m:~nobody-of-this-name/x").location.endswith("~nobody-of-this-name/x")


def test_a_folder_that_is_there_is_meant_however_it_is_spelt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "first").mkdir()
    (tmp_path / "sam.pt").touch()
    monkeypatch.chdir(tmp_path)
    reference = ModelReference.parse("m:models/x,sam=models/x,positions=first,weights=sam.pt,head=models/y")
    assert reference.location == str(tmp_path / "models" / "x")
    assert reference.options["sam"] == str(tmp_path / "models" / "x")
    assert reference.options["weights"] == str(tmp_path / "sam.pt")
    assert (reference.options["positions"], reference.options["head"]) == ("first", "models/y")
    assert ModelReference.parse("m:first").location == str(tmp_path / "first")
    monkeypatch.chdir(tmp_path / "models")
    assert ModelReference.parse(str(reference)) == reference
    assert ModelReference.parse("m:models/x").location == "models/x"
    assert ModelReference.parse("m:" + "n" * 5000).location == "n" * 5000


@pytest.mark.parametrize("text", ["", ":", "m:", ":/x", "m,", "m,a", "m,a=", "m,=1", "m,a=1,a=2", ",a=1"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        ModelReference.parse(text)


def test_unknown_options_are_named_with_those_there_are() -> None:
    reference = ModelReference.parse("m:/x,colour=red")
    with pytest.raises(InvalidRequest, match=r"no option 'colour'; there are: context, regions"):
        reference.check_options({"regions": 1, "context": 1})
    with pytest.raises(InvalidRequest, match="it has none"):
        reference.check_options({})
    with pytest.raises(InvalidRequest, match="takes no location"):
        reference.check_bare()
    reference.check_options({"colour": 1})


@pytest.mark.parametrize("text", ["x", "nan", "inf", "-inf", "1e400", "1.01", "-0.01", "1,0"])
def test_a_number_that_is_none_or_out_of_range_is_refused(text: str) -> None:
    reference = ModelReference("m", "", {"n": text})
    with pytest.raises(InvalidRequest, match="not a number from 0 to 1"):
        reference.number("n", 0.5, 0, 1)
    assert ModelReference("m").number("n", 0.5, 0, 1) == 0.5
    assert ModelReference("m", "", {"n": "0.25"}).number("n", 0.5, 0, 1) == 0.25


def test_a_choice_is_one_of_its_values_the_first_when_nothing_is_said() -> None:
    assert ModelReference("m").choice("c", ("a", "b")) == "a"
    assert ModelReference("m", "", {"c": "b"}).choice("c", ("a", "b")) == "b"
    with pytest.raises(InvalidRequest, match="c=d of model 'm' is not one of a, b"):
        ModelReference("m", "", {"c": "d"}).choice("c", ("a", "b"))
