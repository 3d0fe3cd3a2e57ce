"""Regions of a picture: points, boxes, masks and polygons. Pure functions, no IO.

Coordinates are pixels of the upright image (after EXIF orientation), origin top left, boxes half open.
INTERFACE SKETCH: the owner of this module completes it; names and signatures below stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRegion


@dataclass(frozen=True, slots=True)
class Point:
    """A click at (x, y) pixels; positive: it is on the thing, negative: it is not."""

    x: float
    y: float
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Box:
    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.x0, self.y0, self.x1, self.y1))):
            raise InvalidRegion(f"box has a coordinate that is not finite: {self}")
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise InvalidRegion(f"box is empty: {self}")

    def as_tuple(self) -> tuple[float, float, float, float]:
        return (self.x0, self.y0, self.x1, self.y1)


@dataclass(frozen=True, slots=True)
class Polygon:
    """One or more rings of (x, y) pixels; each ring has at least 3 corners."""

    rings: tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True, eq=False)
class Mask:
    """A binary mask of height × width pixels, run-length coded as COCO does (column-major)."""

    height: int
    width: int
    counts: NDArray[np.uint32]

    @staticmethod
    def from_array(pixels: NDArray[np.bool_]) -> Mask: raise NotImplementedError
    @staticmethod
    def full(height: int, width: int) -> Mask: raise NotImplementedError
    @staticmethod
    def from_box(box: Box, height: int, width: int) -> Mask: raise NotImplementedError
    @staticmethod
    def from_polygon(polygon: Polygon, height: int, width: int) -> Mask: raise NotImplementedError
    @staticmethod
    def from_coco(coded: dict[str, Any]) -> Mask: raise NotImplementedError
    def to_coco(self) -> dict[str, Any]: raise NotImplementedError
    def to_array(self) -> NDArray[np.bool_]: raise NotImplementedError
    @property
    def pixels(self) -> int: raise NotImplementedError
    @property
    def area(self) -> float: raise NotImplementedError
    def box(self) -> Box: raise NotImplementedError


@dataclass(frozen=True, slots=True)
class RegionPrompt:
    """One region of a query: any points, and at most one of box, mask, polygon."""

    points: tuple[Point, ...] = ()
    box: Box | None = None
    mask: Mask | None = None
    polygon: Polygon | None = None
