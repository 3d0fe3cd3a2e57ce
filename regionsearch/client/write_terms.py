"""Conditions and guarantees of writes, as fields of the contract."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping
from typing import Any

from regionsearch.client.plain_values import text_of
from regionsearch.contract_names import DURABILITIES, Durability
from regionsearch.errors import InvalidRequest
from regionsearch.v1 import types_pb2

MAX_KEY_BYTES = 128


def durability_of(durability: Durability) -> types_pb2.Durability:
    """SYNCED is left unsaid, which every server takes for it. Raises InvalidRequest."""
    if durability not in DURABILITIES:
        raise InvalidRequest(
            f"durability is {durability!r:.100}; it can be {', '.join(DURABILITIES)}", field="durability"
        )
    return types_pb2.DURABILITY_UNSPECIFIED if durability == "synced" else DURABILITIES[durability]


def key_of(idempotency_key: str, call: int) -> str:
    """The key of one of the calls that a method makes; of a single one the key itself."""
    key = text_of(idempotency_key, "idempotency_key")
    if not (key and call):
        return key
    numbered = f"{key}/{call}"
    if len(numbered.encode()) <= MAX_KEY_BYTES or len(key.encode()) > MAX_KEY_BYTES:
        return numbered
    # The caller's own is short enough, so the calls behind the first must not fail for theirs.
    return hashlib.sha256(numbered.encode()).hexdigest()


def version_of(version: Any, field: str) -> int | None:
    """Raises InvalidRequest unless it is None or a whole number, 0 or more."""
    if version is None:
        return None
    try:
        number = operator.index(version)
    except TypeError as error:
        raise InvalidRequest(
            f"{field} is {version!r:.100}; it must be a whole number", field=field
        ) from error
    if not 0 <= number < 2**63:
        raise InvalidRequest(f"{field} is {number}; a version is 0 or more", field=field)
    return number


def versions_of(if_versions: Mapping[str, int] | None) -> dict[str, int]:
    """Raises InvalidRequest unless it maps ids to versions."""
    versions = {}
    for image_id, version in (if_versions or {}).items():
        number = version_of(version, "if_versions")
        if number is None:
            raise InvalidRequest(f"image {image_id!r:.200} has no version", field="if_versions")
        versions[text_of(image_id, "if_versions")] = number
    return versions
