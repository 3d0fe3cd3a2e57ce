"""Judgements of a user's own: what was asked of a collection, and which images answer it well or badly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection
from regionsearch.config import Limits
from regionsearch.errors import ImageNotFound, InvalidRequest
from regionsearch.regions import Box, RegionPrompt
from regionsearch.search.answer import Hit
from regionsearch.search.calibration import QueryFacts, QueryKind
from regionsearch.search.engine import SearchEngine
from regionsearch.search.query import Query, QueryRegion
from regionsearch.search.query_parts import kind_of

QUERY_KEYS = ("text", "image", "image_id", "entity", "box")


@dataclass(frozen=True, eq=False)
class Judgement:
    """line: in its file, from 1. good, bad: ids of images, at least one of each, none in both."""

    line: int
    query: Query
    good: tuple[str, ...]
    bad: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class JudgedSignals:
    """One judgement, measured. names: of the s parts that the query has. good, bad: (g, s) and (b, s)
    standardised. found: (h, s) the same of all images of the answer. images: how many the collection holds.
    unseen: judged images that the answer did not hold."""

    judgement: Judgement
    names: tuple[str, ...]
    good: NDArray[np.float64]
    bad: NDArray[np.float64]
    found: NDArray[np.float64]
    images: int
    unseen: int

    @property
    def kind(self) -> QueryKind:
        return kind_of(self.judgement.query)

    def facts(self, weights: Mapping[str, float]) -> QueryFacts:
        """Of the query, were its answer summed with these weights by part name."""
        vector = np.array([weights[name] for name in self.names])
        text = self.judgement.query.text or ""
        return QueryFacts(self.kind, text, self.images, self.found @ vector)


def read_judgements(path: Path, collection: Collection) -> list[Judgement]:
    """A JSON object a line: `{"query": {...}, "good": [ids], "bad": [ids]}`; empty lines are passed over.

    `query` has `text`, an `image` (a path, as seen from the file's folder) or an `image_id`, with an image
    perhaps a `box` ([x0, y0, x1, y1] pixels), with an image_id perhaps an `entity` (its index).
    Raises InvalidRequest, naming the line, for anything else, for ids that the collection has not, and for a
    query that an earlier line has: such lines could contradict each other, and weights judged without the
    one would have been fitted with the other.
    """
    try:
        # Not by splitlines, which also parts at characters that JSON lets stand in a string.
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidRequest(f"judgements {str(path)!r} cannot be read: {why}", field="judgements") from error
    read = []
    asked: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                said = json.loads(line)
                read.append(_judgement(number, said, path.parent, collection))
                query = json.dumps(said["query"], sort_keys=True)
                if query in asked:
                    raise ValueError(
                        f"line {asked[query]} has the same query; one line must judge all its images"
                    )
                asked[query] = number
            except (ValueError, TypeError, OSError) as error:
                raise InvalidRequest(f"{path}, line {number}: {error}", field="judgements") from error
            except (InvalidRequest, ImageNotFound) as error:
                raise InvalidRequest(f"{path}, line {number}: {error.message}", field="judgements") from error
    return read


def _judgement(line: int, said: Any, folder: Path, collection: Collection) -> Judgement:
    if not isinstance(said, dict) or set(said) != {"query", "good", "bad"}:
        raise ValueError("a judgement is an object of query, good and bad")
    good, bad = (_ids(said[key], key) for key in ("good", "bad"))
    both = sorted(set(good) & set(bad))
    if both:
        raise ValueError(f"image {both[0]!r} is both good and bad")
    for image_id in (*good, *bad):
        collection.get(image_id)
    return Judgement(line, _query(said["query"], folder), good, bad)


def _ids(said: Any, key: str) -> tuple[str, ...]:
    if not isinstance(said, list) or not said or not all(isinstance(one, str) for one in said):
        raise ValueError(f"{key} must be a list of at least one image id")
    return tuple(dict.fromkeys(said))


def _query(said: Any, folder: Path) -> Query:
    if not isinstance(said, dict) or not said:
        raise ValueError("query must be an object that says something")
    unknown = sorted(set(said) - set(QUERY_KEYS))
    if unknown:
        raise ValueError(f"query has no {unknown[0]!r}; it has: {', '.join(QUERY_KEYS)}")
    for key in ("text", "image", "image_id"):
        if key in said and not isinstance(said[key], str):
            raise ValueError(f"query.{key} must be a string")
    entity = said.get("entity", 0)
    if not isinstance(entity, int) or isinstance(entity, bool) or entity < 0:
        raise ValueError("query.entity must be the index of an entity, from 0")
    if "box" in said and "image" not in said:
        raise ValueError("query.box needs query.image")
    regions: tuple[QueryRegion, ...] = ()
    if "box" in said:
        box = said["box"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise ValueError("query.box must be four numbers, x0, y0, x1, y1")
        regions = (QueryRegion(RegionPrompt(box=Box(*map(float, box)))),)
    file = folder / said["image"] if "image" in said else None
    if file is not None and not file.is_file():
        raise ValueError(f"there is no image {file}")
    return Query(
        encoded_image=None if file is None else file.read_bytes(),
        image_name=said.get("image", ""),
        image_id=said.get("image_id"),
        entities=(entity,) if "entity" in said else (),
        regions=regions,
        text=said.get("text"),
    )


def _is_number(said: Any) -> bool:
    return isinstance(said, int | float) and not isinstance(said, bool)


def measure(engine: SearchEngine, collection: Collection, judgement: Judgement) -> JudgedSignals:
    """Asks for as many images as one answer may hold, and keeps the signals of those that were judged.

    Raises InvalidRequest, naming the line, when the search refuses the query.
    """
    limits = Limits()
    images = collection.stats.images
    query = replace(
        judgement.query,
        limit=min(limits.hits, max(1, images)),
        candidates=min(limits.candidates, max(1, images)),
        include_self=judgement.query.image_id is not None,
    )
    try:
        hits = engine.search(collection, query).hits
    except (InvalidRequest, ImageNotFound) as error:
        raise InvalidRequest(
            f"judgements, line {judgement.line}: {error.message}", field="judgements"
        ) from error
    by_id = {hit.image_id: hit for hit in hits}
    names = tuple(hits[0].parts) if hits else ()
    found, good, bad = (_signals(by_id, ids, names) for ids in (list(by_id), judgement.good, judgement.bad))
    unseen = len(judgement.good) + len(judgement.bad) - len(good) - len(bad)
    return JudgedSignals(judgement, names, good, bad, found, images, unseen)


def _signals(by_id: Mapping[str, Hit], ids: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    rows = [
        [by_id[image_id].parts[name].standardised for name in names] for image_id in ids if image_id in by_id
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
