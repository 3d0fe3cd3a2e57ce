"""What the sheets are drawn on and written with: colours, typeface, fields for pictures."""

from __future__ import annotations

from functools import cache

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from regionsearch.demonstration.outlines import Colour
from regionsearch.demonstration.wording import drawable

CORNER = 12
"""Radius of a field's corners, pixels."""
PILL_FONT = 14

PAPER: Colour = (243, 244, 246)
CARD: Colour = (255, 255, 255)
WELL: Colour = (231, 233, 237)
INK: Colour = (24, 29, 38)
QUIET: Colour = (98, 107, 122)
ACCENT: Colour = (0, 125, 106)
GOOD: Colour = (17, 122, 66)
MISSED: Colour = (166, 77, 10)
ROW_LINE: Colour = (221, 224, 230)


def paste_into_well(
    sheet: Pillow.Image, shown: Pillow.Image, at: tuple[int, int], size: tuple[int, int]
) -> None:
    """The picture in the middle of a grey field of that size (width, height) with round corners."""
    width, height = size
    well = Pillow.new("RGB", size, WELL)
    well.paste(shown, ((width - shown.width) // 2, (height - shown.height) // 2))
    # Drawn four times as large and shrunk: Pillow's own corners have no soft edge.
    corners = Pillow.new("L", (width * 4, height * 4))
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, width * 4 - 1, height * 4 - 1), CORNER * 4, fill=255)
    sheet.paste(well, at, corners.resize(size, Pillow.Resampling.LANCZOS))


def draw_pill(draw: ImageDraw.ImageDraw, text: str, left: int, top: int) -> None:
    length = draw.textlength(text, font=font(PILL_FONT))
    draw.rounded_rectangle((left, top, left + length + 20, top + 24), 12, fill=(255, 236, 196))
    draw.text((left + 10, top + 3), text, font=font(PILL_FONT), fill=(92, 60, 0))


def shortened(draw: ImageDraw.ImageDraw, text: str, size: int, room: float) -> str:
    """The text in drawable characters, its middle left out when it is wider than `room` pixels."""
    text = drawable(text)
    if draw.textlength(text, font=font(size)) <= room:
        return text
    for kept in range(len(text) - 1, 1, -1):
        shorter = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
        if draw.textlength(shorter, font=font(size)) <= room:
            return shorter
    return "…"


def wrapped(
    draw: ImageDraw.ImageDraw, text: str, size: int, room: float, most: int | None = None
) -> list[str]:
    """Lines of at most `room` pixels, broken between words; a word that is too long loses its middle.

    Of more than `most` lines the last that is kept ends in an ellipsis.
    """
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font(size)) <= room:
            lines[-1] = longer
        elif lines[-1]:
            lines.append(shortened(draw, word, size, room))
        else:
            lines[-1] = shortened(draw, word, size, room)
    if most is None or len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and draw.textlength(f"{last}…", font=font(size)) > room:
        last = last[:-1]
    return [*lines[: most - 1], f"{last.rstrip()}…"]


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own typeface: the sheet looks the same on every machine."""
    return ImageFont.load_default(size)
