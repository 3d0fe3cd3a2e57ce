"""Questions from a file of JSON lines, as `search --batch` reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from regionsearch.cli.arguments import example
from regionsearch.cli.pointed_parts import PLACEMENT_OPTIONS
from regionsearch.cli.question import ExampleOf, Question, QuestionRegion, read_mask
from regionsearch.errors import InvalidRequest
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt

REGION_KEYS = ("box", "points", "mask", "polygon", "refine", "normalised", "placement")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of every line that is not blank. Raises InvalidRequest when there is none."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"cannot read the questions in {str(path)!r}: {error}", field="batch") from error
    # Not splitlines(): a question may hold a line separator that JSON allows inside a text.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise InvalidRequest(f"{str(path)!r} holds no question", field="batch")
    return lines


def question_from_line(line: str, usual: Question) -> Question:
    """The question of one line; what it does not say is taken from `usual`, the command line's.

    Raises InvalidRequest that names the key, InvalidRegion and InvalidImage.
    """
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"not JSON: {error}", field="batch") from error
    if not isinstance(said, dict):
        raise InvalidRequest("not a JSON object", field="batch")
    unknown = [key for key in said if key not in _READERS]
    if unknown:
        raise InvalidRequest(
            f"there is no key {unknown[0]!r}; there are: {', '.join(_READERS)}", field="batch"
        )
    found: dict[str, Any] = {}
    for key, value in said.items():
        try:
            field, read = _READERS[key]
            taken = read(value)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise InvalidRequest(f"{key} cannot be {value!r:.100}", field=key) from error
        if field in found:
            raise InvalidRequest("give entity or entities, not both", field=key)
        found[field] = taken
    if "regions" in found:
        regions = found.pop("regions")
        placements = tuple(placement for _, placement in regions)
        found["regions"] = tuple(region for region, _ in regions)
        if any(placements):
            if "placements" in found:
                raise InvalidRequest(
                    "give placements beside the regions or within them, not both", field="placements"
                )
            found["placements"] = placements
    return replace(usual, **found)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _list(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError
        return tuple(map(read, value))

    return read_all


def _object(value: Any, keys: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not set(value) <= set(keys):
        raise TypeError
    return value


def _example(value: Any) -> ExampleOf:
    if isinstance(value, str):
        return example(value)
    said = _object(value, ("image_id", "entity"))
    return _text(said["image_id"]), _optional(_whole)(said.get("entity"))


def _weights(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TypeError
    return {name: _number(weight) for name, weight in value.items()}


def _box(value: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = _list(_number)(value)
    return x0, y0, x1, y1


def _point(value: Any) -> Point:
    x, y, *positive = _list(_number)(value)
    if positive not in ([], [0], [1]):
        raise ValueError
    return Point(x, y, positive != [0])


def _ring(value: Any) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in _list(_list(_number))(value))


def _mask(value: Any) -> Mask:
    return read_mask(Path(value)) if isinstance(value, str) else Mask.from_coco(_object(value, _RUN_LENGTH))


_RUN_LENGTH = ("size", "counts")
_PLACEMENT: Mapping[str, Callable[[Any], Any]] = {
    "part": _text,
    "box": _box,
    "tolerance": _number,
    "min_area": _number,
    "max_area": _number,
    "label": _text,
    "min_count": _whole,
    "max_count": _whole,
    "strict": _flag,
}
assert _PLACEMENT.keys() == PLACEMENT_OPTIONS.keys()


def _placement(value: Any) -> Mapping[str, Any]:
    return {key: _PLACEMENT[key](one) for key, one in _object(value, tuple(_PLACEMENT)).items()}


def _region(value: Any) -> tuple[QuestionRegion, Mapping[str, Any]]:
    said = _object(value, REGION_KEYS)
    prompt = RegionPrompt(
        _list(_point)(said.get("points", [])),
        Box(*_box(said["box"])) if "box" in said else None,
        _mask(said["mask"]) if "mask" in said else None,
        Polygon(_rings(said["polygon"])) if "polygon" in said else None,
    )
    region = QuestionRegion(prompt, _flag(said.get("normalised", False)), _flag(said.get("refine", False)))
    return region, _placement(said.get("placement", {}))


def _rings(value: Any) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Corners of one ring, or several rings."""
    several = isinstance(value, list) and value and isinstance(value[0], list) and value[0]
    if several and isinstance(value[0][0], list):
        return _list(_ring)(value)
    return (_ring(value),)


_READERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "image": ("image", lambda value: Path(_text(value))),
    "image_id": ("image_id", _text),
    "entity": ("entities", lambda value: (_whole(value),)),
    "entities": ("entities", _list(_whole)),
    "regions": ("regions", _list(_region)),
    "text": ("text", _text),
    "vector": ("vector", _list(_number)),
    "liked": ("liked", _list(_example)),
    "disliked": ("disliked", _list(_example)),
    "placements": ("placements", _list(_placement)),
    "limit": ("limit", _whole),
    "page_token": ("page_token", _text),
    "weights": ("weights", _weights),
    "per_kind_weights": ("per_kind_weights", _flag),
    "group_by": ("group_by", _text),
    "min_score": ("min_score", _number),
    "candidates": ("candidates", _whole),
    "preset": ("preset", _text),
    "all_entities": ("all_entities", _whole),
    "include_self": ("include_self", _flag),
    "rerank": ("rerank", _text),
    "rerank_top": ("rerank_top", _whole),
    "rerank_weight": ("rerank_weight", _number),
}
"""By key: the field of Question that it fills, and what reads its value."""
