"""Payloads of photos, from a file: a JSON object by id, or one line for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from regionsearch.collection.validation import check_image_id, check_payload
from regionsearch.errors import InvalidRecord, InvalidRequest

Payloads: TypeAlias = "Mapping[str, Mapping[str, Any]]"
"""By image id."""

_KEYS = {"image_id", "payload"}


def read_payloads(path: Path) -> Payloads:
    """The payloads in a file of UTF-8: lines `{"image_id": "2024/a.jpg", "payload": {...}}`, or one object
    `{"2024/a.jpg": {...}, ...}`. Blank lines count for nothing.

    Raises InvalidRequest, naming the line (or, in an object, the id), when it cannot be read, is of neither
    form, names an image twice, or has a payload that cannot be stored: nothing is taken then.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidRequest(f"cannot read {str(path)!r}: {error.strerror}", field="payloads") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{str(path)!r} is not UTF-8: {error.reason}", field="payloads") from error
    # Not splitlines(): JSON may hold U+2028 and its like inside of its texts.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        return {}
    number, first = lines[0]
    try:
        opening = _parsed(first)
    except ValueError as error:
        # No line of its own: an object over several lines, unless it is the only line, or the text no JSON.
        if len(lines) > 1 and first.strip() == "{":
            return _of_object(path, text)
        _refuse(path, f"line {number}", f"is not JSON: {error}")
    if len(lines) == 1 and not (isinstance(opening, dict) and isinstance(opening.get("image_id"), str)):
        return _of_object(path, text)
    return _of_lines(path, lines)


def _of_lines(path: Path, lines: list[tuple[int, str]]) -> Payloads:
    payloads: dict[str, Mapping[str, Any]] = {}
    for number, line in lines:
        place = f"line {number}"
        try:
            said = _parsed(line)
        except ValueError as error:
            _refuse(path, place, f"is not JSON: {error}")
        if not isinstance(said, dict) or set(said) != _KEYS or not isinstance(said["image_id"], str):
            _refuse(path, place, 'is not {"image_id": "...", "payload": {...}}')
        if said["image_id"] in payloads:
            _refuse(path, place, f"names image {said['image_id']!r:.600} a second time")
        payloads[said["image_id"]] = _checked(path, place, said["image_id"], said["payload"])
    return payloads


def _of_object(path: Path, text: str) -> Payloads:
    try:
        said = _parsed(text)
    except json.JSONDecodeError as error:
        _refuse(path, f"line {error.lineno}", f"is not JSON: {error}")
    except ValueError as error:
        _refuse(path, "the object", f"is not JSON: {error}")
    if not isinstance(said, dict):
        _refuse(path, "the file", f"is a JSON {type(said).__name__}, neither an object by image id nor lines")
    return {each: _checked(path, f"id {each!r:.600}", each, payload) for each, payload in said.items()}


def _checked(path: Path, place: str, image_id: str, payload: Any) -> Mapping[str, Any]:
    try:
        check_image_id(image_id)
        check_payload(image_id, payload)
    except InvalidRecord as error:
        _refuse(path, place, f"cannot be stored: {error.message}")
    return dict(payload)


def _parsed(text: str) -> Any:
    """Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _refuse(path: Path, place: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{str(path)!r}: {place} {why}", field="payloads")
