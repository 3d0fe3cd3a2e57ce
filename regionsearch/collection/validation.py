"""What a collection takes: names, ids and finished records are checked before anything is written."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.fields.declared_fields import check_indexed_fields
from regionsearch.collection.record_encoding import encode_payload
from regionsearch.collection.records import (
    MAX_COLLECTION_NAME,
    MAX_ENTITIES,
    MAX_IMAGE_ID_BYTES,
    MAX_PAYLOAD_BYTES,
    CollectionSpec,
    ImageRecord,
    IndexWish,
)
from regionsearch.entities import Entities
from regionsearch.errors import InvalidRecord, InvalidRequest

UNIT_LENGTH_TOLERANCE = 1e-3
MAX_LABEL_BYTES = 1_024
MAX_PAYLOAD_DEPTH = 32
MAX_INTEGER_BITS = 14_000
"""Of an integer in a payload: Python writes and reads no more than 4,300 digits."""
MAX_SIDE = 2**31 - 1
MAX_ENTITY_LIMIT = 1_024
RECALL_TARGETS = (0.5, 0.999)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONTENT_HASH = re.compile(r"[0-9a-f]{64}")
_PLAIN = frozenset({str, int, float, bool, type(None)})
_PIXELS_KEPT = ("none", "thumbnail", "original")


def check_collection_name(name: str) -> None:
    """Raises InvalidRequest."""
    if not isinstance(name, str) or len(name) > MAX_COLLECTION_NAME or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"collection name {name!r:.200} must have 1 to {MAX_COLLECTION_NAME} characters of "
            "'A-Z a-z 0-9 . _ -' and start with a letter or digit",
            field="collection.name",
        )


def check_spec(spec: CollectionSpec) -> None:
    """Raises InvalidRequest when a new collection cannot be made as it says."""
    check_collection_name(spec.name)
    if spec.pixels not in _PIXELS_KEPT:
        raise InvalidRequest(
            f"pixels must be one of {', '.join(_PIXELS_KEPT)}, not {spec.pixels!r}",
            field="collection.pixels",
        )
    check_indexed_fields(spec.indexed_fields)
    if not 1 <= spec.entity_limit <= MAX_ENTITY_LIMIT:
        raise InvalidRequest(
            f"entity_limit is {spec.entity_limit}, outside 1 to {MAX_ENTITY_LIMIT}",
            field="collection.entity_limit",
        )
    check_index_wish(spec.index)
    if spec.embedder.dimension < 1:
        raise InvalidRequest(
            f"embedder {spec.embedder} has no dimension; it must be 1 or more", field="collection.embedder"
        )
    if spec.probe is not None and (
        spec.probe.shape != (spec.embedder.dimension,) or not np.isfinite(spec.probe).all()
    ):
        raise InvalidRequest(
            f"the probe vector has shape {spec.probe.shape} or is not finite; "
            f"the embedder's dimension is {spec.embedder.dimension}",
            field="collection.probe",
        )


def check_index_wish(wish: IndexWish) -> None:
    """Raises InvalidRequest. The declared fields are checked where their paths are read (fields/)."""
    low, high = RECALL_TARGETS
    target = wish.recall_target
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not low <= target <= high:
        raise InvalidRequest(
            f"recall_target is {target!r:.80}, outside {low} to {high}", field="index.recall_target"
        )
    if wish.favour not in ("memory", "speed"):
        raise InvalidRequest(f"favour must be memory or speed, not {wish.favour!r:.80}", field="index.favour")


def check_query_vector(vector: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """The vector as float32. Raises InvalidRequest unless it is (d,) and finite."""
    array = np.asarray(vector)
    if array.shape != (dimension,) or array.dtype.kind != "f":
        raise InvalidRequest(
            f"query vector has shape {array.shape} and type {array.dtype}; "
            f"the collection takes ({dimension},) float32",
            field="query.vector",
        )
    if not np.isfinite(array).all():
        raise InvalidRequest("query vector has a value that is not finite", field="query.vector")
    return array.astype(np.float32, copy=False)


def check_image_id(image_id: str) -> None:
    """Raises InvalidRecord unless it is 1 to 480 bytes of UTF-8 without control characters."""
    if not isinstance(image_id, str):
        raise _refusal(image_id, "image_id", f"is a {type(image_id).__name__}, not text")
    size = _utf8_size(image_id)
    if size is None:
        raise _refusal(image_id, "image_id", "is not valid Unicode (a lone surrogate)")
    if not 1 <= size <= MAX_IMAGE_ID_BYTES:
        raise _refusal(image_id, "image_id", f"has {size} bytes; 1 to {MAX_IMAGE_ID_BYTES} are allowed")
    if image_id.isprintable():  # which control characters are not
        return
    if any(unicodedata.category(character) == "Cc" for character in image_id):
        raise _refusal(image_id, "image_id", "has a control character")


def check_record(record: ImageRecord, spec: CollectionSpec) -> None:
    """Raises InvalidRecord, naming the image and the field that does not fit the collection."""
    check_shape(record, spec)
    check_runs(record)
    check_lengths(record)
    check_payload(record.image_id, record.payload)


def check_shape(record: ImageRecord, spec: CollectionSpec) -> None:
    """All that `check_record` says but for the values of masks and vectors, and the payload."""
    image_id = record.image_id
    check_image_id(image_id)
    for field, side in (("width", record.width), ("height", record.height)):
        if isinstance(side, bool) or not isinstance(side, (int, np.integer)) or not 1 <= side <= MAX_SIDE:
            raise _refusal(image_id, field, f"is {side!r}, outside 1 to {MAX_SIDE} pixels")
    if not isinstance(record.content_hash, str) or (
        record.content_hash and not _CONTENT_HASH.fullmatch(record.content_hash)
    ):
        raise _refusal(
            image_id, "content_hash", "is neither 64 lower-case hexadecimal digits (sha256) nor ''"
        )
    if record.pixels is not None and not isinstance(record.pixels, bytes):
        raise _refusal(image_id, "pixels", f"is a {type(record.pixels).__name__}, not bytes")
    if record.pixels is not None and spec.pixels == "none":
        raise InvalidRecord(
            f"image {image_id!r}: pixels are given, but the collection keeps none", field="pixels"
        )
    _check_entities(record)
    _check_vectors(record, spec.embedder.dimension)


def _check_entities(record: ImageRecord) -> None:
    entities = record.entities
    if not isinstance(entities, Entities):
        raise _refusal(record.image_id, "entities", f"is a {type(entities).__name__}")
    if len(entities) > MAX_ENTITIES:
        raise _refusal(record.image_id, "entities", f"are {len(entities)}; the limit is {MAX_ENTITIES}")
    size = (record.height, record.width)
    for index, mask in enumerate(entities.masks):
        if (mask.height, mask.width) != size:
            raise _refusal(
                record.image_id,
                f"entities[{index}].mask",
                f"is {mask.width} × {mask.height} pixels, the image {record.width} × {record.height}",
            )
    for index, label in enumerate(entities.labels):
        if label is None:
            continue
        label_size = _utf8_size(label) if isinstance(label, str) else None
        if label_size is None or label_size > MAX_LABEL_BYTES:
            raise _refusal(
                record.image_id,
                f"entities[{index}].label",
                f"must be text of {MAX_LABEL_BYTES} bytes of UTF-8 at most",
            )


def check_runs(record: ImageRecord) -> None:
    """Raises InvalidRecord unless each mask's runs cover the image."""
    for index, mask in enumerate(record.entities.masks):
        covered = int(np.sum(mask.counts, dtype=np.int64))
        if covered != record.height * record.width:
            raise _refusal(
                record.image_id,
                f"entities[{index}].mask",
                f"has runs for {covered} pixels, the image has {record.height * record.width}",
            )


