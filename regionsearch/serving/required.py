"""What requests of several services say alike: fields that they cannot do without, durability, pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from regionsearch.collection import Collection
from regionsearch.contract_names import DURABILITIES, Durability, by_value
from regionsearch.errors import (
    CollectionNotFound,
    ImageNotFound,
    InvalidRecord,
    InvalidRequest,
    RegionSearchError,
)
from regionsearch.serving.backend import Backend
from regionsearch.v1 import types_pb2

DEFAULT_PAGE = 100
MAX_PAGE = 1_000
NAMES_SHOWN = 5
DURABILITY_NAMES: dict[int, Durability] = {
    types_pb2.DURABILITY_UNSPECIFIED: "synced",
    **by_value(DURABILITIES),
}


def required(value: str, field: str) -> str:
    """Raises InvalidRequest if the text is empty."""
    if not value:
        raise InvalidRequest(f"{field} is missing", field=field)
    return value


def collection_of(backend: Backend, name: str, field: str = "collection") -> Collection:
    """Raises InvalidRequest if the name is missing, CollectionNotFound if nothing has it."""
    with naming(backend, name, field):
        return backend.directory.collection(required(name, field))


@contextmanager
def naming(backend: Backend, name: str, field: str) -> Iterator[None]:
    """A CollectionNotFound raised inside names the request's field, and not the server's directory,
    which is nothing that a remote caller should learn."""
    try:
        yield
    except CollectionNotFound as error:
        # One of this name may have been created, or dropped and created again, since the error was raised.
        names = [other for other in backend.directory.collection_names() if other != name]
        others = ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
        raise CollectionNotFound(
            f"there is no collection {name!r:.200}; there are: {others or 'none'}",
            field=field,
            metadata={"collection": name},
        ) from error


@contextmanager
def blaming(field: str) -> Iterator[None]:
    """Errors raised inside name this field of the request."""
    try:
        yield
    except RegionSearchError as error:
        error.field = field
        raise


@contextmanager
def naming_image(image_id: str) -> Iterator[None]:
    """An ImageNotFound raised inside names the request's field."""
    try:
        yield
    except ImageNotFound as error:
        error.field = "image_id"
        error.metadata["image"] = image_id
        raise


@contextmanager
def naming_payload() -> Iterator[None]:
    """An InvalidRecord about a payload raised inside names the field in which requests carry it."""
    try:
        yield
    except InvalidRecord as error:
        if error.field is not None and error.field.split(".")[0] == "payload":
            error.field = "payload_json"
        raise


def page_size_of(size: int | None) -> int:
    """Raises InvalidRequest outside 1 to 1,000; None is the default."""
    if size is None:
        return DEFAULT_PAGE
    if not 1 <= size <= MAX_PAGE:
        raise InvalidRequest(f"page_size is {size}; it must be between 1 and {MAX_PAGE}", field="page_size")
    return size
