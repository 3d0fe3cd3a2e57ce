"""How well entities, painted into one partition, agree with human segmentations: BSDS500.

The data set and the covering are those of Arbeláez, Maire, Fowlkes and Malik, "Contour Detection and
Hierarchical Image Segmentation", PAMI 2011. Boundaries are matched by distance (a pixel is matched when
the other side has a boundary within the tolerance), not by the one-to-one assignment of the original
benchmark: close for thin boundaries, and quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.bootstrap import image_weights, interval
from regionsearch.evaluation.felzenszwalb import partition
from regionsearch.evaluation.photo_index import Progress
from regionsearch.evaluation.segmentation_evaluation import ASKED_ENTITIES
from regionsearch.evaluation.segmenter_timing import baseline_seconds, propose_timed, warm_up
from regionsearch.images import load_image
from regionsearch.models.segmenter import Segmenter

TOLERANCE = 0.0075
"""Of the image's diagonal."""
FELZENSZWALB_SCALES = (50, 100, 200, 400, 800)
FELZENSZWALB_MIN_SIZE = 50
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class SegmentedPhoto:
    """A photo and the file of its human segmentations."""

    name: str
    picture: Path
    ground_truth: Path


@dataclass(frozen=True, slots=True)
class Agreement:
    """One partition against all humans: covering, boundary precision (None without a boundary), recall."""

    covering: float
    precision: float | None
    recall: float


def read_photos(folder: Path) -> list[SegmentedPhoto]:
    """Those of `folder`/images with a file of the same stem in `folder`/ground_truth, by name.

    Raises InvalidRequest when a picture has no ground truth, or there is none at all.
    """
    pictures, truths = folder / "images", folder / "ground_truth"
    for part in (pictures, truths):
        if not part.is_dir():
            raise InvalidRequest(f"there is no folder {part}", field="bsds")
    found = [
        SegmentedPhoto(path.stem, path, truths / f"{path.stem}.mat")
        for path in sorted(pictures.iterdir())
        if path.suffix.lower() in PICTURE_SUFFIXES
    ]
    if not found:
        raise InvalidRequest(f"there is no picture in {pictures}", field="bsds")
    for photo in found:
        if not photo.ground_truth.is_file():
            raise InvalidRequest(f"{photo.picture} has no ground truth {photo.ground_truth}", field="bsds")
    return found


def read_ground_truth(file: Path) -> list[NDArray[np.int64]]:
    """One (height, width) int64 partition for each human. Raises InvalidRequest for any other file."""
    from scipy.io import loadmat

    try:
        humans = loadmat(file)["groundTruth"].ravel()
        return [np.asarray(human["Segmentation"][0, 0], dtype=np.int64) for human in humans]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InvalidRequest(f"{file} is no BSDS ground truth: {error!r}", field="bsds") from error


def painted(entities: Entities, height: int, width: int) -> NDArray[np.int64]:
    """One partition: larger entities first, so that smaller ones lie on top; the rest is region 0."""
    labels = np.zeros((height, width), dtype=np.int64)
    for number in np.argsort(-entities.areas, kind="stable"):
        labels[entities.masks[number].to_array()] = number + 1
    return labels


def covering(segments: NDArray[np.int64], by: NDArray[np.int64]) -> float:
    """How well the regions of `by` cover `segments` (Arbeláez et al. 2011, equation 3): the mean, over the
    segments weighted by their pixels, of the best intersection over union. 0 to 1.
    Labels are small numbers, 0 or more."""
    columns = int(by.max()) + 1
    shared = np.bincount((segments * columns + by).ravel(), minlength=(int(segments.max()) + 1) * columns)
    shared = shared.reshape(-1, columns).astype(np.float64)
    sizes, other_sizes = shared.sum(axis=1), shared.sum(axis=0)
    union = sizes[:, None] + other_sizes[None] - shared
    # A label that no pixel has overlaps with nothing, itself included.
    overlaps = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return float((sizes * overlaps.max(axis=1)).sum() / sizes.sum())


