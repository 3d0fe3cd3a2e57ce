"""What VLM2Vec and GME read, word for word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from regionsearch.errors import InvalidRequest
from regionsearch.models.embedder import InputRole, ModelInput
from regionsearch.models.qwen2_vl.words import IMAGE_PAD, Words, check_bare, check_without_picture

Style = Literal["vlm2vec", "gme"]
STYLES: tuple[Style, ...] = ("vlm2vec", "gme")
_SLOT = "{text}"

VLM2VEC: Mapping[str, str] = {
    # The words of MMEB, on which VLM2Vec was trained: any image that is to be found, NIGHTS, CIRR, and
    # MSCOCO text to image.
    "stored": f"{IMAGE_PAD}\nRepresent the given image.\n",
    "asked_picture": f"{IMAGE_PAD}\nFind a day-to-day image that looks similar to the provided image.\n",
    "asked_picture_with_text": (
        f"{IMAGE_PAD}\nGiven an image, find a similar everyday image with the described changes: {_SLOT}\n"
    ),
    "asked_text": f"Find me an everyday image that matches the given caption: {_SLOT}\n",
}
_GME_SYSTEM = "You are a helpful assistant."


def _gme(content: str, instruction: str = _GME_SYSTEM) -> str:
    return (
        f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n"
        "<|im_start|>assistant\n<|endoftext|>"
    )


_GME_PICTURE = f"<|vision_start|>{IMAGE_PAD}<|vision_end|>"
GME: Mapping[str, str] = {
    # Qwen2-VL's chat template, ended by the token that is read. The instruction for words that look for
    # pictures is the one of the model's own example; everything else has the default one.
    "stored": _gme(_GME_PICTURE),
    "picture_with_text": _gme(_GME_PICTURE + _SLOT),
    "text": _gme(_SLOT),
    "asked_text": _gme(_SLOT, "Find an image that matches the given text."),
}


class Vlm2VecWords:
    """Strings place the picture themselves; captions that are candidates are bare."""

    def stored(self) -> str:
        return VLM2VEC["stored"]

    def asked_picture(self, text: str | None) -> str:
        """Raises InvalidRequest for a text that contains the place of a picture, as all here do."""
        if text is None:
            return VLM2VEC["asked_picture"]
        return _filled(VLM2VEC["asked_picture_with_text"], text)

    def asked_text(self, text: str) -> str:
        return _filled(VLM2VEC["asked_text"], text)

    def given(self, text: str | None, has_image: bool) -> str:
        """The exact string. Raises InvalidRequest unless it has the picture's place once beside an image,
        and not otherwise."""
        if not has_image:
            check_without_picture(text or "")
            return text or ""
        if text is None:
            return VLM2VEC["stored"]
        if text.count(IMAGE_PAD) != 1:
            raise InvalidRequest(f"a string beside an image needs {IMAGE_PAD} once: {text!r}", field="text")
        check_without_picture(text.replace(IMAGE_PAD, ""))
        return text

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """Queries in the words of MMEB; candidates without words are stored pictures."""
        text = given.text
        if given.image is None:
            words = text if text is None or role == "candidate" else self.asked_text(text)
        elif role == "query" or text is not None:
            words = self.asked_picture(text)
        else:
            words = self.stored()
        return ModelInput(given.image, words, given.region)


class GmeWords:
    """The template takes bare words; in strings of MMEB the picture's place is left out, as the published
    evaluation of GME does."""

    def stored(self) -> str:
        return GME["stored"]

    def asked_picture(self, text: str | None) -> str:
        """Raises InvalidRequest for a text that contains the place of a picture, as all here do."""
        return GME["stored"] if text is None else _filled(GME["picture_with_text"], text)

    def asked_text(self, text: str) -> str:
        return _filled(GME["asked_text"], text)

    def given(self, text: str | None, has_image: bool) -> str:
        if text is None:
            return GME["stored"]
        if not has_image:
            return _filled(GME["text"], text)
        return _filled(GME["picture_with_text"], text.replace(f"{IMAGE_PAD}\n", "", 1))

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """The input itself: the template takes bare words."""
        del role
        return given


WORDS: Mapping[Style, Words] = {"vlm2vec": Vlm2VecWords(), "gme": GmeWords()}
TEMPLATES: Mapping[Style, Mapping[str, str]] = {"vlm2vec": VLM2VEC, "gme": GME}


def _filled(template: str, text: str) -> str:
    check_bare(text)
    return template.replace(_SLOT, text)
