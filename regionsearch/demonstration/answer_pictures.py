"""The pictures that both forms of the contact sheet show: of a question, and of a hit."""

from __future__ import annotations

from PIL import Image as Pillow

from regionsearch.demonstration.answers import Answer, Found
from regionsearch.demonstration.outlines import (
    ASKED,
    ASKED_FURTHER,
    FOUND,
    FOUND_FURTHER,
    photo_with_outline,
    photo_with_outlines,
    photo_with_prompt,
    with_prompt,
)


def question_picture(
    answer: Answer, within: tuple[int, int], *, pixel_ratio: float = 1.0
) -> Pillow.Image | None:
    """What was asked with, fitted into `within` (width, height), with all that was pointed at; None for a
    question without a picture. pixel_ratio: pixels of the result for each unit of line width."""
    question = answer.question
    if question.picture is None:
        return None
    if question.region is None:
        return photo_with_outline(question.picture, within, question.outline, ASKED, pixel_ratio=pixel_ratio)
    shown = photo_with_prompt(question.picture, within, question.region, answer.used, pixel_ratio=pixel_ratio)
    scale = (shown.width / question.picture.width, shown.height / question.picture.height)
    for region in question.further:
        shown = with_prompt(shown, region, scale, ASKED_FURTHER, pixel_ratio=pixel_ratio)
    return shown


def hit_picture(hit: Found, within: tuple[int, int], *, pixel_ratio: float = 1.0) -> Pillow.Image:
    """The photo that was found, likewise, with everything that matched outlined."""
    outlines = [(mask, FOUND_FURTHER) for mask in hit.others] + [(hit.mask, FOUND)]
    return photo_with_outlines(hit.photo, within, outlines, pixel_ratio=pixel_ratio)
