"""Which fields of the payload a collection keeps columns of, and how far each column has come."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from regionsearch.collection.records import FieldKind, IndexedField
from regionsearch.errors import InvalidFilter, InvalidRequest
from regionsearch.filters import parse_path

MAX_INDEXED_FIELDS = 64
"""Each costs a row of LMDB in every write."""
KINDS: tuple[FieldKind, ...] = ("number", "string", "boolean", "timestamp")
_FIELD = "collection.indexed_fields"


@dataclass(frozen=True, slots=True)
class DeclaredField:
    """number: of the field in its collection, never used again. keys: of its path. built_to: the image number
    up to which its column has been built; None when it is complete."""

    number: int
    path: str
    kind: FieldKind
    built_to: int | None
    keys: tuple[str, ...]

    @property
    def is_built(self) -> bool:
        return self.built_to is None


@dataclass(frozen=True, slots=True)
class Declaration:
    """next_number: for the next field. freed: numbers of fields whose rows are still to be deleted."""

    next_number: int = 1
    fields: tuple[DeclaredField, ...] = ()
    freed: tuple[int, ...] = ()

    def with_fields(self, wanted: Sequence[IndexedField], *, is_empty: bool) -> Declaration:
        """Those wanted: known ones stay as they are, others begin, the rest goes. is_empty: whether there
        are no images, so that new columns are complete at once."""
        known = {field.keys: field for field in self.fields}
        number = self.next_number
        fields = []
        for each in wanted:
            keys = parse_path(each.path).path
            field = known.pop(keys, None)
            if field is None:
                field = DeclaredField(number, each.path, each.kind, None if is_empty else 0, keys)
                number += 1
            fields.append(dataclasses.replace(field, path=each.path, kind=each.kind))
        gone = tuple(field.number for field in known.values())
        return Declaration(number, tuple(fields), (*self.freed, *gone))

    def encoded(self) -> bytes:
        fields = [[field.number, field.path, field.kind, field.built_to] for field in self.fields]
        return json.dumps({"next": self.next_number, "fields": fields, "freed": self.freed}).encode()

    @staticmethod
    def decoded(value: bytes) -> Declaration:
        stored = json.loads(value)
        fields = tuple(
            DeclaredField(number, path, kind, built_to, parse_path(path).path)
            for number, path, kind, built_to in stored["fields"]
        )
        return Declaration(stored["next"], fields, tuple(stored["freed"]))


def check_indexed_fields(fields: Sequence[IndexedField]) -> None:
    """Raises InvalidRequest when they cannot be declared: a path that filters could not write, a kind that
    does not exist, a path twice, or too many."""
    if len(fields) > MAX_INDEXED_FIELDS:
        raise InvalidRequest(f"{len(fields)} indexed fields; the limit is {MAX_INDEXED_FIELDS}", field=_FIELD)
    seen: set[tuple[str, ...]] = set()
    for each in fields:
        if each.kind not in KINDS:
            raise InvalidRequest(
                f"indexed field '{each.path:.80}' has the kind {each.kind!r:.40}; "
                f"there are {', '.join(KINDS)}",
                field=_FIELD,
            )
        try:
            keys = parse_path(each.path).path
        except InvalidFilter as error:
            raise InvalidRequest(f"indexed field: {error.message}", field=_FIELD) from error
        if keys in seen:
            raise InvalidRequest(f"indexed field '{each.path:.80}' is declared twice", field=_FIELD)
        seen.add(keys)