def boundary(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(height, width) bool: pixels whose right or lower neighbour belongs to another region."""
    edges = np.zeros(labels.shape, dtype=np.bool_)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges


def near(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(height, width) bool: pixels within the tolerance of a boundary."""
    from scipy.ndimage import distance_transform_edt

    if not edges.any():
        return np.zeros(edges.shape, dtype=np.bool_)
    distances: NDArray[np.float64] = distance_transform_edt(~edges)
    reach = TOLERANCE * float(np.hypot(*edges.shape))
    within: NDArray[np.bool_] = distances <= reach
    return within


class HumanSegmentations:
    """The partitions that people made of one photo, ready to be compared with others."""

    def __init__(self, partitions: Sequence[NDArray[np.int64]]) -> None:
        self._partitions = partitions
        self._boundaries = [boundary(labels) for labels in partitions]
        self._near_any = near(np.logical_or.reduce(self._boundaries))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._partitions[0].shape

    def agreement(self, labels: NDArray[np.int64]) -> Agreement:
        """Covering: each human's segments by the partition, mean over humans. Precision: boundary pixels
        near the union of the humans' boundaries. Recall: of each human's boundary what is near ours, mean
        over humans; one who drew no boundary has no say in it."""
        edges = boundary(labels)
        near_ours = near(edges)
        recalls = [float(near_ours[drawn].mean()) for drawn in self._boundaries if drawn.any()]
        return Agreement(
            covering=float(np.mean([covering(segments, labels) for segments in self._partitions])),
            precision=float(self._near_any[edges].mean()) if edges.any() else None,
            recall=float(np.mean(recalls)) if recalls else 1.0,
        )


def evaluate_partitions(folder: Path, segmenter: Segmenter, progress: Progress) -> dict[str, Any]:
    """The report of `eval segmentation --bsds`, as JSON-ready values.

    Raises InvalidRequest and InvalidImage for a photo or ground truth that cannot be read.
    """
    photos = read_photos(folder)
    ours: list[Agreement] = []
    yardstick: dict[int, list[Agreement]] = {scale: [] for scale in FELZENSZWALB_SCALES}
    seconds: list[float] = []
    yardstick_seconds: list[float] = []
    for done, photo in enumerate(photos):
        progress("segmenting", done, len(photos))
        image = load_image(photo.picture)
        humans = HumanSegmentations(read_ground_truth(photo.ground_truth))
        if humans.shape != (image.height, image.width):
            raise InvalidRequest(
                f"{photo.picture} has {image.width} × {image.height} pixels, its ground truth "
                f"{humans.shape[1]} × {humans.shape[0]}",
                field="bsds",
            )
        if not ours:
            warm_up(segmenter, image)
        proposed = propose_timed(segmenter, image)
        seconds.append(proposed.seconds)
        yardstick_seconds.append(baseline_seconds(image))
        (entities,) = segmenter.propose([image], proposed.features, limit=ASKED_ENTITIES)
        ours.append(humans.agreement(painted(entities, image.height, image.width)))
        for scale in FELZENSZWALB_SCALES:
            yardstick[scale].append(humans.agreement(partition(image.pixels, scale, FELZENSZWALB_MIN_SIZE)))
    progress("segmenting", len(photos), len(photos))
    return _report(ours, yardstick, seconds, yardstick_seconds)


def _report(
    ours: Sequence[Agreement],
    yardstick: dict[int, list[Agreement]],
    seconds: Sequence[float],
    yardstick_seconds: Sequence[float],
) -> dict[str, Any]:
    weights = np.concatenate([np.ones((1, len(ours)), dtype=np.int64), image_weights(len(ours))])
    cover, f = mean_covering(ours, weights), boundary_f(ours, weights)
    by_cover = {scale: float(mean_covering(found, weights[:1])[0]) for scale, found in yardstick.items()}
    by_f = {scale: float(boundary_f(found, weights[:1])[0]) for scale, found in yardstick.items()}
    best_cover, best_f = max(by_cover, key=by_cover.__getitem__), max(by_f, key=by_f.__getitem__)
    return {
        "images": len(ours),
        "covering": float(cover[0]),
        "covering_ci95": interval(cover[1:]),
        "boundary_f": float(f[0]),
        "boundary_f_ci95": interval(f[1:]),
        "seconds_per_image": float(np.mean(seconds)),
        "baseline_seconds_per_image": float(np.mean(yardstick_seconds)),
        "felzenszwalb": {
            "covering": by_cover[best_cover],
            "covering_scale": best_cover,
            "boundary_f": by_f[best_f],
            "boundary_f_scale": best_f,
        },
    }


def mean_covering(found: Sequence[Agreement], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """(draws,) the mean over photos."""
    values = np.array([one.covering for one in found])
    means: NDArray[np.float64] = (weights @ values) / weights.sum(axis=1)
    return means


def boundary_f(found: Sequence[Agreement], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """(draws,) the harmonic mean of mean precision (over photos that have any boundary) and mean recall;
    0 where both are 0."""
    drawn = np.array([one.precision is not None for one in found])
    precisions = np.array([one.precision or 0.0 for one in found])
    recalls = np.array([one.recall for one in found])
    counted = (weights @ drawn).astype(np.float64)
    precision = np.divide(weights @ precisions, counted, out=np.zeros(len(weights)), where=counted > 0)
    recall = (weights @ recalls) / weights.sum(axis=1)
    total = precision + recall
    f: NDArray[np.float64] = np.divide(
        2 * precision * recall, total, out=np.zeros(len(weights)), where=total > 0
    )
    return f
