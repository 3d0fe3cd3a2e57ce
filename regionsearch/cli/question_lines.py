"""Questions from a file of JSON lines, as `search --batch` reads it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from regionsearch.cli.arguments import example
from regionsearch.cli.pointed_parts import PLACEMENT_OPTIONS
from regionsearch.cli.question import ExampleOf, Question, QuestionRegion, read_mask
from regionsearch.errors import InvalidRequest
from regionsearch.regions import FRAME_PARTS, Box, Mask, Point, Polygon, RegionPrompt

REGION_KEYS = ("box", "points", "mask", "polygon", "refine", "normalised", "placement")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, text) of every line that is not blank. Raises InvalidRequest when there is none."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidRequest(f"cannot read the questions in {str(path)!r}: {why}", field="batch") from error
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
        field, read = _READERS[key]
        try:
            taken = read(value)
        except _WrongValueError as wrong:
            raise InvalidRequest(
                f"{key}{wrong.within} is {wrong.value!r:.100}; it must be {wrong.expected}",
                field=key + wrong.within,
            ) from wrong
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


class _WrongValueError(Exception):
    """A value that is not what it must be. within: where it stands below its key, such as `[0].box`."""

    def __init__(self, value: Any, expected: str, within: str = "") -> None:
        super().__init__(expected)
        self.value, self.expected, self.within = value, expected, within


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Puts the place before where a wrong value stands."""
    try:
        yield
    except _WrongValueError as wrong:
        wrong.within = place + wrong.within
        raise


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _WrongValueError(value, "text")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _WrongValueError(value, "a whole number")
    return value


def _number(value: Any) -> float:
    if not _is_number(value):
        raise _WrongValueError(value, "a number")
    return float(value)


def _is_number(value: Any) -> bool:
    """Whether it is one that a float holds: JSON's own have no end."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongValueError(value, "true or false")
    return value


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _list(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _WrongValueError(value, "a list")
        taken = []
        for place, one in enumerate(value):
            with _within(f"[{place}]"):
                taken.append(read(one))
        return tuple(taken)

    return read_all


def _object(value: Any, keys: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not set(value) <= set(keys):
        raise _WrongValueError(value, f"an object with keys of {', '.join(keys)}")
    return value


def _member(said: Mapping[str, Any], key: str, read: Callable[[Any], Any], absent: Any = None) -> Any:
    """What a key of an object says, `absent` when it is not there."""
    if key not in said:
        return absent
    with _within(f".{key}"):
        return read(said[key])


def _example(value: Any) -> ExampleOf:
    if isinstance(value, str):
        return example(value)
    if not isinstance(value, dict) or not {"image_id"} <= set(value) <= {"image_id", "entity"}:
        raise _WrongValueError(value, "an id, or an object with image_id and perhaps entity")
    return _member(value, "image_id", _text), _member(value, "entity", _optional(_whole))


def _weights(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise _WrongValueError(value, "an object of numbers by part")
    return {name: _member(value, name, _number) for name in value}


def _numbers(value: Any, counts: Sequence[int], form: str) -> list[float]:
    """So many finite numbers. form: what is said when they are not."""
    if not isinstance(value, list) or len(value) not in counts or not all(map(_is_number, value)):
        raise _WrongValueError(value, form)
    return [float(number) for number in value]


def _box(value: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = _numbers(value, (4,), "[x0, y0, x1, y1]")
    return x0, y0, x1, y1


def _point(value: Any) -> Point:
    form = "a point: [x, y], or [x, y, 1] on the thing and [x, y, 0] beside it"
    x, y, *positive = _numbers(value, (2, 3), form)
    if positive not in ([], [0], [1]):
        raise _WrongValueError(value, form)
    return Point(x, y, positive != [0])


def _corner(value: Any) -> tuple[float, float]:
    x, y = _numbers(value, (2,), "a corner: [x, y]")
    return x, y


def _mask(value: Any) -> Mask:
    return read_mask(Path(value)) if isinstance(value, str) else Mask.from_coco(_object(value, _RUN_LENGTH))


def _frame_part(value: Any) -> str:
    if value not in FRAME_PARTS:
        raise _WrongValueError(value, f"a part of the frame: {', '.join(FRAME_PARTS)}")
    return _text(value)


_RUN_LENGTH = ("size", "counts")
_PLACEMENT: Mapping[str, Callable[[Any], Any]] = {
    "part": _frame_part,
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
    said = _object(value, tuple(_PLACEMENT))
    return {key: _member(said, key, _PLACEMENT[key]) for key in said}


def _region(value: Any) -> tuple[QuestionRegion, Mapping[str, Any]]:
    said = _object(value, REGION_KEYS)
    prompt = RegionPrompt(
        _member(said, "points", _list(_point), ()),
        _member(said, "box", lambda box: Box(*_box(box))),
        _member(said, "mask", _mask),
        _member(said, "polygon", lambda polygon: Polygon(_rings(polygon))),
    )
    normalised, refine = _member(said, "normalised", _flag, False), _member(said, "refine", _flag, False)
    return QuestionRegion(prompt, normalised, refine), _member(said, "placement", _placement, {})


def _rings(value: Any) -> tuple[tuple[tuple[float, float], ...], ...]:
    """The corners of one ring, as pairs or (as --polygon has them) one after the other; or several rings."""
    if not isinstance(value, list) or not value:
        raise _WrongValueError(
            value, "an outline: [[x, y], ...], or [x0, y0, x1, y1, ...], or a list of such rings"
        )
    if all(map(_is_number, value)):
        return (_ring(value),)
    first = value[0]
    if isinstance(first, list) and first and (isinstance(first[0], list) or len(first) > 2):
        return _list(_ring)(value)
    return (_ring(value),)


def _ring(value: Any) -> tuple[tuple[float, float], ...]:
    if isinstance(value, list) and value and all(map(_is_number, value)):
        if len(value) < 6 or len(value) % 2:
            raise _WrongValueError(
                value, "three corners or more, x and y of each: [x0, y0, x1, y1, x2, y2, ...]"
            )
        return tuple(zip(map(float, value[::2]), map(float, value[1::2]), strict=True))
    return _list(_corner)(value)


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
    "where": ("where", _text),
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
