"""Fitting of weights and calibration on annotated photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_photos import draw_folder
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.evaluation.coco_annotations import AnnotatedPhotos, read_folders
from regionsearch.evaluation.coco_questions import HELD_OUT_CLASSES, held_out_classes
from regionsearch.evaluation.fit_scoring import ALL, crosswise, read_apart
from regionsearch.evaluation.fitting_calibration import (
    FirstHits,
    calibration_errors,
    first_hits,
    fit_calibration,
)
from regionsearch.evaluation.fitting_signals import FITTED_PARTS, AskedSignals, encode_photos, signals_of
from regionsearch.evaluation.fitting_weights import fit_weights, mean_average_precision
from regionsearch.evaluation.photo_index import PhotoIndex
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.scoring import shipped_scoring


def asked(relevant: np.ndarray, values: np.ndarray, group: str = "dog", **other: object) -> AskedSignals:
    said = {"block": "text_to_image", "kind": "words", "text": "a photo of a dog", "left_out": None, **other}
    return AskedSignals(group=group, relevant=relevant, values=values, **said)  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1))
def test_average_precision_is_the_mean_precision_at_relevant_places(seed: int) -> None:
    generator = np.random.default_rng(seed)
    cases = []
    for group in ("dog", "dog", "cat"):
        relevant = generator.random(12) < 0.4
        relevant[generator.integers(1, 12)] = True
        left_out = 0 if generator.random() < 0.5 else None
        relevant[0] &= left_out is None
        cases.append(asked(relevant, generator.normal(0, 1, (12, 4)), group, left_out=left_out))
    weights = generator.uniform(0.1, 1, 4)
    by_group: dict[str, list[float]] = {}
    for one in cases:
        photos = [n for n in range(12) if n != one.left_out]
        photos.sort(key=lambda n: -sum(one.values[n] * weights))
        found, precisions = 0, []
        for place, photo in enumerate(photos, start=1):
            if one.relevant[photo]:
                found += 1
                precisions.append(found / place)
        by_group.setdefault(one.group, []).append(sum(precisions) / len(precisions))
    expected = np.mean([np.mean(values) for values in by_group.values()])
    assert mean_average_precision(cases, weights)["text_to_image"] == pytest.approx(expected)


def test_the_part_that_ranks_gets_the_weight() -> None:
    generator = np.random.default_rng(0)
    relevant = np.arange(40) < 8

    def case(telling: str) -> AskedSignals:
        values = generator.normal(0, 1, (40, 4))
        values[:, :2] = 0
        values[relevant, FITTED_PARTS.index(telling)] += 2.0
        return asked(relevant, values)

    by_entity = fit_weights([[case("text_entity") for _ in range(20)]])
    by_image = fit_weights([[case("text_image") for _ in range(20)]])
    assert by_entity["text_entity"] / by_entity["text_image"] > 2.5
    assert by_image["text_entity"] / by_image["text_image"] < 1


def test_scores_are_the_shares_that_were_drawn() -> None:
    generator = np.random.default_rng(0)
    totals = generator.normal(2, 2, 20_000)
    company = generator.normal(4, 1, 20_000)
    words = generator.integers(0, 3, 20_000).astype(float)
    logits = -1.0 + 0.8 * (totals - 0.7 * company) - 0.5 * words
    hits = FirstHits(totals, company, words, generator.random(20_000) < 1 / (1 + np.exp(-logits)))
    fitted = fit_calibration([{"captions": hits}], shipped_scoring().calibration)
    found = fitted.kinds["words"]
    assert (found.intercept, found.slope, found.further_words) == pytest.approx((-1.0, 0.8, -0.5), abs=0.08)
    assert calibration_errors({"captions": hits}, fitted)["captions"] < 0.02
    assert fitted.kinds["pixels"] == shipped_scoring().calibration.kinds["pixels"]


def test_the_own_photo_of_a_question_is_no_hit() -> None:
    values = np.zeros((12, 4))
    values[3] = 9.0
    own = asked(np.arange(12) == 5, values, left_out=3)
    hits = first_hits([own], np.ones(4))["text_to_image"]
    assert hits.totals.max() == 0.0
    assert len(hits.totals) == 10


def test_which_classes_are_held_out_depends_on_their_names_alone() -> None:
    names = [f"class {n}" for n in range(80)]
    held_out = held_out_classes(names)
    assert len(held_out) == HELD_OUT_CLASSES
    assert held_out_classes(reversed(names)) == held_out


def folder_of(seed: int, telling: str) -> list[AskedSignals]:
    """Twelve class names on thirty photos, told by one part."""
    generator = np.random.default_rng(seed)
    cases = []
    for number in range(12):
        relevant = generator.random(30) < 0.3
        relevant[0] = True
        values = generator.normal(0, 1, (30, 4)) * [0, 0, 1, 1]
        values[relevant, FITTED_PARTS.index(telling)] += 1.5
        cases.append(asked(relevant, values, f"class {number}"))
    return cases


def test_crosswise_a_folder_is_judged_by_what_the_others_say() -> None:
    folders = {"a": folder_of(0, "text_entity"), "b": folder_of(1, "text_image")}
    report = crosswise(folders, shipped_scoring())
    ratios = {
        name: one["scoring"]["weights"]["text_entity"] / one["scoring"]["weights"]["text_image"]
        for name, one in report.items()
    }
    assert ratios["a"] < 1 < ratios["b"]


def test_folders_have_the_same_ids_apart_and_together(tmp_path: Path) -> None:
    drawn = [draw_folder(tmp_path / name, 5, seed) for seed, name in enumerate(("one", "other"))]
    paths = [
        [drawn[0].images, drawn[0].annotations],
        [drawn[1].images, drawn[1].annotations, drawn[1].captions],
    ]
    sets = read_apart(paths)
    together = {image.image_id: image for image in sets[ALL].images}
    apart = [image for name, photos in sets.items() if name != ALL for image in photos.images]
    assert {image.image_id: image for image in apart} == together
    assert {image.path.parent: bool(image.captions) for image in apart} == {
        drawn[0].images: False,
        drawn[1].images: True,
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> AnnotatedPhotos:
    folder = draw_folder(tmp_path_factory.mktemp("fitted"), 60)
    return read_folders([folder.images], [folder.annotations], [folder.captions])


def test_signals_are_the_parts_that_a_search_answers_with(photos: AnnotatedPhotos) -> None:
    models, profile = ModelRegistry(), shipped_scoring().profile({})
    embedder, segmenter = models.embedder("dummy"), models.segmenter("dummy")
    # With six classes all would be held out; more names leave some to be fitted on.
    named = AnnotatedPhotos(photos.images, (*photos.classes, *(f"other {n}" for n in range(60))))
    vectors = encode_photos([named], embedder, segmenter, lambda what, done, of: None)
    measured = signals_of(named, vectors, embedder, segmenter, profile)
    assert {"text_to_image", "region_to_image", "composed"} <= {one.block for one in measured}
    held_out = held_out_classes(named.classes)
    assert not held_out & {name for one in measured for name in one.group.split(" + ")}
    with PhotoIndex(photos, models, "dummy", "dummy") as index:
        for block in ("text_to_image", "captions"):
            one = next(each for each in measured if each.block == block)
            hits = index.search({}, text=one.text).hits
            assert len(hits) == len(photos.images)
            for hit in hits:
                values = one.values[index.numbers[hit.image_id]]
                for column, name in enumerate(FITTED_PARTS):
                    part = hit.parts.get(name)
                    expected = 0.0 if part is None else part.standardised
                    assert values[column] == pytest.approx(expected, abs=1e-4)
