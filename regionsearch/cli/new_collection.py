"""The spec of a collection that a command line makes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regionsearch.collection.records import CollectionSpec
    from regionsearch.models.registry import ModelRegistry


def embedding_spec(name: str, arguments: argparse.Namespace, models: ModelRegistry) -> CollectionSpec:
    """Of a collection whose vectors the models here make: as --embedder, --segmenter, --pixels and
    --entity-limit say, and the defaults where they say nothing. Raises ModelNotFound, ModelUnavailable."""
    from regionsearch.ingest import collection_spec
    from regionsearch.models.registry import DEFAULT_EMBEDDER, DEFAULT_SEGMENTER

    return collection_spec(
        name,
        models.embedder(arguments.embedder or DEFAULT_EMBEDDER),
        models.segmenter(arguments.segmenter or DEFAULT_SEGMENTER),
        pixels=arguments.pixels or "thumbnail",
        entity_limit=_entity_limit(arguments),
    )


def precomputed_spec(name: str, arguments: argparse.Namespace) -> CollectionSpec:
    """Of a collection whose vectors are computed elsewhere, in --space, with --dimension numbers each.
    Raises InvalidRequest."""
    from regionsearch.collection.records import CollectionSpec
    from regionsearch.models.precomputed import fingerprints_of

    embedder, segmenter = fingerprints_of(arguments.space, arguments.dimension)
    return CollectionSpec(
        name,
        embedder,
        segmenter,
        pixels=arguments.pixels or "thumbnail",
        entity_limit=_entity_limit(arguments),
    )


def _entity_limit(arguments: argparse.Namespace) -> int:
    from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT

    return DEFAULT_ENTITY_LIMIT if arguments.entity_limit is None else int(arguments.entity_limit)
