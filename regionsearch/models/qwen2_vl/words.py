"""What embedders on Qwen2-VL that know no regions say around pictures and words."""

from __future__ import annotations

from typing import Protocol

from regionsearch.errors import InvalidRequest
from regionsearch.models.embedder import InputRole, ModelInput

IMAGE_PAD = "<|image_pad|>"
"""Where the picture goes."""
_PICTURES = (IMAGE_PAD, "<|video_pad|>")
_MARKUP = (
    *_PICTURES,
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
)
"""What Qwen2-VL's tokenizer reads as one token of its own: all that it has."""


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


def check_bare(text: str) -> None:
    """For words that go into a template. Raises InvalidRequest when they hold markup, which would end the
    turn that they are in, or stand for a picture."""
    check_without_picture(text)
    for token in _MARKUP:
        if token in text:
            raise InvalidRequest(f"a text cannot contain {token}, which is markup of the model", field="text")


def check_without_picture(text: str) -> None:
    """For exact strings. Raises InvalidRequest when they hold the place of a picture."""
    for token in _PICTURES:
        if token in text:
            raise InvalidRequest(f"a text cannot contain {token}, which stands for a picture", field="text")
