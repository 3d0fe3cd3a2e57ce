"""The compact segmenter, on pictures that are drawn here: what is in them is known."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRegion, InvalidRequest, ModelUnavailable
from regionsearch.images import Image
from regionsearch.models.compact import segmenter_weights
from regionsearch.models.compact.network import CompactNetwork
from regionsearch.models.compact.segmenter import CompactSegmenter
from regionsearch.models.compact.segmenter_weights import SHIPPED
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt, box_iou, mask_iou


@pytest.fixture(scope="module")
def network() -> CompactNetwork:
    return CompactNetwork(1)


@pytest.fixture(scope="module")
def segmenter(network: CompactNetwork) -> CompactSegmenter:
    return CompactSegmenter(network)


def scene(height: int = 300, width: int = 400, seed: int = 0) -> tuple[Image, dict[str, Mask]]:
    """A red disc and a yellow post on grass under a sky, all with some noise; and their masks."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    pixels = np.where((y < height // 2)[..., None], (150, 190, 230), (70, 130, 60)).astype(np.float64)
    disc = (x - 0.3 * width) ** 2 + (y - 0.55 * height) ** 2 < (0.2 * height) ** 2
    post = (abs(x - 0.75 * width) < 0.08 * width) & (abs(y - 0.5 * height) < 0.3 * height)
    pixels[disc] = (200, 40, 40)
    pixels[post] = (230, 210, 60)
    pixels += random.normal(0, 5, (height, width, 3))
    image = Image(np.clip(pixels, 0, 255).astype(np.uint8))
    return image, {"disc": Mask.from_array(disc), "post": Mask.from_array(post)}


def best_overlap(entities: Entities, thing: Mask) -> float:
    return max(mask_iou(mask, thing) for mask in entities.masks)


def test_things_that_stand_out_are_among_the_entities(segmenter: CompactSegmenter) -> None:
    image, things = scene()
    (entities,) = segmenter.propose([image])
    for thing in things.values():
        assert best_overlap(entities, thing) > 0.85


def test_of_two_entities_one_holds_the_other_or_they_are_apart(segmenter: CompactSegmenter) -> None:
    image, _ = scene()
    (entities,) = segmenter.propose([image], limit=64)
    dense = [mask.to_array() for mask in entities.masks]
    for number, one in enumerate(dense):
        for other in dense[:number]:
            assert (one & other).sum() in (0, one.sum(), other.sum())


def test_entities_are_masks_of_the_picture_itself_with_their_boxes_and_no_two_alike(
    segmenter: CompactSegmenter,
) -> None:
    image, _ = scene(333, 517)
    (entities,) = segmenter.propose([image], limit=1024)
    assert len(set(entities.masks)) == len(entities) > 1
    for mask, box, area in zip(entities.masks, entities.boxes, entities.areas, strict=True):
        assert (mask.height, mask.width) == (333, 517)
        dense = mask.to_array()
        rows, columns = np.nonzero(dense)
        assert tuple(box) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert area == pytest.approx(dense.mean())


@pytest.mark.parametrize("limit", [1, 3, 8])
def test_a_limit_keeps_the_first_of_a_longer_answer(segmenter: CompactSegmenter, limit: int) -> None:
    image, _ = scene()
    (longest,) = segmenter.propose([image], limit=64)
    (entities,) = segmenter.propose([image], limit=limit)
    assert entities.masks == longest.masks[:limit]


@pytest.mark.parametrize("limit", [0, -1, 1025])
def test_a_limit_out_of_range_is_refused(segmenter: CompactSegmenter, limit: int) -> None:
    with pytest.raises(InvalidRequest, match="1024"):
        segmenter.propose([scene()[0]], limit=limit)


def test_the_same_picture_gives_the_same_entities_alone_in_company_and_with_given_features(
    segmenter: CompactSegmenter, network: CompactNetwork
) -> None:
    image, other = scene()[0], scene(seed=5)[0]
    (alone,) = segmenter.propose([image])
    first, _, again = segmenter.propose([image, other, image])
    (given,) = segmenter.propose([image], network.features([image]))
    for entities in (first, again, given):
        assert entities.masks == alone.masks
        np.testing.assert_array_equal(entities.objectness, alone.objectness)


