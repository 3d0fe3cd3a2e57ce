"""From what a caller says of collections and operations to messages. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from regionsearch.client.plain_values import number, text_of, truth, unsigned
from regionsearch.client.stored_answers import Operation
from regionsearch.contract_names import (
    FAVOURS,
    FIELD_KINDS,
    OPERATION_KINDS,
    OPERATION_STATES,
    PIXELS_KEPT,
    Favour,
    FieldKind,
    OperationKind,
    OperationState,
    PixelsKept,
)
from regionsearch.errors import InvalidRequest
from regionsearch.v1 import collections_pb2 as pb
from regionsearch.v1 import operations_pb2


def create_collection(
    name: str,
    embedder: str | None,
    segmenter: str | None,
    pixels: PixelsKept | None,
    entity_limit: int | None,
    space: str | None,
    dimension: int | None,
    indexed_fields: Mapping[str, FieldKind] | None,
    recall_target: float | None,
    favour: Favour | None,
) -> pb.CreateCollectionRequest:
    if pixels is not None and pixels not in PIXELS_KEPT:
        raise InvalidRequest(f"pixels is {pixels!r}; it can be {', '.join(PIXELS_KEPT)}", field="pixels")
    return pb.CreateCollectionRequest(
        name=text_of(name, "name"),
        embedder=text_of(embedder or "", "embedder"),
        segmenter=text_of(segmenter or "", "segmenter"),
        pixels=PIXELS_KEPT[pixels] if pixels else pb.PIXELS_KEPT_UNSPECIFIED,
        entity_limit=None if entity_limit is None else unsigned(entity_limit, "entity_limit"),
        space=text_of(space or "", "space"),
        dimension=None if dimension is None else unsigned(dimension, "dimension"),
        indexed_fields=_fields(indexed_fields or {}),
        index=_wish(recall_target, favour),
    )


def update_collection(
    name: str,
    indexed_fields: Mapping[str, FieldKind] | None,
    recall_target: float | None,
    favour: Favour | None,
) -> pb.UpdateCollectionRequest:
    return pb.UpdateCollectionRequest(
        name=text_of(name, "name"),
        indexed_fields=None if indexed_fields is None else pb.IndexedFields(fields=_fields(indexed_fields)),
        index=_wish(recall_target, favour),
    )


def get_collection(name: str) -> pb.GetCollectionRequest:
    return pb.GetCollectionRequest(name=text_of(name, "name"))


def list_collections(page_size: int) -> pb.ListCollectionsRequest:
    return pb.ListCollectionsRequest(page_size=unsigned(page_size, "page_size"))


def delete_collection(name: str, aliases: bool) -> pb.DeleteCollectionRequest:
    return pb.DeleteCollectionRequest(name=text_of(name, "name"), with_aliases=truth(aliases, "aliases"))


def collection_stats(name: str) -> pb.GetCollectionStatsRequest:
    return pb.GetCollectionStatsRequest(name=text_of(name, "name"))


def seal_collection(name: str) -> pb.SealCollectionRequest:
    return pb.SealCollectionRequest(name=text_of(name, "name"))


def compact_collection(name: str) -> pb.CompactCollectionRequest:
    return pb.CompactCollectionRequest(name=text_of(name, "name"))


def set_alias(alias: str, collection: str) -> pb.SetAliasRequest:
    return pb.SetAliasRequest(alias=text_of(alias, "alias"), collection=text_of(collection, "collection"))


def delete_alias(alias: str) -> pb.DeleteAliasRequest:
    return pb.DeleteAliasRequest(alias=text_of(alias, "alias"))


def create_snapshot(collection: str, snapshot: str) -> pb.CreateSnapshotRequest:
    return pb.CreateSnapshotRequest(
        collection=text_of(collection, "collection"), snapshot=text_of(snapshot, "snapshot")
    )


def restore_snapshot(snapshot: str, collection: str, replace: bool) -> pb.RestoreSnapshotRequest:
    return pb.RestoreSnapshotRequest(
        snapshot=text_of(snapshot, "snapshot"),
        collection=text_of(collection, "collection"),
        replace=truth(replace, "replace"),
    )


def delete_snapshot(snapshot: str) -> pb.DeleteSnapshotRequest:
    return pb.DeleteSnapshotRequest(snapshot=text_of(snapshot, "snapshot"))


def list_operations(
    collection: str, kind: OperationKind | None, state: OperationState | None, page_size: int
) -> operations_pb2.ListOperationsRequest:
    if kind is not None and kind not in OPERATION_KINDS:
        raise InvalidRequest(f"kind is {kind!r:.100}; it can be {', '.join(OPERATION_KINDS)}", field="kind")
    if state is not None and state not in OPERATION_STATES:
        raise InvalidRequest(
            f"state is {state!r:.100}; it can be {', '.join(OPERATION_STATES)}", field="state"
        )
    return operations_pb2.ListOperationsRequest(
        collection=text_of(collection, "collection"),
        kind=OPERATION_KINDS[kind] if kind else operations_pb2.OPERATION_KIND_UNSPECIFIED,
        state=OPERATION_STATES[state] if state else operations_pb2.OPERATION_STATE_UNSPECIFIED,
        page_size=unsigned(page_size, "page_size"),
    )


def operation_id(operation: Operation | str) -> str:
    return operation.id if isinstance(operation, Operation) else text_of(operation, "operation")


def _fields(fields: Mapping[str, FieldKind]) -> list[pb.IndexedField]:
    if not isinstance(fields, Mapping):
        raise InvalidRequest(
            f"indexed_fields is a {type(fields).__name__}; it maps paths to kinds", field="indexed_fields"
        )
    messages = []
    for path, kind in fields.items():
        if kind not in FIELD_KINDS:
            raise InvalidRequest(
                f"the kind of {path!r:.200} is {kind!r:.100}; it can be {', '.join(FIELD_KINDS)}",
                field="indexed_fields",
            )
        messages.append(pb.IndexedField(path=text_of(path, "indexed_fields"), kind=FIELD_KINDS[kind]))
    return messages


def _wish(recall_target: float | None, favour: Favour | None) -> pb.IndexWish | None:
    if recall_target is None and favour is None:
        return None
    if favour is not None and favour not in FAVOURS:
        raise InvalidRequest(f"favour is {favour!r:.100}; it can be {', '.join(FAVOURS)}", field="favour")
    return pb.IndexWish(
        recall_target=None if recall_target is None else number(recall_target, "recall_target"),
        favour=FAVOURS[favour] if favour else pb.FAVOUR_UNSPECIFIED,
    )
