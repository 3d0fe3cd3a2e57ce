"""The exact words that VIRTUE reads: those of its training, its example and its demo.

The model was trained on whole strings, so each of them is a part of the model as its weights are: all
that are used at indexing and for queries are part of the fingerprint. `{text}` is what the user says,
`{region}` the region in words.
"""

from __future__ import annotations

from collections.abc import Mapping

from regionsearch.models.qwen2_vl.words import IMAGE_PAD
from regionsearch.regions import Box, Point, RegionPrompt

SEGMENTED_OBJECT = (
    "Find the caption that best describes the segmented object, considering both local details and global "
    "context in the given image."
)
"""The instruction of SCaR, VIRTUE's own training task: a region, described in its scene."""

TEMPLATES: Mapping[str, str] = {
    # At indexing. The image: what the demo gives its gallery (MMEB's own words for an image to be
    # found). An entity: the region side of SCaR, whose other side are bare captions.
    "image": f"{IMAGE_PAD}\nRepresent the given image.\n",
    "entity": f"{IMAGE_PAD}\n{SEGMENTED_OBJECT}\n{{region}}",
    # Queries. The demo's words for pictures; for regions SCaR's again, with the user's instruction in
    # place of its own.
    "query_image": f"{IMAGE_PAD}\nRetrieve an image similar to the given image.\n",
    "query_image_with_text": f"{IMAGE_PAD}\nRetrieve an image that matches: {{text}}\n",
    "query_region": f"{IMAGE_PAD}\n{SEGMENTED_OBJECT}\n{{region}}",
    "query_region_with_text": f"{IMAGE_PAD}\n{{text}}\n{{region}}",
    # Captions were trained, and are judged, bare.
    "query_text": "{text}",
    # How a region is said: boxes as SCaR's training has them (a Python list), points as the example.
    "region_box": "Referring object bbox: [{x0}, {y0}, {x1}, {y1}]",
    "region_point": "Referring object point: ({x}, {y})",
}
"""By name. Numbers of a region are pixels of the upright image, before any resizing."""


def image_words() -> str:
    """What is read beside an image at indexing."""
    return TEMPLATES["image"]


def entity_words(box: Box) -> str:
    """What is read beside an image for one of its entities, at indexing."""
    return TEMPLATES["entity"].format(region=box_words(box))


def query_image_words(text: str | None) -> str:
    """What is read beside a query's picture as a whole."""
    if text is None:
        return TEMPLATES["query_image"]
    return TEMPLATES["query_image_with_text"].format(text=text)


def query_region_words(region: RegionPrompt, text: str | None) -> str:
    """What is read beside a query's picture for its region, which has to be one that `sam_prompt` takes."""
    said = region_words(region)
    if text is None:
        return TEMPLATES["query_region"].format(region=said)
    return TEMPLATES["query_region_with_text"].format(text=text, region=said)


def query_text_words(text: str) -> str:
    """What is read for words alone."""
    return TEMPLATES["query_text"].format(text=text)


def region_words(region: RegionPrompt) -> str:
    """A point as a point, everything else as the box around it."""
    if region.box is not None:
        return box_words(region.box)
    if region.mask is not None:
        return box_words(region.mask.box())
    if region.polygon is not None:
        return box_words(Box(*region.polygon.extent()))
    return point_words(region.points[0])


def box_words(box: Box) -> str:
    """Numbers are written with two decimals at most, whole ones with none."""
    x0, y0, x1, y1 = (_number(value) for value in box.as_tuple())
    return TEMPLATES["region_box"].format(x0=x0, y0=y0, x1=x1, y1=y1)


def point_words(point: Point) -> str:
    """Whole pixels, cut off as the example does."""
    return TEMPLATES["region_point"].format(x=int(point.x), y=int(point.y))


def _number(value: float) -> str:
    rounded = round(value, 2)
    return str(int(rounded)) if rounded.is_integer() else repr(rounded)
