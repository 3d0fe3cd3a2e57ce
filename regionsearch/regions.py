"""Regions of a picture: points, boxes, masks and polygons. Pure functions, no IO.

Coordinates are pixels of the upright image (after EXIF orientation), origin top left. Everything is
half open: a box holds [x0, x1) × [y0, y1), and a point lies within an image when 0 <= x < width and
0 <= y < height. The pixel in row r and column c covers [c, c + 1) × [r, r + 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from regionsearch import run_length
from regionsearch.errors import InvalidRegion

FramePart = Literal[
    "left",
    "right",
    "top",
    "bottom",
    "centre",
    "top_left",
    "top_right",
    "bottom_left",
    "bottom_right",
    "left_half",
    "right_half",
    "top_half",
    "bottom_half",
]
FRAME_PARTS: tuple[FramePart, ...] = get_args(FramePart)
"""Parts of a frame by name: thirds, their crossings, and halves."""
MAX_MASK_PIXELS = run_length.LONGEST_RUN
MAX_POLYGON_COORDINATE = 1e8
"""Pixels, either way of the origin: on the grid of rasterisation it is still exact."""
_NORMALISED_SLACK = 1e-6
"""How far above 1 a normalised box or polygon may reach: 1 - width + width in float32 passes it."""


@dataclass(frozen=True, slots=True)
class Point:
    """A click at (x, y) pixels; positive: it is on the thing, negative: it is not.

    Raises InvalidRegion if a coordinate is not finite.
    """

    x: float
    y: float
    positive: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)):
            raise InvalidRegion(f"point has a coordinate that is not finite: {self}")

    def __str__(self) -> str:
        return f"({self.x:g}, {self.y:g})"


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box in pixels of the upright image, half open: [x0, x1) × [y0, y1).

    Raises InvalidRegion if it is empty or not finite. Boxes are not clipped on construction:
    a region that leaves its image is the caller's mistake until `clip` says otherwise.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.x0, self.y0, self.x1, self.y1))):
            raise InvalidRegion(f"box has a coordinate that is not finite: {self}")
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise InvalidRegion(f"box is empty: {self}")

    def __str__(self) -> str:
        return f"[{self.x0:g}, {self.y0:g}, {self.x1:g}, {self.y1:g})"

    @property
    def area(self) -> float:
        """Square pixels."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def as_tuple(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1), pixels."""
        return (float(self.x0), float(self.y0), float(self.x1), float(self.y1))

    def contains(self, x: float, y: float) -> bool:
        return self.x0 <= x < self.x1 and self.y0 <= y < self.y1

    def clip(self, height: int, width: int) -> Box:
        """The part within an image of height × width pixels.

        Raises InvalidRegion if nothing is left.
        """
        if self.x0 >= width or self.y0 >= height or self.x1 <= 0 or self.y1 <= 0:
            raise InvalidRegion(f"box {self} lies outside the image of {width} × {height} pixels")
        return Box(max(self.x0, 0), max(self.y0, 0), min(self.x1, width), min(self.y1, height))


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a.area + b.area - shared)


