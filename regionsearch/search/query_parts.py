"""What a query consists of: its kind, its signals, and how many entities it is matched to."""

from __future__ import annotations

from regionsearch.search.agreement import is_about_place
from regionsearch.search.calibration import QueryKind
from regionsearch.search.counting import counts_softly
from regionsearch.search.query import Query


def has_image(query: Query) -> bool:
    """Whether a picture comes with it."""
    return query.image is not None or query.encoded_image is not None


def has_pixels(query: Query) -> bool:
    """Whether it asks with a picture, its own or an indexed one."""
    return has_image(query) or query.image_id is not None


def has_pixel_signals(query: Query) -> bool:
    """Whether entities and images are compared with something seen: a picture, liked examples, a vector."""
    return has_pixels(query) or query.vector is not None or bool(query.liked)


def needs_models(query: Query) -> bool:
    """Whether something of it has to be embedded: indexed images, examples and vectors have been."""
    return has_image(query) or query.text is not None or query.rerank is not None


def kind_of(query: Query) -> QueryKind:
    if not has_pixel_signals(query):
        return "words"
    return "pixels" if query.text is None else "both"


def matches_of(query: Query) -> int:
    """How many entities of an image it is matched to: one for each region or entity, one without."""
    return max(1, len(query.regions), len(query.entities))


def parts_of(query: Query) -> tuple[str, ...]:
    """Which signals a query has: pixels bring `entity` and `global`, words the two text signals, a wanted
    place, size or number that is no condition `placement`; `objectness` is always there."""
    parts: tuple[str, ...] = ("entity", "global") if has_pixel_signals(query) else ()
    if query.text is not None:
        parts += ("text_entity", "text_image")
    if any(is_about_place(placement) or counts_softly(placement) for placement in query.placements):
        parts += ("placement",)
    return (*parts, "objectness")
