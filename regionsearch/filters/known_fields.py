"""The fields that every entity and every image has, and what they may be compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FieldType = Literal["text", "whole", "fraction", "time"]
"""whole: an integer. fraction: a float32, 0 to 1 as a rule, compared in single precision."""


@dataclass(frozen=True, slots=True)
class KnownField:
    """one_of: all the texts that it can be; empty when it can be any."""

    type: FieldType
    meaning: str
    one_of: tuple[str, ...] = ()


ENTITY_FIELDS: dict[str, KnownField] = {
    "label": KnownField("text", "missing when it has none"),
    "label_source": KnownField("text", "missing when it has no label", ("given", "predicted")),
    "area": KnownField("fraction", "mask pixels over image pixels"),
    "box_area": KnownField("fraction", "box pixels over image pixels"),
    "objectness": KnownField("fraction", "how much like a thing of its own"),
    "index": KnownField("whole", "ordinal in its image, from 0"),
    "x": KnownField("fraction", "middle of the box, from the left edge"),
    "y": KnownField("fraction", "middle of the box, from the top edge"),
    "left": KnownField("fraction", "of the box"),
    "top": KnownField("fraction", "of the box"),
    "right": KnownField("fraction", "of the box"),
    "bottom": KnownField("fraction", "of the box"),
}
IMAGE_FIELDS: dict[str, KnownField] = {
    "id": KnownField("text", "as the caller gave it"),
    "width": KnownField("whole", "pixels of the upright image"),
    "height": KnownField("whole", "pixels of the upright image"),
    "entities": KnownField("whole", "how many it has"),
    "version": KnownField("whole", "counts its writes from 1"),
    "updated": KnownField("time", "of its last write"),
    "content_hash": KnownField("text", "sha256 in hexadecimal; missing when its bytes are not known"),
}
