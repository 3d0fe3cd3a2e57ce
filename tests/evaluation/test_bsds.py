"""Partitions against human segmentations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.bsds import (
    Agreement,
    HumanSegmentations,
    boundary,
    boundary_f,
    covering,
    near,
    painted,
    read_ground_truth,
    read_photos,
)
from regionsearch.regions import Box, Mask

partitions = arrays(np.int64, (6, 7), elements=st.integers(0, 4))
ONCE = np.ones((1, 2), dtype=np.int64)


@given(partitions, partitions)
def test_covering_is_the_best_overlap_of_each_segment_weighted_by_its_pixels(
    segments: NDArray[np.int64], by: NDArray[np.int64]
) -> None:
    expected = 0.0
    for segment in np.unique(segments):
        mine = segments == segment
        overlaps = [(mine & (by == other)).sum() / (mine | (by == other)).sum() for other in np.unique(by)]
        expected += mine.sum() * max(overlaps)
    assert covering(segments, by) == pytest.approx(expected / segments.size)


@given(partitions, st.permutations(range(5)))
def test_a_partition_agrees_wholly_with_itself_under_other_names(
    segments: NDArray[np.int64], names: list[int]
) -> None:
    agreement = HumanSegmentations([segments]).agreement(np.array(names)[segments])
    assert agreement.covering == pytest.approx(1)
    assert agreement.precision in (1.0, None)
    assert agreement.recall == 1


def test_precision_is_held_against_all_humans_and_recall_against_each() -> None:
    """Boundaries further apart than the tolerance of 0.75% of 600 × 800 pixels' diagonal, 7.5 pixels."""
    one, two, ours = (np.zeros((600, 800), dtype=np.int64) for _ in range(3))
    one[:, 200:] = 1
    two[:, 400:] = 1
    ours[:, 207:] = 1
    ours[:, 600:] = 2
    agreement = HumanSegmentations([one, two]).agreement(ours)
    assert agreement.precision == pytest.approx(0.5)
    assert agreement.recall == pytest.approx(0.5)
    ours[:, 200:208] = 0
    assert HumanSegmentations([one, two]).agreement(ours).recall == 0


@given(st.sets(st.tuples(st.integers(0, 179), st.integers(0, 219)), max_size=6))
def test_near_means_within_the_tolerance_by_euclidean_distance(places: set[tuple[int, int]]) -> None:
    edges = np.zeros((180, 220), dtype=np.bool_)
    expected = edges.copy()
    reach = 0.0075 * np.hypot(180, 220)
    y, x = np.ogrid[:180, :220]
    for row, column in places:
        edges[row, column] = True
        expected |= (y - row) ** 2 + (x - column) ** 2 <= reach**2
    assert np.array_equal(near(edges), expected)


def test_a_boundary_is_one_pixel_wide() -> None:
    labels = np.zeros((4, 6), dtype=np.int64)
    labels[:, 3:] = 1
    assert np.array_equal(np.argwhere(boundary(labels)), [[row, 2] for row in range(4)])
    assert not boundary(np.zeros((4, 6), dtype=np.int64)).any()


def test_smaller_entities_are_painted_over_larger_ones() -> None:
    boxes = [Box(2, 2, 4, 4), Box(0, 0, 6, 6), Box(5, 0, 8, 2)]
    masks = [Mask.from_box(box, 8, 10) for box in boxes]
    labels = painted(Entities.from_masks(masks, np.ones(3, dtype=np.float32)), 8, 10)
    assert labels[3, 3] == 1
    assert labels[1, 1] == 2
    assert labels[1, 5] == 3
    assert labels[7, 9] == 0


def test_boundary_f_is_of_the_means_and_a_partition_without_boundary_has_no_precision() -> None:
    assert boundary_f([Agreement(1, 0.6, 0.2), Agreement(1, 0.2, 0.6)], ONCE)[0] == pytest.approx(0.4)
    assert boundary_f([Agreement(1, 0.6, 0.2), Agreement(1, None, 0.0)], ONCE)[0] == pytest.approx(
        2 * 0.6 * 0.1 / 0.7
    )
    assert boundary_f([Agreement(1, None, 0.0)] * 2, ONCE)[0] == 0


def test_ground_truth_is_read_from_matlab_files(tmp_path: Path) -> None:
    humans = np.empty((1, 2), dtype=object)
    for n in range(2):
        humans[0, n] = {"Segmentation": np.full((3, 4), n + 1, dtype=np.uint16)}
    scipy.io.savemat(tmp_path / "a.mat", {"groundTruth": humans})
    read = read_ground_truth(tmp_path / "a.mat")
    assert [int(labels.max()) for labels in read] == [1, 2]
    assert all(labels.shape == (3, 4) for labels in read)
    scipy.io.savemat(tmp_path / "b.mat", {"something": np.zeros(3)})
    with pytest.raises(InvalidRequest, match=r"b\.mat"):
        read_ground_truth(tmp_path / "b.mat")


def test_a_picture_without_ground_truth_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no folder"):
        read_photos(tmp_path)
    for part in ("images", "ground_truth"):
        (tmp_path / part).mkdir()
    with pytest.raises(InvalidRequest, match="no picture"):
        read_photos(tmp_path)
    (tmp_path / "images" / "lonely.jpg").write_bytes(b"")
    with pytest.raises(InvalidRequest, match=r"lonely\.jpg has no ground truth"):
        read_photos(tmp_path)


def test_published_ground_truth_has_several_humans_of_the_photos_size(data_folder: Path) -> None:
    photos = read_photos(data_folder / "bsds500_val")
    assert len(photos) == 100
    for photo in photos[::25]:
        humans = read_ground_truth(photo.ground_truth)
        assert 4 <= len(humans) <= 9
        assert {labels.shape for labels in humans} in ({(321, 481)}, {(481, 321)})