def _check_vectors(record: ImageRecord, dimension: int) -> None:
    vectors = record.vectors
    expected = (1 + len(record.entities), dimension)
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32:
        kind = vectors.dtype if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise _refusal(record.image_id, "vectors", f"are {kind}, not float32")
    if vectors.shape != expected:
        raise _refusal(
            record.image_id,
            "vectors",
            f"have shape {vectors.shape}; one for the image and one for each of its "
            f"{len(record.entities)} entities of dimension {dimension} would be {expected}",
        )


def check_lengths(record: ImageRecord) -> None:
    """Raises InvalidRecord unless all vectors have unit length."""
    vectors = record.vectors
    if not np.isfinite(vectors).all():
        raise _refusal(record.image_id, "vectors", "have a value that is not finite")
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    worst = int(np.argmax(np.abs(lengths - 1)))
    if abs(lengths[worst] - 1) > UNIT_LENGTH_TOLERANCE:
        raise _refusal(
            record.image_id, f"vectors[{worst}]", f"has length {lengths[worst]:.6g}; unit vectors are stored"
        )


def check_payload(image_id: str, payload: object) -> bytes:
    """The payload as it is stored. Raises InvalidRecord unless it is a JSON object of 64 KiB at most."""
    if not isinstance(payload, Mapping):
        raise _refusal(image_id, "payload", f"is a {type(payload).__name__}, not a JSON object")
    if not _is_plain_json(payload, MAX_PAYLOAD_DEPTH):
        _check_json(image_id, payload, "payload", 0)
    try:
        coded = encode_payload(payload)
    except ValueError:  # a number that is not finite, or a lone surrogate: this says where
        _check_json(image_id, payload, "payload", 0)
        raise
    if len(coded) > MAX_PAYLOAD_BYTES:
        raise _refusal(
            image_id, "payload", f"has {len(coded)} bytes as JSON; the limit is {MAX_PAYLOAD_BYTES}"
        )
    return coded


