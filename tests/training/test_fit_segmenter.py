"""Fitting the segmenter on a small drawn data set in COCO's formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from regionsearch.models.compact.network import CompactNetwork
from regionsearch.models.compact.segmenter import CompactSegmenter
from regionsearch.training.fit_segmenter import main
from regionsearch.training.perceptron_fitting import PerceptronRecipe, fit_perceptron
from regionsearch.training.segmenter_examples import read_examples
from regionsearch.training.segmenter_fitting import folds

HEIGHT, WIDTH = 120, 160


def write_photo(folder: Path, number: int) -> tuple[dict, list[dict], dict]:
    """A disc and a post on grass; the panoptic PNG has sky and grass too."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centre, left = random.integers(30, 60), random.integers(90, 130)
    disc = (x - centre) ** 2 + (y - 70) ** 2 < 25**2
    post = (x >= left) & (x < left + 22) & (y >= 30) & (y < 100)
    pixels = np.where((y < 50)[..., None], (150, 190, 230), (70, 130, 60)).astype(np.float64)
    pixels[disc], pixels[post] = random.integers(0, 255, 3), random.integers(0, 255, 3)
    pixels += random.normal(0, 8, pixels.shape)
    name = f"{number}.jpg"
    Pictures.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / "images" / name, quality=95)

    identifiers = np.where(y < 50, 1, 2)
    identifiers[disc], identifiers[post] = 3, 4
    coded = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    coded[..., 0] = identifiers
    Pictures.fromarray(coded).save(folder / "panoptic" / f"{number}.png")

    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([centre + 0.5 + 25 * np.cos(turn), 70.5 + 25 * np.sin(turn)], axis=1)
    right = left + 22
    outlines = [
        (ring.ravel().tolist(), [int(centre) - 25, 45, 50, 50]),
        ([left, 30, right, 30, right, 100, left, 100], [int(left), 30, 22, 70]),
    ]
    things = [
        {
            "id": 10 * number + place,
            "image_id": number,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": box,
            "segmentation": [[float(value) for value in outline]],
        }
        for place, (outline, box) in enumerate(outlines)
    ]
    segments = [{"id": value, "category_id": 2 if value < 3 else 1} for value in (1, 2, 3, 4)]
    photo = {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
    panoptic = {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}
    return photo, things, panoptic


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "images").mkdir()
    (folder / "panoptic").mkdir()
    photos, things, panoptic = zip(*(write_photo(folder, number) for number in range(6)), strict=True)
    categories = [{"id": 1, "name": "thing", "isthing": 1}, {"id": 2, "name": "ground", "isthing": 0}]
    # The last one without panoptic segments, as some photos of COCO are.
    instances = {"images": photos, "annotations": list(chain.from_iterable(things)), "categories": categories}
    segments = {"images": photos, "annotations": panoptic[:5], "categories": categories}
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "panoptic.json").write_text(json.dumps(segments))
    return folder


def arguments(dataset: Path, out: Path, *more: str) -> Sequence[str]:
    named = {
        "--images": dataset / "images",
        "--annotations": dataset / "instances.json",
        "--panoptic": dataset / "panoptic.json",
        "--panoptic-masks": dataset / "panoptic",
        "--out": out,
    }
    return [str(part) for pair in named.items() for part in pair] + list(more)


def test_fitting_writes_weights_that_find_the_things_and_figures_for_unseen_photos(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "weights.npz"
    assert main(arguments(dataset, out, "--evaluate", "--folds", "2")) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["cross_fitted"]["images"] == 6
    assert figures["cross_fitted"]["objects"] == 12
    assert figures["cross_fitted"]["recall"]["32"] > 0.7
    held = [(tmp_path / "weights" / f"fold{number}.txt").read_text().split() for number in (0, 1)]
    assert sorted(held[0] + held[1]) == [f"{number}.jpg" for number in range(6)]

    # The same photos and seed give the same file: whoever wants can make the shipped one again.
    again = tmp_path / "again.npz"
    assert main(arguments(dataset, again)) == 0
    assert again.read_bytes() == out.read_bytes()


def test_examples_know_what_covers_each_superpixel(dataset: Path) -> None:
    folder = dataset
    examples = read_examples(
        CompactNetwork(1),
        folder / "images",
        folder / "instances.json",
        folder / "panoptic.json",
        folder / "panoptic",
    )
    assert [example.path.name for example in examples] == [f"{number}.jpg" for number in range(6)]
    assert [example.segments is None for example in examples] == [False] * 5 + [True]
    for example in examples[:5]:
        assert example.segments is not None
        assert example.countable is not None
        np.testing.assert_allclose(example.segments.sum(axis=1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(example.countable, example.segments[:, 2:].sum(axis=1), rtol=1e-5)
        on_disc, on_post = example.thing_pixels.sum(axis=1)
        assert on_disc == pytest.approx(np.pi * 25**2, rel=0.05)
        assert on_post == pytest.approx(22 * 70, rel=0.02)
        assert example.large.all()


def test_a_file_that_is_not_coco_s_is_named(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[]")
    given = list(arguments(dataset, tmp_path / "weights.npz"))
    given[given.index("--panoptic") + 1] = str(wrong)
    assert main(given) == 1
    assert "wrong.json" in capsys.readouterr().err


def test_a_fitted_perceptron_tells_apart_what_a_line_cannot() -> None:
    random = np.random.default_rng(0)
    inputs = random.uniform(-1, 1, (2000, 2)).astype(np.float32)
    targets = (inputs[:, 0] * inputs[:, 1] > 0).astype(np.float32)
    recipe = PerceptronRecipe((16,), epochs=40, learning_rate=1e-2, weight_decay=0.0, dropout=0.0, batch=64)
    network = fit_perceptron(inputs, targets, np.ones(2000, np.float32), recipe, seed=0)
    assert ((network(inputs) > 0) == (targets > 0.5)).mean() > 0.95
    np.testing.assert_allclose(network.negated()(inputs), -network(inputs), rtol=1e-6)


@pytest.mark.parametrize(("count", "into"), [(128, 3), (6, 2), (5, 5)])
def test_folds_deal_out_every_photo_once(count: int, into: int) -> None:
    dealt = folds(count, into, seed=4)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(count))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_weights_fitted_here_are_read_by_the_segmenter_that_is_handed_them(
    dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "weights.npz"
    assert main(arguments(dataset, out, "--seed", "7")) == 0
    segmenter = CompactSegmenter(CompactNetwork(1), out)
    assert segmenter.info.fingerprint.weights != CompactSegmenter(CompactNetwork(1)).info.fingerprint.weights