def test_several_threads_get_what_one_gets(segmenter: CompactSegmenter) -> None:
    images = [scene(seed=seed)[0] for seed in range(4)]
    expected = [entities.masks for entities in segmenter.propose(images)]
    found: dict[int, tuple[Mask, ...]] = {}

    def work(index: int) -> None:
        found[index] = segmenter.propose([images[index]])[0].masks

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(4)] == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 500), (500, 3), (17, 23), (2500, 12)])
@pytest.mark.parametrize("noisy", [False, True])
def test_pictures_of_any_size_have_an_entity(
    segmenter: CompactSegmenter, size: tuple[int, int], noisy: bool
) -> None:
    flat = np.full((*size, 3), 90, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    (entities,) = segmenter.propose([Image(noise if noisy else flat)])
    assert (entities.masks[0].height, entities.masks[0].width) == size
    if not noisy:
        assert entities.masks == (Mask.full(*size),)


def test_features_of_another_network_are_refused(
    segmenter: CompactSegmenter, network: CompactNetwork
) -> None:
    class Strangers:
        source = "another network"

    image, _ = scene()
    with pytest.raises(InvalidRequest, match="another network"):
        segmenter.propose([image], [Strangers()])
    with pytest.raises(InvalidRequest, match="2 images"):
        segmenter.propose([image, image], network.features([image]))


# What a pointed-at region means.


def test_a_point_means_the_thing_under_it(segmenter: CompactSegmenter) -> None:
    image, things = scene()
    for name, (x, y) in {"disc": (120, 165), "post": (300, 150)}.items():
        mask = segmenter.prompt(image, RegionPrompt(points=(Point(x, y),)))
        assert mask.contains_point(x, y)
        assert mask_iou(mask, things[name]) > 0.85


def test_a_negative_point_is_left_out_and_every_positive_one_is_held(segmenter: CompactSegmenter) -> None:
    image, _ = scene()
    points = (Point(120, 165), Point(110, 150), Point(300, 150, positive=False))
    mask = segmenter.prompt(image, RegionPrompt(points=points))
    for point in points:
        assert mask.contains_point(point.x, point.y) == point.positive


def test_a_point_on_a_flat_picture_is_refused_by_name(segmenter: CompactSegmenter) -> None:
    flat = Image(np.full((120, 160, 3), 200, dtype=np.uint8))
    with pytest.raises(InvalidRegion, match=r"nothing of its own lies at point \(31, 42\)"):
        segmenter.prompt(flat, RegionPrompt(points=(Point(31, 42),)))


def test_points_that_nothing_tells_apart_are_refused(segmenter: CompactSegmenter) -> None:
    image, _ = scene()
    near = (Point(120, 165), Point(121, 165, positive=False))
    with pytest.raises(InvalidRegion, match=r"\(121, 165\)"):
        segmenter.prompt(image, RegionPrompt(points=near))


def test_a_point_outside_the_picture_is_refused(segmenter: CompactSegmenter) -> None:
    with pytest.raises(InvalidRegion, match="outside"):
        segmenter.prompt(scene()[0], RegionPrompt(points=(Point(400, 10),)))


def test_an_outline_means_itself_clipped_to_the_picture(segmenter: CompactSegmenter) -> None:
    image, things = scene()
    box = segmenter.prompt(image, RegionPrompt(box=Box(350, 250, 900, 900)))
    assert box == Mask.from_box(Box(350, 250, 400, 300), 300, 400)
    corners = Polygon((((10.0, 10.0), (60.0, 12.0), (30.0, 70.0)),))
    assert segmenter.prompt(image, RegionPrompt(polygon=corners)) == Mask.from_polygon(corners, 300, 400)
    assert segmenter.prompt(image, RegionPrompt(mask=things["disc"])) == things["disc"]


def test_a_box_means_itself_unless_it_is_refined_to_the_thing_within(segmenter: CompactSegmenter) -> None:
    image, things = scene()
    around = Box(56, 100, 188, 230)
    assert segmenter.prompt(image, RegionPrompt(box=around)) == Mask.from_box(around, 300, 400)
    refined = segmenter.prompt(image, RegionPrompt(box=around), refine=True)
    assert mask_iou(refined, things["disc"]) > 0.85
    corner = Box(1.5, 2, 9, 7)
    assert segmenter.prompt(image, RegionPrompt(box=corner), refine=True) == Mask.from_box(corner, 300, 400)


def test_a_point_in_a_box_means_the_thing_within_the_box(segmenter: CompactSegmenter) -> None:
    image, things = scene()
    around = Box(40, 80, 200, 250)
    mask = segmenter.prompt(image, RegionPrompt(points=(Point(120, 165),), box=around))
    assert mask_iou(mask, things["disc"]) > 0.8
    tight = mask.box()
    assert box_iou(tight, around) < 1
    assert tight.x0 >= 40
    assert tight.y1 <= 250
    with pytest.raises(InvalidRegion, match="outline"):
        segmenter.prompt(image, RegionPrompt(points=(Point(300, 150),), box=around))


def test_a_negative_point_cuts_its_thing_out_of_a_box(segmenter: CompactSegmenter) -> None:
    image, things = scene()
    prompt = RegionPrompt(points=(Point(120, 165, positive=False),), box=Box(20, 60, 260, 290))
    mask = segmenter.prompt(image, prompt)
    left = mask.to_array() & things["disc"].to_array()
    assert left.sum() < 0.15 * things["disc"].pixels
    assert mask.contains_point(250, 280)


# The fitted weights.


def test_weights_that_are_not_the_shipped_ones_are_refused_in_their_place(
    network: CompactNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = bytearray(SHIPPED.read_bytes())
    changed[len(changed) // 2] ^= 1
    other = tmp_path / "segmenter_weights.npz"
    other.write_bytes(changed)
    monkeypatch.setattr(segmenter_weights, "SHIPPED", other)
    with pytest.raises(ModelUnavailable, match="sha256"):
        CompactSegmenter(network)


def test_weights_of_one_s_own_are_taken_by_path_and_change_the_fingerprint(
    network: CompactNetwork, segmenter: CompactSegmenter, tmp_path: Path
) -> None:
    weights, _ = segmenter_weights.read_weights()
    own = tmp_path / "own.npz"
    own.write_bytes(weights.to_bytes())
    assert own.read_bytes() == SHIPPED.read_bytes()
    assert CompactSegmenter(network, own).info == segmenter.info

    doubled = segmenter_weights.SegmenterWeights(
        weights.scale, weights.thing, weights.affinity, weights.rankers * 2
    )
    own.write_bytes(doubled.to_bytes())
    assert CompactSegmenter(network, own).info != segmenter.info


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_holds_no_weights_is_named(
    network: CompactNetwork, tmp_path: Path, content: bytes
) -> None:
    own = tmp_path / "own.npz"
    own.write_bytes(content)
    with pytest.raises(ModelUnavailable, match="own"):
        CompactSegmenter(network, own)
    with pytest.raises(ModelUnavailable, match="missing"):
        CompactSegmenter(network, tmp_path / "nowhere.npz")
