"""Who answers the questions of a command line: a data directory or a server."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from regionsearch.cli.arguments import runtime_from
from regionsearch.cli.question import Question, checked_picture
from regionsearch.errors import InvalidRequest
from regionsearch.regions import Box, Mask


@dataclass(frozen=True, eq=False)
class KeptImage:
    """What a collection knows of an image. pixels: an encoded picture, None when none is kept. masks: of
    its entities."""

    image_id: str
    pixels: bytes | None
    masks: tuple[Mask, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """ask: one question to one answer, of the engine or of the client, which name alike. kept: an image
    of the collection by its id."""

    ask: Callable[[Question], Any]
    kept: Callable[[str], KeptImage]


@contextmanager
def asked(arguments: argparse.Namespace) -> Iterator[Asked]:
    """Whoever the command line names, open until the end of the block."""
    opened = _directory(arguments) if arguments.address is None else _server(arguments)
    with opened as answering:
        yield answering


@contextmanager
def _directory(arguments: argparse.Namespace) -> Iterator[Asked]:
    from regionsearch.collection import DataDirectory
    from regionsearch.models.registry import ModelRegistry
    from regionsearch.search import SearchEngine

    settings: dict[str, Any] = {}
    if arguments.scoring is not None:
        from regionsearch.search.scoring import load_scoring

        settings["scoring"] = load_scoring(arguments.scoring)
    with DataDirectory(arguments.data, "read") as directory:
        collection = directory.collection(arguments.collection)
        engine = SearchEngine(ModelRegistry(runtime=runtime_from(arguments)), **settings)

        def kept(image_id: str) -> KeptImage:
            record = collection.get(image_id, pixels=True)
            return KeptImage(image_id, record.pixels, tuple(record.entities.masks))

        yield Asked(lambda question: engine.search(collection, query_of(question)), kept)


def query_of(question: Question) -> Any:
    """The engine's Query. Raises InvalidRequest, and InvalidRegion for a region outside its picture."""
    from regionsearch.search import Example, Query, QueryRegion, Rerank

    rerank: Rerank | None = None
    if question.rerank is not None:
        said = {"top_n": question.rerank_top, "weight": question.rerank_weight}
        given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        method: Any = question.rerank
        rerank = Rerank(method, **given)
    return Query(
        encoded_image=checked_picture(question),
        image_name=str(question.image),
        image_id=question.image_id,
        entities=question.entities,
        regions=tuple(QueryRegion(one.prompt, one.normalised, one.refine) for one in question.regions),
        text=question.text,
        vector=_vector(question),
        liked=tuple(Example(image_id, entity) for image_id, entity in question.liked),
        disliked=tuple(Example(image_id, entity) for image_id, entity in question.disliked),
        placements=tuple(map(_placement, question.placements)),
        where=question.where,
        page_token=question.page_token or "",
        weights=question.weights,
        per_kind_weights=question.per_kind_weights,
        include_self=question.include_self,
        rerank=rerank,
        **question.said(),
    )


def _placement(said: Mapping[str, Any]) -> Any:
    from regionsearch.search import Placement

    box = said.get("box")
    return Placement(**{**said, "box": None if box is None else Box(*box)})


def _vector(question: Question) -> Any:
    import numpy as np

    if question.vector is None:
        return None
    vector = np.asarray(question.vector, dtype=np.float32)
    if not np.isfinite(vector).all():
        raise InvalidRequest("the vector has a number that no float32 holds", field="vector")
    return vector


@contextmanager
def _server(arguments: argparse.Namespace) -> Iterator[Asked]:
    from regionsearch.client import Client

    with Client(arguments.address, timeout=arguments.timeout) as client:

        def kept(image_id: str) -> KeptImage:
            stored = client.get_image(arguments.collection, image_id, entities=True, masks=True, pixels=True)
            masks = (entity.mask for entity in stored.entities)
            return KeptImage(image_id, stored.pixels, tuple(mask for mask in masks if mask is not None))

        def ask(question: Question) -> Any:
            return client.search(arguments.collection, **client_words(question))

        yield Asked(ask, kept)


def client_words(question: Question) -> dict[str, Any]:
    """The fields of the client's Query.

    Raises InvalidRequest, and InvalidRegion for a region outside its picture.
    """
    from regionsearch.client.query import Example, Placement, Region

    return {
        "image": checked_picture(question),
        "image_id": question.image_id,
        "entities": question.entities,
        "regions": [
            Region(
                box=one.prompt.box,
                points=one.prompt.points,
                mask=one.prompt.mask,
                polygon=one.prompt.polygon,
                normalised=one.normalised,
                refine=one.refine,
            )
            for one in question.regions
        ],
        "text": question.text,
        "vector": _vector(question),
        "liked": [Example(image_id, entity) for image_id, entity in question.liked],
        "disliked": [Example(image_id, entity) for image_id, entity in question.disliked],
        "placements": [Placement(**placement) for placement in question.placements],
        "where": question.where,
        "page_token": question.page_token or "",
        "weights": dict(question.weights),
        "per_kind_weights": question.per_kind_weights,
        "include_self": question.include_self,
        "rerank": question.rerank,
        "rerank_top": question.rerank_top,
        "rerank_weight": question.rerank_weight,
        **question.said(),
    }
