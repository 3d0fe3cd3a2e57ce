"""Settings that have a name and a default in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

from regionsearch.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for. Messages about a broken limit name it as `limits.NAME`.

    image_megapixels: read from the file's header, before anything is decoded.
    image_bytes: of one encoded picture.
    text_characters: of one instruction.
    hits: images in one answer.
    regions: of one query, each matched to an entity of its own.
    examples: liked and disliked ones of one query, each kind.
    candidates: distinct images that one arm of the first phase is asked for.
    batch_queries: queries in one BatchSearch call.
    batch_images: pictures in one UpsertImages call.
    message_bytes: of one gRPC message, either way.
    concurrent_calls: calls answered at once; one more is refused with RESOURCE_EXHAUSTED.
    """

    image_megapixels: float = 64.0
    image_bytes: int = 32 * 1024 * 1024
    text_characters: int = 2_000
    hits: int = 1_000
    regions: int = 16
    examples: int = 64
    candidates: int = 5_000
    batch_queries: int = 64
    batch_images: int = 64
    message_bytes: int = 64 * 1024 * 1024
    concurrent_calls: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise InvalidRequest(f"limits.{field.name} must be above 0", field=f"limits.{field.name}")
