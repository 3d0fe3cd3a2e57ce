"""Collections as messages of the contract, and what requests say of new ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from regionsearch.collection import Collection
from regionsearch.collection.records import CollectionSpec, IndexedField, IndexWish, SegmentStats
from regionsearch.contract_names import FAVOURS, FIELD_KINDS, PIXELS_KEPT, PixelsKept, by_value
from regionsearch.errors import InvalidRequest
from regionsearch.fingerprint import Fingerprint
from regionsearch.models.precomputed import space_of
from regionsearch.v1 import collections_pb2 as pb
from regionsearch.v1 import types_pb2

PIXELS_NAMES: dict[int, PixelsKept] = {pb.PIXELS_KEPT_UNSPECIFIED: "thumbnail", **by_value(PIXELS_KEPT)}
_KIND_NAMES = by_value(FIELD_KINDS)
_FAVOUR_NAMES = by_value(FAVOURS)


def collection_to_message(collection: Collection) -> pb.Collection:
    spec, stats = collection.spec, collection.stats
    return pb.Collection(
        name=spec.name,
        embedder=_fingerprint_to_message(spec.embedder),
        segmenter=_fingerprint_to_message(spec.segmenter),
        pixels=PIXELS_KEPT[spec.pixels],
        entity_limit=spec.entity_limit,
        images=stats.images,
        entities=stats.entities,
        stored_bytes=stats.bytes,
        generation=stats.generation,
        indexed_fields=[
            pb.IndexedField(path=field.path, kind=FIELD_KINDS[field.kind])
            for field in sorted(spec.indexed_fields, key=lambda field: field.path)
        ],
        index=pb.IndexWish(recall_target=spec.index.recall_target, favour=FAVOURS[spec.index.favour]),
        space=space_of(spec.embedder),
    )


def stats_to_message(collection: Collection, concealed: Callable[[str], str]) -> pb.CollectionStats:
    """concealed: what clients may read of a warning."""
    spec, stats = collection.spec, collection.stats
    return pb.CollectionStats(
        name=spec.name,
        images=stats.images,
        entities=stats.entities,
        embedder=_fingerprint_to_message(spec.embedder),
        segmenter=_fingerprint_to_message(spec.segmenter),
        bytes={
            "records": stats.bytes,
            "segments": sum(segment.bytes for segment in stats.segments),
        },
        fresh_rows=stats.fresh_rows,
        deleted_rows=stats.deleted_rows,
        segments=[_segment_to_message(segment) for segment in stats.segments],
        fill=stats.fill,
        generation=stats.generation,
        warnings=map(concealed, stats.warnings),
    )


def _segment_to_message(segment: SegmentStats) -> pb.IndexSegment:
    return pb.IndexSegment(
        number=segment.number,
        images=segment.images,
        entities=segment.entities,
        deleted_images=segment.deleted_images,
        entity_index=segment.entity_index,
        image_index=segment.image_index,
        bytes=segment.bytes,
    )


def _fingerprint_to_message(fingerprint: Fingerprint) -> types_pb2.Fingerprint:
    return types_pb2.Fingerprint(
        name=fingerprint.name,
        weights=fingerprint.weights,
        dimension=fingerprint.dimension,
        preprocessing=fingerprint.preprocessing,
    )


def fields_from_messages(messages: Iterable[pb.IndexedField]) -> tuple[IndexedField, ...]:
    """Raises InvalidRequest for a field without a kind; what else may be wrong, the collection says."""
    fields = []
    for number, message in enumerate(messages):
        kind = _KIND_NAMES.get(message.kind)
        if kind is None:
            raise InvalidRequest(
                f"field {message.path!r:.200} needs a kind", field=f"indexed_fields[{number}].kind"
            )
        fields.append(IndexedField(message.path, kind))
    return tuple(fields)


def wish_from_message(message: pb.IndexWish, before: IndexWish) -> IndexWish:
    """before: what stays as it is where the message says nothing. What it may say, the collection judges."""
    recall = message.recall_target if message.HasField("recall_target") else before.recall_target
    return IndexWish(recall, _FAVOUR_NAMES[message.favour] if message.favour else before.favour)


def wishes_of(spec: CollectionSpec, request: pb.CreateCollectionRequest) -> CollectionSpec:
    """The spec with what the request says of fields and index."""
    return dataclasses.replace(
        spec,
        indexed_fields=fields_from_messages(request.indexed_fields),
        index=wish_from_message(request.index, IndexWish()),
    )
