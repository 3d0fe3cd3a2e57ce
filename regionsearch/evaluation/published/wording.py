"""How each kind of model wants a benchmark's words. One line a kind; what is not named is a dual encoder.

`image_pad`: the exact strings of the published programs, with the token where the picture goes.
`instructed`: the instruction beside the picture, without that token; inputs of words alone are their
content alone, as candidates are. `bare`: no instruction at all, for models that cannot follow one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Style = Literal["image_pad", "instructed", "bare"]
STYLES: tuple[Style, ...] = ("image_pad", "instructed", "bare")
IMAGE_PAD = "<|image_pad|>"
STORED_IMAGE = "<|image_1|>"
"""What stands for the picture in the published files."""


@dataclass(frozen=True, slots=True)
class Wording:
    """style: see above. regions: whether the model is told of a region beside the words; a model that
    reads no regions finds the box in the words. label: how a class's name is put."""

    style: Style
    regions: bool = True
    label: str = "{}"


KINDS: Mapping[str, Wording] = {
    "abc": Wording("instructed", label="A photo of a {}."),
    "virtue": Wording("image_pad"),
    "vlm": Wording("image_pad", regions=False),
}


def wording_of(kind: str, style: Style | None = None) -> Wording:
    """The kind's wording, or the same in another style."""
    usual = KINDS.get(kind, Wording("bare"))
    return usual if style is None else replace(usual, style=style)


def with_image(instruction: str, text: str = "") -> str:
    """The published programs' string for a picture with words: `<|image_pad|> INSTRUCTION[ TEXT]`."""
    return f"{IMAGE_PAD} {instruction}" + (f" {text}" if text else "")


def tight(text: str) -> str:
    """Without the space before each line's end, as the published programs take it away, once."""
    return text.replace(" \n", "\n")


def without_image(stored: str) -> str:
    """The words of a stored string without the token for its picture, trimmed."""
    return stored.replace(STORED_IMAGE, "").strip()


def joined(*parts: str) -> str | None:
    """The parts that hold words, with a space between; None when none does."""
    held = [part.strip() for part in parts if part.strip()]
    return " ".join(held) or None
