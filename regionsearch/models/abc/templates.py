"""What ABC reads, word for word: Qwen2-VL's chat template around each kind of input."""

from __future__ import annotations

from collections.abc import Mapping

from regionsearch.errors import InvalidRequest

_BEFORE = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"
_SLOT = "{text}"

TEMPLATES: Mapping[str, str] = {
    "text": f"{_BEFORE}{_SLOT}{_AFTER}",
    "image": f"{_BEFORE}{_PICTURE}{_AFTER}",
    "instructed": f"{_BEFORE}{_PICTURE}Instruction: {_SLOT}{_AFTER}",
}
"""By the kind of input; `{text}` is where its words go. Images and entities are stored as `image`."""

IMAGE_TOKEN = "<|image_pad|>"
_NOT_WORDS = (IMAGE_TOKEN, "<|video_pad|>")


def prompt(text: str | None, has_image: bool) -> str:
    """The string for an input, with IMAGE_TOKEN once if there is an image.

    An image with the empty text is an image with an instruction, as in the official code.
    Raises InvalidRequest for a text that contains the place of a picture.
    """
    if text is None:
        return TEMPLATES["image"]
    for token in _NOT_WORDS:
        if token in text:
            raise InvalidRequest(f"a text cannot contain {token}, which stands for a picture", field="text")
    return TEMPLATES["instructed" if has_image else "text"].replace(_SLOT, text)
