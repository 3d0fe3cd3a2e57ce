"""Fitting to a user's own judgements."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_photos import draw_folder

from regionsearch.cli import main
from regionsearch.collection import DataDirectory
from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.fitting_judgements import LEAST_JUDGEMENTS, fit_judgements, in_order
from regionsearch.evaluation.judgements import JudgedSignals, Judgement, read_judgements
from regionsearch.search.query import Query
from regionsearch.search.scoring import load_scoring, shipped_scoring

NAMES = ("text_entity", "text_image")


def judged(generator: np.random.Generator, telling: str) -> JudgedSignals:
    """Good images stand out by one of the two parts, the other is noise."""
    lift = np.array([2.0 * (name == telling) for name in NAMES])
    good, bad = generator.normal(0, 1, (3, 2)) + lift, generator.normal(0, 1, (6, 2))
    found = np.concatenate([good, bad, generator.normal(0, 1, (30, 2))])
    judgement = Judgement(1, Query(text="a photo of a dog"), ("a",), ("b",))
    return JudgedSignals(judgement, NAMES, good, bad, found, 100, 0)


@pytest.mark.parametrize("telling", NAMES)
def test_the_part_that_tells_good_from_bad_gains_weight(telling: str) -> None:
    generator = np.random.default_rng(0)
    found = fit_judgements([judged(generator, telling) for _ in range(40)], shipped_scoring())
    other = NAMES[1 - NAMES.index(telling)]
    assert found.changes[telling] > 1.1 > 1 / 1.1 > found.changes[other]
    assert found.after > found.before


def test_judgements_that_say_nothing_leave_the_weights_nearly_as_they_are() -> None:
    generator = np.random.default_rng(1)
    found = fit_judgements([judged(generator, "neither") for _ in range(40)], shipped_scoring())
    assert all(0.6 < change < 1.6 for change in found.changes.values())


def test_parts_that_were_not_asked_keep_their_weights() -> None:
    generator = np.random.default_rng(2)
    found = fit_judgements([judged(generator, "text_image") for _ in range(20)], shipped_scoring())
    for name in ("entity", "global", "placement", "objectness"):
        assert found.scoring.weights[name] == shipped_scoring().weights[name]


def test_scores_of_good_images_rise_above_those_of_bad_ones() -> None:
    generator = np.random.default_rng(3)
    cases = [judged(generator, "text_image") for _ in range(60)]
    found = fit_judgements(cases, shipped_scoring())
    vector = np.array([found.scoring.weights[name] for name in NAMES])
    scores = [
        found.scoring.calibration.of(one.facts(found.scoring.weights)).scores(
            np.concatenate([one.good, one.bad]) @ vector
        )
        for one in cases
    ]
    # A third of the judged images are good, and the mean score is about that share.
    assert np.mean(scores) == pytest.approx(1 / 3, abs=0.05)


def test_the_fitted_calibration_is_of_the_sums_that_the_fitted_weights_make() -> None:
    generator = np.random.default_rng(4)
    cases = []
    for _ in range(60):
        one = judged(generator, "text_image")
        # All answers lie high in the part that tells nothing, so its weight moves their company.
        high = np.array([6.0, 0.0])
        cases.append(replace(one, good=one.good + high, bad=one.bad + high, found=one.found + high))
    found = fit_judgements(cases, shipped_scoring())
    assert found.changes["text_entity"] < 0.8
    vector = np.array([found.scoring.weights[name] for name in NAMES])
    scores = [
        found.scoring.calibration.of(one.facts(found.scoring.weights)).scores(
            np.concatenate([one.good, one.bad]) @ vector
        )
        for one in cases
    ]
    assert np.mean(scores) == pytest.approx(1 / 3, abs=0.03)


def test_too_few_judgements_are_refused() -> None:
    generator = np.random.default_rng(0)
    cases = [judged(generator, "text_image") for _ in range(LEAST_JUDGEMENTS - 1)]
    with pytest.raises(InvalidRequest, match="too few"):
        fit_judgements(cases, shipped_scoring())


def test_a_scoring_without_weight_for_what_was_asked_is_refused() -> None:
    generator = np.random.default_rng(0)
    cases = [judged(generator, "text_image") for _ in range(LEAST_JUDGEMENTS)]
    none = replace(shipped_scoring(), weights={**shipped_scoring().weights, **dict.fromkeys(NAMES, 0.0)})
    with pytest.raises(InvalidRequest, match=r"text_entity, text_image.*weigh 0"):
        fit_judgements(cases, none)


def test_equal_sums_are_half_in_order() -> None:
    signals = np.array([[1.0, 1.0]])
    judgement = Judgement(1, Query(text="x"), ("a",), ("b",))
    one = JudgedSignals(judgement, NAMES, signals, signals, signals, 1, 0)
    assert in_order(one, shipped_scoring().weights) == 0.5


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """A data directory of drawn photos, and by colour the ids of those that show it."""
    root = tmp_path_factory.mktemp("judged")
    folder = draw_folder(root / "photos", 24)
    words = ["index", str(folder.images), "--collection", "photos", "--data", str(root / "data")]
    assert main([*words, "--embedder", "dummy", "--segmenter", "dummy", "--json"]) == 0
    said = json.loads(folder.annotations.read_text())
    names = {image["id"]: image["file_name"] for image in said["images"]}
    colours = {one["id"]: one["name"] for one in said["categories"]}
    shown: dict[str, list[str]] = {}
    for thing in said["annotations"]:
        shown.setdefault(colours[thing["category_id"]], []).append(names[thing["image_id"]])
    return root, shown


def judgements_of(root: Path, shown: dict[str, list[str]]) -> list[dict[str, object]]:
    every = sorted({name for names in shown.values() for name in names})
    by_words = [
        {"query": {"text": text.format(colour)}, "good": names, "bad": sorted(set(every) - set(names))}
        for colour, names in sorted(shown.items())
        for text in ("{}", "a {} thing")
    ]
    source = str(root / "photos" / "images" / every[0])
    pixels = {"query": {"image": source, "box": [5, 5, 60, 45]}, "good": [every[0]], "bad": every[1:4]}
    like = {
        "query": {"image_id": every[1], "entity": 0, "text": "red"},
        "good": [every[1]],
        "bad": [every[2]],
    }
    return [*by_words, pixels, like]


def test_a_fitted_file_scores_searches(
    indexed: tuple[Path, dict[str, list[str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, shown = indexed
    file, out = tmp_path / "judgements.jsonl", tmp_path / "mine.json"
    file.write_text("\n\n".join(json.dumps(one) for one in judgements_of(root, shown)))
    common = ["--data", str(root / "data"), "--collection", "photos"]
    capsys.readouterr()
    assert main(["fit", *common, "--judgements", str(file), "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["judgements"] == 2 * len(shown) + 2
    assert report["in_order_after"] > 0.6
    assert main(["search", *common, "--text", "red", "--scoring", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["calibration"] == report["calibration"] == load_scoring(out).version
    parts = answer["hits"][0]["parts"]
    assert parts["text_entity"]["weight"] == pytest.approx(report["weights"]["text_entity"])


Spoil = Callable[[dict[str, object]], object]


@pytest.mark.parametrize(
    ("spoil", "because"),
    [
        (lambda one: {**one, "good": []}, "good must be a list"),
        (lambda one: {**one, "bad": ["nowhere.png"]}, "nowhere.png"),
        (lambda one: {**one, "bad": one["good"]}, "both good and bad"),
        (lambda one: {"query": one["query"]}, "query, good and bad"),
        (lambda one: {**one, "query": {"words": "red"}}, "no 'words'"),
        (lambda one: {**one, "query": {"text": 3}}, "must be a string"),
        (lambda one: {**one, "query": {"text": "red", "box": [1, 2, 3, 4]}}, r"needs query\.image"),
        (lambda one: {**one, "query": {"image": "none.png"}}, "no image"),
        (lambda one: "red", "an object"),
        (lambda one: one, "line 1 has the same query"),
        (lambda one: {**one, "query": {"image": "."}}, "no image"),
        (lambda one: {**one, "query": {"image_id": "photo.png", "entity": 1.7}}, "index of an entity"),
        (lambda one: {**one, "query": {"image": "q.png", "box": [1, 2, 3]}}, "four numbers"),
        (lambda one: {**one, "query": {"image": "q.png", "box": 7}}, "four numbers"),
        (lambda one: {**one, "query": {"image_id": "nowhere.png"}}, "nowhere.png"),
        (lambda one: {**one, "query": {"text": " "}}, "text"),
        (lambda one: {**one, "query": {"entity": 1, "text": "red"}}, "entity|entities"),
    ],
)
def test_a_line_that_is_no_judgement_is_refused_by_its_number(
    indexed: tuple[Path, dict[str, list[str]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Spoil,
    because: str,
) -> None:
    root, shown = indexed
    good = judgements_of(root, shown)[0]
    file = tmp_path / "judgements.jsonl"
    file.write_text(json.dumps(good) + "\n" + json.dumps(spoil(good)) + "\n")
    words = ["fit", "--data", str(root / "data"), "--collection", "photos", "--judgements", str(file)]
    assert main([*words, "--out", str(tmp_path / "out.json")]) == 1
    told = capsys.readouterr().err
    assert "line 2" in told
    assert re.search(because, told)


def test_a_line_may_hold_any_character_that_json_lets_stand(
    indexed: tuple[Path, dict[str, list[str]]], tmp_path: Path
) -> None:
    root, shown = indexed
    file = tmp_path / "judgements.jsonl"
    good = {**judgements_of(root, shown)[0], "query": {"text": "red\u2028or green\x85"}}
    file.write_text(json.dumps(good, ensure_ascii=False) + "\r\n", encoding="utf-8")
    with DataDirectory(root / "data", "read") as directory:
        (read,) = read_judgements(file, directory.collection("photos"))
    assert read.query.text == "red\u2028or green\x85"


@pytest.mark.parametrize("out", ["nowhere/mine.json", "."])
def test_a_place_that_no_file_can_be_written_to_is_refused_before_the_work(
    indexed: tuple[Path, dict[str, list[str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    root, _ = indexed
    words = ["fit", "--data", str(root / "data"), "--collection", "photos", "--judgements", "none.jsonl"]
    assert main([*words, "--out", str(tmp_path / out)]) == 1
    assert "--out" in capsys.readouterr().err
