"""Superpixels of a picture, and what is measured on each of them once.

Felzenszwalb and Huttenlocher, "Efficient graph-based image segmentation", IJCV 2004 (scikit-image's
implementation), finely cut: nearly every thing is a union of these pieces, so that what remains is to
decide which of them belong together (`merge_tree`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.images import Image

Array = NDArray[np.float32]

WORKING_SIDE = 320
"""Longest side, pixels, of the picture that is cut. Things over 1.5 % of it have hundreds of pixels."""

SCALE, SIGMA, MIN_SIZE = 75.0, 0.6, 30
"""Felzenszwalb's parameters: about 320 superpixels, finer than nearly all things."""

LEVELS = (2, 4, 7, 10, 14, 15)
"""The network's blocks whose outputs are averaged over each superpixel."""

DENSE_AVERAGE = 2_000_000
"""Entries up to which averages over a grid are a dense matrix, which is quicker; beyond, a sparse one."""

COLOUR_BINS = 14
ORIENTATIONS, MAGNITUDES = 8, 4


@dataclass(frozen=True, eq=False)
class Superpixels:
    """n superpixels of a working picture of height × width pixels.

    labels: (height, width) int32, 0 to n-1, each a connected piece (felzenszwalb's graph is the grid).
    image_height, image_width: of the picture itself, pixels.
    sizes: (n,) float32, working pixels. boxes: (n, 4) float32, working pixels, half open.
    moments: (n, 5) float32, sums of x, y, x², y², xy in working pixels over the larger side.
    border: (n, 4) float32, pixels on the left, top, right and bottom edge of the frame.
    shared: (n, n) float32, symmetric: length of the boundary of two neighbours, in pixel edges.
    contrast: (n, n) float32, symmetric: sum of the Lab distance across that boundary.
    groups: name → (n, c) float32, means over the superpixel: `lab`, `colour`, `texture` (histograms
        that sum to one a channel), and `level2` … `level15`, the network's features.
    squares: (n, 3) float32, mean of the squared Lab channels.
    """

    labels: NDArray[np.int32]
    image_height: int
    image_width: int
    sizes: Array
    boxes: Array
    moments: Array
    border: Array
    shared: Array
    contrast: Array
    groups: Mapping[str, Array]
    squares: Array

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def height(self) -> int:
        return int(self.labels.shape[0])

    @property
    def width(self) -> int:
        return int(self.labels.shape[1])


def cut_superpixels(image: Image, levels: Mapping[int, Array]) -> Superpixels:
    """The superpixels of a picture.

    `levels`: block → (c, h, w) float32 of the network over the whole frame, for each of LEVELS.
    """
    from skimage.color import rgb2lab

    pixels = working_picture(image)
    labels = _labels(pixels)
    flat = labels.ravel()
    count = int(flat.max()) + 1
    sizes = np.bincount(flat, minlength=count).astype(np.float32)
    lab = np.asarray(rgb2lab(pixels), dtype=np.float32)

    groups: dict[str, Array] = {"lab": _means(flat, lab.reshape(-1, 3), sizes)}
    groups["colour"] = _colour_histograms(flat, lab, sizes)
    groups["texture"] = _texture_histograms(flat, lab[:, :, 0], sizes)
    groups.update(_pooled_levels(labels, levels, sizes))

    shared, contrast = _boundaries(labels, lab, count)
    return Superpixels(
        labels=labels,
        image_height=image.height,
        image_width=image.width,
        sizes=sizes,
        boxes=_boxes(labels, count),
        moments=_moments(labels, count),
        border=np.stack(
            [
                np.bincount(edge, minlength=count).astype(np.float32)
                for edge in (labels[:, 0], labels[0], labels[:, -1], labels[-1])
            ],
            axis=1,
        ),
        shared=shared,
        contrast=contrast,
        groups=groups,
        squares=_means(flat, np.square(lab).reshape(-1, 3), sizes),
    )


