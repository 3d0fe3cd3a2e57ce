"""What a caller points at, as messages of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from pathlib import Path

import numpy as np

from regionsearch.client.plain_values import listed, numbers_in, truth
from regionsearch.client.query import BoxLike, MaskLike, PointLike, PolygonLike, Query, Region, RegionLike
from regionsearch.errors import InvalidImage, InvalidRegion, InvalidRequest
from regionsearch.protobuf_shapes import at_field, prompt_to_message
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt
from regionsearch.v1 import types_pb2


def regions_of(query: Query) -> list[types_pb2.Region]:
    """The query's regions: those of the list, or the single one in whichever way it is said.

    Raises InvalidRegion, InvalidImage and InvalidRequest, naming the field.
    """
    points = listed(query.points, "points")
    single = Region(
        box=query.box,
        points=points,
        mask=query.mask,
        polygon=query.polygon,
        normalised=query.normalised,
        refine=query.refine,
    )
    pointed = len(points) > 0 or any(shape is not None for shape in (query.box, query.mask, query.polygon))
    if query.region is not None and pointed:
        raise InvalidRegion("give a region, or points and a shape, not both", field="region")
    if regions := listed(query.regions, "regions"):
        if pointed or query.region is not None:
            raise InvalidRegion("give regions, or a single region by itself, not both", field="regions")
        _refuse(query, "belongs into each of the regions")
        return _listed(regions)
    if query.region is not None:
        if not isinstance(query.region, RegionPrompt):
            raise InvalidRegion(
                f"region is a {type(query.region).__name__}; it must be a RegionPrompt (regions takes both)",
                field="region",
            )
        normalised, refine = truth(query.normalised, "normalised"), truth(query.refine, "refine")
        return [prompt_to_message(query.region, normalised=normalised, refine=refine)]
    if pointed:
        return [_region(single)]
    _refuse(query, "needs a region")
    return []


def _refuse(query: Query, why: str) -> None:
    """Raises InvalidRequest for what is said of a single region where there is none."""
    for field, said in (("normalised", query.normalised), ("refine", query.refine)):
        if said:
            raise InvalidRequest(f"{field} {why}", field=field)


def _listed(regions: Sequence[RegionLike]) -> list[types_pb2.Region]:
    messages = []
    for place, region in enumerate(regions):
        with at_field(f"regions[{place}]"):
            messages.append(_listed_region(region))
    return messages


def _listed_region(region: RegionLike) -> types_pb2.Region:
    if isinstance(region, RegionPrompt):
        return prompt_to_message(region)
    if isinstance(region, Region):
        return _region(region)
    raise InvalidRegion(f"a {type(region).__name__} is no region: give a Region or a RegionPrompt")


def _region(said: Region) -> types_pb2.Region:
    normalised, refine = truth(said.normalised, "normalised"), truth(said.refine, "refine")
    png = _png_of(said.mask)
    points = tuple(point_of(point) for point in listed(said.points, "points"))
    if png is None:
        prompt = RegionPrompt(
            points,
            None if said.box is None else box_of(said.box),
            _mask_of(said.mask),
            None if said.polygon is None else polygon_of(said.polygon),
        )
        return prompt_to_message(prompt, normalised=normalised, refine=refine)
    if said.box is not None or said.polygon is not None:
        raise InvalidRegion("one region can have one of box, mask and polygon", field="mask")
    return types_pb2.Region(
        points=[types_pb2.Point(x=point.x, y=point.y, negative=not point.positive) for point in points],
        mask=types_pb2.Mask(png=png),
        coordinates=(
            types_pb2.COORDINATE_SPACE_NORMALISED if normalised else types_pb2.COORDINATE_SPACE_PIXELS
        ),
        refine=refine,
    )


def box_of(box: BoxLike) -> Box:
    """Raises InvalidRegion unless it is four finite numbers, not empty."""
    if isinstance(box, Box):
        return box
    with numbers_in("box"):
        numbers = [float(value) for value in box]
    if len(numbers) != 4:
        raise InvalidRegion(f"a box has 4 numbers (x0, y0, x1, y1), not {len(numbers)}", field="box")
    return Box(*numbers)


def point_of(point: PointLike) -> Point:
    """Raises InvalidRegion unless it is x, y and perhaps 1 or 0."""
    if isinstance(point, Point):
        return point
    with numbers_in("points"):
        numbers = [float(value) for value in point]
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] not in (0, 1)):
        raise InvalidRegion(f"a point is x, y and perhaps 1 or 0, not {tuple(point)}", field="points")
    return Point(numbers[0], numbers[1], positive=len(numbers) == 2 or numbers[2] == 1)


def polygon_of(polygon: PolygonLike) -> Polygon:
    """Raises InvalidRegion unless it is corners of two numbers, in pairs or one after the other."""
    if isinstance(polygon, Polygon):
        return polygon
    said = listed(polygon, "polygon")
    with numbers_in("polygon"):
        if said and all(isinstance(value, Real) for value in said):
            corners = [tuple(map(float, said[start : start + 2])) for start in range(0, len(said), 2)]
        else:
            corners = [tuple(float(value) for value in corner) for corner in said]
    if any(len(corner) != 2 for corner in corners):
        raise InvalidRegion(
            "a polygon is corners [(x, y), ...] or their numbers in turn [x0, y0, x1, y1, ...]; several "
            "rings are a regionsearch.Polygon",
            field="polygon",
        )
    return Polygon((tuple((corner[0], corner[1]) for corner in corners),))


def _png_of(mask: MaskLike | None) -> bytes | None:
    if isinstance(mask, bytes):
        return mask
    if isinstance(mask, str | Path):
        try:
            return Path(mask).read_bytes()
        except OSError as error:
            raise InvalidImage(f"cannot read {str(mask)!r}: {error.strerror}", field="mask") from error
    return None


def _mask_of(mask: MaskLike | None) -> Mask | None:
    if mask is None or isinstance(mask, Mask):
        return mask
    with at_field("mask"):
        return Mask.from_array(np.asarray(mask))