def box_iou_matrix(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of every box of one array with every box of another.

    a: (n, 4), b: (m, 4), pixels, [x0, y0, x1, y1), none empty. Returns (n, m) float64, 0 to 1.
    """
    boxes_a, boxes_b = a.astype(np.float64), b.astype(np.float64)
    shared = shared_areas(boxes_a, boxes_b)
    areas_a = (boxes_a[:, 2:] - boxes_a[:, :2]).prod(axis=1)
    areas_b = (boxes_b[:, 2:] - boxes_b[:, :2]).prod(axis=1)
    iou: NDArray[np.float64] = shared / (areas_a[:, None] + areas_b[None, :] - shared)
    return iou


def shared_areas(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) area that every box of one array has in common with every box of another.

    a: (n, 4), b: (m, 4), [x0, y0, x1, y1) in one unit of length.
    """
    # Side by side, not as one array of pairs: four times faster for a thousand boxes.
    width, height = (
        np.minimum.outer(a[:, 2 + axis], b[:, 2 + axis]) - np.maximum.outer(a[:, axis], b[:, axis])
        for axis in (0, 1)
    )
    areas: NDArray[np.float64] = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    return areas


@dataclass(frozen=True, slots=True)
class Polygon:
    """One or more rings of (x, y) pixels; what lies within any of them is inside. There are no holes.

    Raises InvalidRegion if there is no ring, a ring has fewer than 3 corners, or a coordinate is not
    finite or beyond ±1e8.
    """

    rings: tuple[tuple[tuple[float, float], ...], ...]

    def __post_init__(self) -> None:
        if not self.rings:
            raise InvalidRegion("polygon has no ring")
        for number, ring in enumerate(self.rings):
            if len(ring) < 3:
                raise InvalidRegion(f"polygon's ring {number} has {len(ring)} corners; at least 3 are needed")
            for x, y in ring:
                if not (abs(x) <= MAX_POLYGON_COORDINATE and abs(y) <= MAX_POLYGON_COORDINATE):
                    raise InvalidRegion(
                        f"polygon's corner ({x:g}, {y:g}) is not finite or beyond ±{MAX_POLYGON_COORDINATE:g}"
                    )

    def __str__(self) -> str:
        x0, y0, x1, y1 = self.extent()
        return f"[{x0:g}, {y0:g}, {x1:g}, {y1:g}]"

    def extent(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) of its corners, pixels; without width or height when they are in a line."""
        corners = np.array([corner for ring in self.rings for corner in ring], dtype=np.float64)
        x0, y0 = corners.min(axis=0)
        x1, y1 = corners.max(axis=0)
        return (float(x0), float(y0), float(x1), float(y1))


@dataclass(frozen=True, eq=False)
class Mask:
    """A binary mask of height × width pixels, run-length coded as COCO does (column-major).

    counts: (k,) uint32 (other integers are converted), lengths of the runs, the first of zeros. It is
    read-only, and brought into canonical form (no run of length 0 but the first), so that equal masks
    have equal counts.

    Raises InvalidRegion if the size is not positive, has 2**32 pixels or more, or is not the sum of
    the counts. A mask may be empty; only `box` refuses that.
    """

    height: int
    width: int
    counts: NDArray[np.uint32]

    def __post_init__(self) -> None:
        size = f"{self.width} × {self.height} pixels"
        if self.height < 1 or self.width < 1 or self.height * self.width > MAX_MASK_PIXELS:
            raise InvalidRegion(f"mask has {size}; from 1 to {MAX_MASK_PIXELS} can be coded")
        raw = np.asarray(self.counts)
        if raw.ndim != 1 or len(raw) == 0 or raw.dtype.kind not in "iu":
            raise InvalidRegion(f"mask's counts are not integers in a row: {raw.dtype} of shape {raw.shape}")
        if int(raw.min()) < 0 or int(raw.max()) > MAX_MASK_PIXELS:
            raise InvalidRegion(f"mask has a run of {raw.min()} or {raw.max()} pixels")
        total = int(raw.sum(dtype=np.uint64))
        if total != self.height * self.width:
            raise InvalidRegion(f"mask's runs add up to {total} pixels, but it has {size}")
        counts = run_length.canonical(raw).view()
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)

    @staticmethod
    def from_array(pixels: NDArray[np.bool_]) -> Mask:
        """From a dense mask, (height, width) bool; quickest when Fortran-ordered.

        Raises InvalidRegion for another shape, an empty one, or another dtype.
        """
        if pixels.ndim != 2 or pixels.size == 0 or pixels.dtype != np.bool_:
            raise InvalidRegion(f"mask is not a plane of bool: {pixels.dtype} of shape {pixels.shape}")
        height, width = pixels.shape
        return Mask(height, width, run_length.encode(pixels))

    @staticmethod
    def full(height: int, width: int) -> Mask:
        """Every pixel of the image."""
        return Mask(height, width, run_length.from_box(0, 0, width, height, height, width))

    @staticmethod
    def from_box(box: Box, height: int, width: int) -> Mask:
        """The pixels whose middle the box holds; of a box that holds none, the one it lies in.

        Raises InvalidRegion if the box lies outside the image.
        """
        within = box.clip(height, width)
        x0, x1 = _pixels_between(within.x0, within.x1)
        y0, y1 = _pixels_between(within.y0, within.y1)
        return Mask(height, width, run_length.from_box(x0, y0, x1, y1, height, width))

    @staticmethod
    def from_boxes(boxes: NDArray[np.floating], height: int, width: int) -> list[Mask]:
        """`from_box` of each, several times quicker.

        boxes: (n, 4), pixels, [x0, y0, x1, y1), none empty. Raises InvalidRegion if one reaches out of the
        image, or the image's size is not from 1 to 2**32 - 1 pixels.
        """
        Mask.full(height, width)  # raises for a size that no mask can have
        inside = (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        inside &= (boxes[:, 2:] <= (width, height)).all(axis=1)
        if not inside.all():
            first = boxes[int(np.argmin(inside))].tolist()
            raise InvalidRegion(f"box {first} is empty or not within the image of {width} × {height} pixels")
        edges = boxes.astype(np.float64)
        first_pixel = np.ceil(edges[:, :2] - 0.5)
        end_pixel = np.ceil(edges[:, 2:] - 0.5)
        under = np.minimum(np.floor((edges[:, :2] + edges[:, 2:]) / 2), np.ceil(edges[:, 2:]) - 1)
        holds_none = end_pixel <= first_pixel
        first_pixel = np.where(holds_none, under, first_pixel).astype(np.int64)
        end_pixel = np.where(holds_none, under + 1, end_pixel).astype(np.int64)
        masks = []
        for x0, y0, x1, y1 in np.concatenate([first_pixel, end_pixel], axis=1).tolist():
            counts = run_length.from_box(x0, y0, x1, y1, height, width)
            counts.setflags(write=False)
            # Runs made here need not be looked at again, which takes longer than making them.
            mask = object.__new__(Mask)
            for name, value in (("height", height), ("width", width), ("counts", counts)):
                object.__setattr__(mask, name, value)
            masks.append(mask)
        return masks

    @staticmethod
    def from_polygon(polygon: Polygon, height: int, width: int) -> Mask:
        """The polygon's inside, pixel for pixel what COCO's tools make of it.

        Raises InvalidRegion if it covers no pixel of the image, or crosses millions of columns.
        """
        rings = [np.array(ring, dtype=np.float64) for ring in polygon.rings]
        counts = run_length.union([run_length.from_ring(ring, height, width) for ring in rings])
        if run_length.area(counts) == 0:
            where = f"the image of {width} × {height} pixels"
            raise InvalidRegion(f"polygon within {polygon} covers no pixel of {where}")
        return Mask(height, width, counts)

    @staticmethod
    def from_coco(coded: Mapping[str, Any]) -> Mask:
        """From COCO's `{"size": [height, width], "counts": C}`, C the compressed string (or its bytes)
        or the list of counts.

        Raises InvalidRegion for anything else, or when size and counts disagree.
        """
        size, counts = coded.get("size"), coded.get("counts")
        if not (
            isinstance(size, list | tuple)
            and len(size) == 2
            and all(isinstance(side, int | np.integer) and not isinstance(side, bool) for side in size)
        ):
            raise InvalidRegion(f"run-length mask's size is not [height, width]: {size!r}")
        listed: NDArray[Any]
        if isinstance(counts, str | bytes):
            listed = run_length.decompress(counts)
        elif isinstance(counts, list | tuple | np.ndarray):
            try:
                listed = np.asarray(counts)
            except (ValueError, OverflowError) as error:
                raise InvalidRegion("run-length mask's counts are not integers in a row") from error
        else:
            raise InvalidRegion("run-length mask's counts are neither a string nor a list")
        return Mask(int(size[0]), int(size[1]), listed)

    def to_coco(self) -> dict[str, Any]:
        """`{"size": [height, width], "counts": compressed string}`, ready for JSON."""
        return {"size": [int(self.height), int(self.width)], "counts": run_length.compress(self.counts)}

    def to_array(self) -> NDArray[np.bool_]:
        """The dense mask, (height, width) bool, Fortran-ordered."""
        return run_length.decode(self.counts, self.height, self.width)

    @property
    def pixels(self) -> int:
        """How many pixels it holds."""
        return run_length.area(self.counts)

    @property
    def area(self) -> float:
        """Its pixels over the image's, 0 to 1."""
        return self.pixels / (self.height * self.width)

    def box(self) -> Box:
        """The tight box around it, pixels. Raises InvalidRegion if the mask is empty."""
        if len(self.counts) == 1:
            raise InvalidRegion(f"mask of {self.width} × {self.height} pixels is empty: it has no box")
        return Box(*run_length.bounds(self.counts, self.height))

    def contains_point(self, x: float, y: float) -> bool:
        """Whether (x, y), pixels, lies on it; never true outside the image."""
        if not (0 <= x < self.width and 0 <= y < self.height):
            return False
        return run_length.at(self.counts, math.floor(x) * self.height + math.floor(y))

    def resized(self, height: int, width: int) -> Mask:
        """The mask over height × width pixels, each taking the value under its middle. Thin things may
        vanish. Raises InvalidRegion if the new size is not positive."""
        if height < 1 or width < 1:
            raise InvalidRegion(f"mask cannot be resized to {width} × {height} pixels")
        rows = (2 * np.arange(height) + 1) * self.height // (2 * height)
        columns = (2 * np.arange(width) + 1) * self.width // (2 * width)
        return Mask.from_array(self.to_array()[:, columns][rows])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return (self.height, self.width) == (other.height, other.width) and np.array_equal(
            self.counts, other.counts
        )

    def __hash__(self) -> int:
        return hash((self.height, self.width, self.counts.tobytes()))


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks, 0 to 1, computed on their runs; 0 when both are empty.

    Raises InvalidRegion if they are of different sizes.
    """
    if (a.height, a.width) != (b.height, b.width):
        raise InvalidRegion(
            f"masks of {a.width} × {a.height} and {b.width} × {b.height} pixels cannot overlap"
        )
    return run_length.iou(a.counts, b.counts)


@dataclass(frozen=True, slots=True)
class RegionPrompt:
    """One region of a query: any points, and at most one of box, mask, polygon.

    Raises InvalidRegion if it has more than one of these, nothing at all, or only negative points.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: Mask | None = None
    polygon: Polygon | None = None

    def __post_init__(self) -> None:
        outlines = {"box": self.box, "mask": self.mask, "polygon": self.polygon}
        given = [name for name, outline in outlines.items() if outline is not None]
        if len(given) > 1:
            raise InvalidRegion(f"one region has a {' and a '.join(given)}; it can have one of them")
        if not given and not self.points:
            raise InvalidRegion("region is empty: it has no point, box, mask or polygon")
        if not given and not any(point.positive for point in self.points):
            raise InvalidRegion("region has only negative points: none says what is meant")


def denormalise(prompt: RegionPrompt, height: int, width: int) -> RegionPrompt:
    """A prompt in fractions of the image's width and height, as pixels of height × width.

    A mask has pixels of its own and stays as it is. Raises InvalidRegion if a coordinate is outside
    0 to 1: such a prompt was likely meant in pixels, and clipping would hide that.
    """

    def scaled(fraction: float, side: int, what: str) -> float:
        if not 0 <= fraction <= 1 + _NORMALISED_SLACK:
            raise InvalidRegion(f"{what} is tagged as normalised, but has a coordinate of {fraction:g}")
        return min(fraction, 1.0) * side

    points = tuple(
        Point(scaled(p.x, width, f"point {p}"), scaled(p.y, height, f"point {p}"), p.positive)
        for p in prompt.points
    )
    box, polygon = prompt.box, prompt.polygon
    if box is not None:
        what = f"box {box}"
        box = Box(
            scaled(box.x0, width, what),
            scaled(box.y0, height, what),
            scaled(box.x1, width, what),
            scaled(box.y1, height, what),
        )
    if polygon is not None:
        polygon = Polygon(
            tuple(
                tuple((scaled(x, width, "polygon"), scaled(y, height, "polygon")) for x, y in ring)
                for ring in polygon.rings
            )
        )
    return replace(prompt, points=points, box=box, polygon=polygon)


def validate_within(prompt: RegionPrompt, height: int, width: int) -> RegionPrompt:
    """The prompt, if it lies in an image of height × width pixels, its box clipped to the image.

    Raises InvalidRegion, naming the part, its coordinates and the image's size, for a point outside
    the image, a box or polygon wholly outside it, or a mask that is empty or of another size.
    """
    image = f"the image of {width} × {height} pixels"
    for point in prompt.points:
        if not (0 <= point.x < width and 0 <= point.y < height):
            raise InvalidRegion(f"point {point} lies outside {image}")
    if prompt.mask is not None:
        mask = prompt.mask
        if (mask.height, mask.width) != (height, width):
            raise InvalidRegion(f"mask of {mask.width} × {mask.height} pixels does not fit {image}")
        if mask.pixels == 0:
            raise InvalidRegion(f"mask of {mask.width} × {mask.height} pixels is empty")
    if prompt.polygon is not None:
        x0, y0, x1, y1 = prompt.polygon.extent()
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            raise InvalidRegion(f"polygon within {prompt.polygon} lies outside {image}")
    if prompt.box is None:
        return prompt
    return replace(prompt, box=prompt.box.clip(height, width))


def _pixels_between(start: float, end: float) -> tuple[int, int]:
    """The pixels [first, last) along one axis whose middles lie in [start, end); at least one."""
    first, last = math.ceil(start - 0.5), math.ceil(end - 0.5)
    if last > first:
        return first, last
    under = min(math.floor((start + end) / 2), math.ceil(end) - 1)
    return under, under + 1