def working_picture(image: Image) -> NDArray[np.uint8]:
    """The picture reduced to WORKING_SIDE (never enlarged), (height, width, 3) uint8."""
    from PIL import Image as Pictures

    longest = max(image.height, image.width)
    if longest <= WORKING_SIDE:
        return image.pixels
    height = max(1, round(image.height * WORKING_SIDE / longest))
    width = max(1, round(image.width * WORKING_SIDE / longest))
    picture = Pictures.fromarray(np.ascontiguousarray(image.pixels))
    # The gap lets a huge picture be halved cheaply first; at 3 the result is next to the exact one.
    resized = picture.resize((width, height), Pictures.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(resized, dtype=np.uint8)


def _labels(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Felzenszwalb's labels, renumbered from 0 without gaps."""
    from skimage.segmentation import felzenszwalb

    raw = felzenszwalb(pixels, scale=SCALE, sigma=SIGMA, min_size=MIN_SIZE, channel_axis=-1)
    present = np.bincount(raw.ravel()) > 0
    renumbered = np.cumsum(present) - 1
    return np.asarray(renumbered[raw], dtype=np.int32)


def _means(flat: NDArray[np.int32], values: Array, sizes: Array) -> Array:
    sums = [np.bincount(flat, weights=values[:, c], minlength=len(sizes)) for c in range(values.shape[1])]
    return (np.stack(sums, axis=1) / sizes[:, None]).astype(np.float32)


def _colour_histograms(flat: NDArray[np.int32], lab: Array, sizes: Array) -> Array:
    """Soft histograms: each value is shared between its two nearest bins. (n, 3 · bins), mean."""
    low = np.array([0.0, -60.0, -60.0], dtype=np.float32)
    span = np.array([100.0, 120.0, 120.0], dtype=np.float32)
    place = np.clip((lab.reshape(-1, 3) - low) / span, 0.0, 1.0) * (COLOUR_BINS - 1)
    lower = np.minimum(place.astype(np.int32), COLOUR_BINS - 2)
    upper_share = place - lower
    channels = []
    for channel in range(3):
        key = flat * COLOUR_BINS + lower[:, channel]
        share = upper_share[:, channel]
        length = len(sizes) * COLOUR_BINS
        counts = np.bincount(key, weights=1.0 - share, minlength=length)
        counts += np.bincount(key + 1, weights=share, minlength=length)
        channels.append(counts.reshape(len(sizes), COLOUR_BINS))
    return (np.concatenate(channels, axis=1) / sizes[:, None]).astype(np.float32)


def _texture_histograms(flat: NDArray[np.int32], lightness: Array, sizes: Array) -> Array:
    """Orientation × magnitude of the lightness gradient, (n, 32), mean."""
    down = np.zeros_like(lightness)
    right = np.zeros_like(lightness)
    down[1:-1] = lightness[2:] - lightness[:-2]
    right[:, 1:-1] = lightness[:, 2:] - lightness[:, :-2]
    turn = (np.arctan2(down, right) / (2 * np.pi) + 0.5) * ORIENTATIONS
    orientation = turn.astype(np.int32) % ORIENTATIONS
    magnitude = np.digitize(np.hypot(down, right), (4.0, 12.0, 30.0))
    bins = ORIENTATIONS * MAGNITUDES
    key = flat * bins + (orientation * MAGNITUDES + magnitude).ravel()
    counts = np.bincount(key, minlength=len(sizes) * bins).reshape(len(sizes), bins)
    return (counts / sizes[:, None]).astype(np.float32)


def _pooled_levels(labels: NDArray[np.int32], levels: Mapping[int, Array], sizes: Array) -> dict[str, Array]:
    """Each level, upsampled bilinearly to the working picture, averaged over each superpixel.

    The average is a matrix over the level's cells, so that no map is ever upsampled.
    """
    pooled: dict[str, Array] = {}
    averages: dict[tuple[int, int], Any] = {}
    for block in LEVELS:
        level = levels[block]
        channels, rows, columns = level.shape
        if (rows, columns) not in averages:
            averages[rows, columns] = _average(labels, rows, columns, sizes)
        sums = averages[rows, columns] @ np.ascontiguousarray(level.reshape(channels, -1).T)
        pooled[f"level{block}"] = (sums / sizes[:, None]).astype(np.float32)
    return pooled


def _average(labels: NDArray[np.int32], rows: int, columns: int, sizes: Array) -> Any:
    """(n, rows · columns): the bilinear weight of each cell of the grid in each superpixel, summed."""
    from scipy.sparse import csr_matrix

    row, row_share = _neighbours(labels.shape[0], rows)
    column, column_share = _neighbours(labels.shape[1], columns)
    # (height, width, 4): the four cells around each pixel.
    cells = np.stack([r[:, None] * columns + c[None, :] for r in row for c in column], axis=-1)
    shares = np.stack([r[:, None] * c[None, :] for r in row_share for c in column_share], axis=-1)
    count, grid = len(sizes), rows * columns
    if count * grid <= DENSE_AVERAGE:
        key = labels[:, :, None].astype(np.int64) * grid + cells
        dense = np.bincount(key.ravel(), weights=shares.ravel(), minlength=count * grid)
        return dense.reshape(count, grid).astype(np.float32)
    # Rows in order of their label make a valid sparse matrix without sorting or summing its entries.
    order = np.argsort(labels.ravel().astype(np.int16 if count < 2**15 else np.int32), kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes.astype(np.int64) * 4)])
    entries = (shares.reshape(-1, 4)[order].ravel(), cells.reshape(-1, 4)[order].ravel(), starts)
    return csr_matrix(entries, shape=(count, grid))


