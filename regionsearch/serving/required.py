"""Fields that a request cannot do without, and pages."""

from __future__ import annotations

from regionsearch.collection import Collection
from regionsearch.errors import InvalidRequest
from regionsearch.serving.backend import Backend

DEFAULT_PAGE = 100
MAX_PAGE = 1_000


def required(value: str, field: str) -> str:
    """Raises InvalidRequest if the text is empty."""
    if not value:
        raise InvalidRequest(f"{field} is missing", field=field)
    return value


def collection_of(backend: Backend, name: str, field: str = "collection") -> Collection:
    """Raises InvalidRequest if the name is missing, CollectionNotFound if nothing has it."""
    return backend.directory.collection(required(name, field))


def page_size_of(size: int | None) -> int:
    """Raises InvalidRequest outside 1 to 1,000; None is the default."""
    if size is None:
        return DEFAULT_PAGE
    if not 1 <= size <= MAX_PAGE:
        raise InvalidRequest(f"page_size is {size}; it must be between 1 and {MAX_PAGE}", field="page_size")
    return size
