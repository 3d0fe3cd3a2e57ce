"""No photo is cut by weights that have seen it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_photos import HEIGHT, WIDTH, DrawnFolder, draw_folder

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.coco_annotations import AnnotatedPhotos, read_folders
from regionsearch.evaluation.cross_fitted import cross_fitted_segmenter, main
from regionsearch.images import Image, load_image
from regionsearch.models.compact.loading import load_segmenter
from regionsearch.models.compact.network import CompactNetwork
from regionsearch.models.compact.segmenter import CompactSegmenter
from regionsearch.models.compact.segmenter_weights import read_weights
from regionsearch.regions import Point, RegionPrompt

HELD = (("000.png", "003.png"), ("001.png", "004.png"), ("002.png", "005.png"))
"""Photos by the fold that they were kept from."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DrawnFolder:
    return draw_folder(tmp_path_factory.mktemp("drawn"), 6)


@pytest.fixture(scope="module")
def photos(folder: DrawnFolder) -> AnnotatedPhotos:
    return read_folders([folder.images], [folder.annotations])


@pytest.fixture(scope="module")
def network() -> CompactNetwork:
    return CompactNetwork(1)


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    """Three folds as `fit_segmenter` leaves them: the shipped weights, less sure of themselves each time."""
    shipped, _ = read_weights()
    for number, names in enumerate(HELD):
        rankers = tuple(
            replace(ranker, biases=(*ranker.biases[:-1], ranker.biases[-1] - 1 - number))
            for ranker in shipped.rankers
        )
        if number == 1:  # The other way round, so that points mean another region too.
            rankers = tuple(ranker.negated() for ranker in rankers)
        weights = replace(shipped, rankers=rankers)
        (tmp_path / f"fold{number}.npz").write_bytes(weights.to_bytes())
        (tmp_path / f"fold{number}.txt").write_text("".join(f"{name}\n" for name in names))
    return tmp_path


def images_of(photos: AnnotatedPhotos) -> list[Image]:
    return [load_image(photo.path) for photo in photos.images]


def assert_equal(one: Entities, other: Entities) -> None:
    assert np.array_equal(one.boxes, other.boxes)
    assert np.array_equal(one.objectness, other.objectness)


def test_each_photo_is_cut_by_the_weights_that_were_fitted_without_it(
    photos: AnnotatedPhotos, folds: Path, network: CompactNetwork
) -> None:
    fittings = [CompactSegmenter(network, folds / f"fold{number}.npz") for number in range(3)]
    segmenter = cross_fitted_segmenter(photos.images, folds)
    images = images_of(photos)
    backbone = segmenter.backbone
    assert backbone is not None
    alone = segmenter.propose(images)
    shared = segmenter.propose(images, backbone.features(images), limit=2)
    for number, image in enumerate(images):
        x0, y0, x1, y1 = photos.images[number].objects[0].box
        centre = RegionPrompt(points=(Point((x0 + x1) / 2, (y0 + y1) / 2),))
        own, *others = (fittings[(number + turn) % 3] for turn in range(3))
        (expected,) = own.propose([image])
        assert_equal(alone[number], expected)
        assert_equal(shared[number], own.propose([image], limit=2)[0])
        assert segmenter.prompt(image, centre) == own.prompt(image, centre)
        for other in others:
            assert not np.array_equal(other.propose([image])[0].objectness, expected.objectness)


def test_a_collection_of_cross_fitted_entities_is_pinned_to_their_weights(
    photos: AnnotatedPhotos, folds: Path
) -> None:
    first = cross_fitted_segmenter(photos.images, folds).info.fingerprint
    assert first.name == "compact"
    assert first.weights != load_segmenter().info.fingerprint.weights
    (folds / "fold1.npz").write_bytes((folds / "fold0.npz").read_bytes())
    assert cross_fitted_segmenter(photos.images, folds).info.fingerprint.weights != first.weights


def test_a_folder_that_no_fold_names_is_cut_by_the_shipped_weights(
    folder: DrawnFolder, folds: Path, tmp_path: Path
) -> None:
    other = draw_folder(tmp_path / "other", 2, seed=9)
    content = json.loads(other.annotations.read_text())
    for image in content["images"]:
        (other.images / image["file_name"]).rename(other.images / f"x{image['file_name']}")
        image["file_name"] = f"x{image['file_name']}"
    other.annotations.write_text(json.dumps(content))
    both = read_folders([folder.images, other.images], [folder.annotations, other.annotations])
    segmenter = cross_fitted_segmenter(both.images, folds)
    for path in other.images.iterdir():
        image = load_image(path)
        assert_equal(segmenter.propose([image])[0], load_segmenter().propose([image])[0])


def test_a_photo_that_no_fold_is_known_for_is_not_cut(photos: AnnotatedPhotos, folds: Path) -> None:
    segmenter = cross_fitted_segmenter(photos.images, folds)
    with pytest.raises(InvalidRequest, match="no fold"):
        segmenter.propose([Image(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))])


def test_folds_that_do_not_fit_the_photos_are_refused(
    photos: AnnotatedPhotos, folds: Path, tmp_path: Path
) -> None:
    names = folds / "fold2.txt"
    for content, reason in (
        ("002.png\n", r"1 of 6 photos in .* kept from no fold, first '005\.png'"),
        ("002.png\n005.png\n001.png\n", r"'001\.png' is kept from two folds"),
    ):
        names.write_text(content)
        with pytest.raises(InvalidRequest, match=reason):
            cross_fitted_segmenter(photos.images, folds)
    names.unlink()
    with pytest.raises(InvalidRequest, match=r"fold2\.txt is missing"):
        cross_fitted_segmenter(photos.images, folds)
    for number in range(3):
        (folds / f"fold{number}.txt").write_text("elsewhere.jpg\n" if number == 0 else "")
    with pytest.raises(InvalidRequest, match="name none of the photos"):
        cross_fitted_segmenter(photos.images, folds)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="no weights fold"):
        cross_fitted_segmenter(photos.images, tmp_path / "empty")


def test_copies_of_a_photo_in_two_folds_are_refused(folds: Path, tmp_path: Path) -> None:
    copied = draw_folder(tmp_path / "copied", 6)
    (copied.images / "001.png").write_bytes((copied.images / "000.png").read_bytes())
    with pytest.raises(InvalidRequest, match="is a copy of a photo of another fold"):
        cross_fitted_segmenter(read_folders([copied.images], [copied.annotations]).images, folds)


def test_the_program_reports_as_the_commands_do(
    folder: DrawnFolder, photos: AnnotatedPhotos, folds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--images", str(folder.images), "--annotations", str(folder.annotations), "--folds", str(folds)]
    assert main(["coco", *given, "--captions", str(folder.captions), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    entities = cross_fitted_segmenter(photos.images, folds).propose(images_of(photos))
    assert report["images"] == report["captions"]["queries"] == 6
    assert report["entities"] == sum(map(len, entities))
    assert main(["segmentation", *given]) == 0
    assert "box recall at 32" in capsys.readouterr().out
    assert main(["coco", *given[:-1], str(folder.images)]) == 1
    assert "no weights fold*.npz" in capsys.readouterr().err