def _neighbours(size: int, cells: int) -> tuple[list[NDArray[np.int64]], list[Array]]:
    """For each of `size` pixels the two cells beside its centre, and their shares."""
    place = np.clip((np.arange(size) + 0.5) * (cells / size) - 0.5, 0.0, cells - 1.0)
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, cells - 1)
    share = (place - lower).astype(np.float32)
    return [lower, upper], [np.float32(1.0) - share, share]


def _boundaries(labels: NDArray[np.int32], lab: Array, count: int) -> tuple[Array, Array]:
    keys, steps = [], []
    for one, other, lab_one, lab_other in (
        (labels[:, :-1], labels[:, 1:], lab[:, :-1], lab[:, 1:]),
        (labels[:-1], labels[1:], lab[:-1], lab[1:]),
    ):
        where = one != other
        keys.append(one[where].astype(np.int64) * count + other[where])
        steps.append(np.sqrt(np.square(lab_one[where] - lab_other[where]).sum(axis=1)))
    key = np.concatenate(keys)
    lengths = np.bincount(key, minlength=count * count).reshape(count, count)
    sums = np.bincount(key, weights=np.concatenate(steps), minlength=count * count).reshape(count, count)
    return (lengths + lengths.T).astype(np.float32), (sums + sums.T).astype(np.float32)


def _boxes(labels: NDArray[np.int32], count: int) -> Array:
    height, width = labels.shape
    boxes = np.empty((count, 4), dtype=np.float32)
    in_row = np.zeros((count, height), dtype=bool)
    in_row[labels, np.arange(height)[:, None]] = True
    in_column = np.zeros((count, width), dtype=bool)
    in_column[labels, np.arange(width)[None, :]] = True
    boxes[:, 0] = in_column.argmax(axis=1)
    boxes[:, 1] = in_row.argmax(axis=1)
    boxes[:, 2] = width - in_column[:, ::-1].argmax(axis=1)
    boxes[:, 3] = height - in_row[:, ::-1].argmax(axis=1)
    return boxes


def _moments(labels: NDArray[np.int32], count: int) -> Array:
    height, width = labels.shape
    longest = max(height, width)
    y = np.repeat((np.arange(height) + 0.5) / longest, width)
    x = np.tile((np.arange(width) + 0.5) / longest, height)
    flat = labels.ravel()
    sums = [np.bincount(flat, weights=v, minlength=count) for v in (x, y, x * x, y * y, x * y)]
    return np.stack(sums, axis=1).astype(np.float32)