def check_durability(durability: str, *, conditional: bool) -> None:
    """Raises InvalidRequest. conditional: whether the write depends on versions."""
    if durability not in ("synced", "buffered"):
        raise InvalidRequest(
            f"durability must be 'synced' or 'buffered', not {durability!r:.80}", field="durability"
        )
    if conditional and durability == "buffered":
        raise InvalidRequest(
            "a write that depends on versions cannot be buffered: whether they fit is known at its commit",
            field="durability",
        )


def check_versions(if_versions: Mapping[str, int] | None, image_ids: Iterable[str]) -> dict[str, int]:
    """Raises InvalidRequest unless versions are 0 or more, of images that are written."""
    if not if_versions:
        return {}
    written = set(image_ids)
    for image_id, version in if_versions.items():
        if image_id not in written:
            raise InvalidRequest(
                f"a version is given for image {image_id!r:.600}, which is not written", field="if_versions"
            )
        if isinstance(version, bool) or not isinstance(version, int) or version < 0:
            raise InvalidRequest(
                f"the version of image {image_id!r:.600} is {version!r:.80}; 0 (none) or more is a version",
                field="if_versions",
            )
    return dict(if_versions)


def _is_plain_json(value: Any, depth: int) -> bool:
    """Whether only its numbers and texts can be wrong, which encoding it finds out. False says nothing."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth < 0:
        return False
    if kind is dict:
        return all(type(key) is str for key in value) and all(
            _is_plain_json(part, depth - 1) for part in value.values()
        )
    return kind is list and all(_is_plain_json(part, depth - 1) for part in value)


def _check_json(image_id: str, value: Any, path: str, depth: int) -> None:
    if depth > MAX_PAYLOAD_DEPTH:
        raise _refusal(image_id, path, f"is nested more than {MAX_PAYLOAD_DEPTH} deep")
    if isinstance(value, Mapping):
        for key, part in value.items():
            if not isinstance(key, str) or _utf8_size(key) is None:
                raise _refusal(image_id, path, f"has the key {key!r:.80}, which is not text")
            _check_json(image_id, part, f"{path}.{key:.80}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            _check_json(image_id, part, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str):
        if _utf8_size(value) is None:
            raise _refusal(image_id, path, "is not valid Unicode (a lone surrogate)")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _refusal(image_id, path, f"is {value}; JSON has finite numbers only")
    elif isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_BITS:
            raise _refusal(image_id, path, f"is an integer of more than {MAX_INTEGER_BITS} bits")
    elif value is not None:
        raise _refusal(image_id, path, f"is a {type(value).__name__}, which JSON does not have")


def _utf8_size(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def _refusal(image_id: object, field: str, what: str) -> InvalidRecord:
    return InvalidRecord(f"image {image_id!r:.600}: {field} {what}", field=field)
