"""What embedders on Qwen2-VL that know no regions say around pictures and words."""

from __future__ import annotations

from typing import Protocol

from regionsearch.errors import InvalidRequest
from regionsearch.models.embedder import InputRole, ModelInput

IMAGE_PAD = "<|image_pad|>"
"""Where the picture goes."""
_NOT_WORDS = (IMAGE_PAD, "<|video_pad|>")


class Words(Protocol):
    """The strings of a model: with a picture, IMAGE_PAD is in them once."""

    def stored(self) -> str:
        """Beside an image or an entity, at indexing."""

    def asked_picture(self, text: str | None) -> str:
        """Beside the picture or region of a query, with or without an instruction."""

    def asked_text(self, text: str) -> str:
        """Of a query of words."""

    def given(self, text: str | None, has_image: bool) -> str:
        """Of a `ModelInput`."""

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """`InputEmbedder.worded`."""


def check_visible(text: str) -> None:
    """Raises InvalidRequest for a text without a visible character."""
    if not text.strip():
        raise InvalidRequest("a text to embed is empty", field="text")


def check_bare(text: str) -> None:
    """Raises InvalidRequest for words that hold the place of a picture."""
    for token in _NOT_WORDS:
        if token in text:
            raise InvalidRequest(f"a text cannot contain {token}, which stands for a picture", field="text")
