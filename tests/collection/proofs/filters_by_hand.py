"""Filters, each beside a plain function that says what it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from regionsearch.collection import ImageRecord

Meaning = Callable[[ImageRecord, int], bool]
"""Of a record and the ordinal of one of its entities."""


@dataclass(frozen=True)
class Filter:
    text: str
    means: Meaning


def random_filter(random: np.random.Generator, serial: int) -> Filter:
    """serial: of an image that may be there, for filters that leave one image or one entity."""
    kind = int(random.integers(7))
    if kind == 0:
        return Filter(f"payload.serial = {serial}", lambda image, _: image.payload["serial"] == serial)
    if kind == 1:
        return Filter(
            f"payload.serial = {serial} AND entity.index = 0",
            lambda image, entity: image.payload["serial"] == serial and entity == 0,
        )
    one = _condition(random)
    if kind == 2:
        return one
    other = _condition(random)
    if kind == 3:
        return Filter(
            f"({one.text}) AND ({other.text})",
            lambda image, entity: one.means(image, entity) and other.means(image, entity),
        )
    if kind == 4:
        return Filter(
            f"({one.text}) OR ({other.text})",
            lambda image, entity: one.means(image, entity) or other.means(image, entity),
        )
    if kind == 5:
        return Filter(f"NOT ({one.text})", lambda image, entity: not one.means(image, entity))
    return Filter(
        f"({one.text}) AND NOT ({other.text})",
        lambda image, entity: one.means(image, entity) and not other.means(image, entity),
    )


def _condition(random: np.random.Generator) -> Filter:
    kind = int(random.integers(9))
    year = int(random.integers(1988, 2032))
    if kind == 0:
        return Filter(f"payload.year >= {year}", lambda image, _: image.payload["year"] >= year)
    if kind == 1:
        chosen = [year, year + 3, year + 9]
        return Filter(
            f"payload.year IN ({', '.join(map(str, chosen))})",
            lambda image, _: image.payload["year"] in chosen,
        )
    if kind == 2:
        return Filter(
            'payload.place = "Zü*"', lambda image, _: image.payload.get("place", "").startswith("Zü")
        )
    if kind == 3:
        return Filter("payload.place:*", lambda image, _: "place" in image.payload)
    if kind == 4:
        return Filter('payload.tags:"red"', lambda image, _: "red" in image.payload["tags"])
    if kind == 5:
        flag = bool(random.integers(2))
        return Filter(
            f"payload.outdoors = {str(flag).lower()}", lambda image, _: image.payload.get("outdoors") is flag
        )
    if kind == 6:
        label = ("dog", "Straße")[random.integers(2)]
        return Filter(
            f'entity.label = "{label}"', lambda image, entity: image.entities.labels[entity] == label
        )
    bound = float(np.float32(random.choice([0.001, 0.005, 0.01, 0.02])))
    if kind == 7:
        return Filter(
            f"entity.area > {bound!r}", lambda image, entity: float(image.entities.areas[entity]) > bound
        )
    least = float(np.float32(random.random()))
    return Filter(
        f"entity.objectness < {least!r}",
        lambda image, entity: float(image.entities.objectness[entity]) < least,
    )


def random_payload(random: np.random.Generator, serial: int) -> dict[str, object]:
    payload: dict[str, object] = {
        "serial": serial,
        "year": int(random.integers(1990, 2030)),
        "tags": random.choice(["red", "green", "blü"], size=random.integers(0, 3)).tolist(),
    }
    if random.random() < 0.7:
        payload["place"] = ("Zürich", "Zug", "Züssow", "Bern")[random.integers(4)]
    if random.random() < 0.5:
        payload["outdoors"] = bool(random.integers(2))
    return payload
