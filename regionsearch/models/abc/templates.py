"""What ABC reads, word for word: Qwen2-VL's chat template around each kind of input."""

from __future__ import annotations

from collections.abc import Mapping

from regionsearch.models.embedder import InputRole, ModelInput
from regionsearch.models.qwen2_vl.words import check_bare

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


class AbcWords:
    """An image with the empty text is an image with an instruction, as in the official code."""

    def stored(self) -> str:
        return TEMPLATES["image"]

    def asked_picture(self, text: str | None) -> str:
        return self.given(text, True)

    def asked_text(self, text: str) -> str:
        return self.given(text, False)

    def given(self, text: str | None, has_image: bool) -> str:
        """Raises InvalidRequest for a text that contains markup of the model or the place of a picture."""
        if text is None:
            return TEMPLATES["image"]
        check_bare(text)
        return TEMPLATES["instructed" if has_image else "text"].replace(_SLOT, text)

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """The input itself: the template takes bare words."""
        del role
        return given
