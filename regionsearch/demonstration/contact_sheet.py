"""The contact sheet as one PNG: a row for each question, the query on the left and its hits beside it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image as Pillow
from PIL import ImageDraw

from regionsearch.demonstration.answer_pictures import hit_picture, question_picture
from regionsearch.demonstration.answers import Answer, Found, Part
from regionsearch.demonstration.outlines import ASKED, FOUND
from regionsearch.demonstration.paper import (
    ACCENT,
    CARD,
    CORNER,
    GOOD,
    INK,
    MISSED,
    PAPER,
    QUIET,
    ROW_LINE,
    WELL,
    draw_pill,
    font,
    paste_into_well,
    shortened,
    wrapped,
)
from regionsearch.demonstration.wording import (
    HOW_TO_READ,
    SheetFacts,
    badge,
    caption,
    drawable,
    is_good,
    verdict,
)

# Everything below is in pixels of the sheet.
MARGIN = 44
GAP = 20
QUERY_WIDTH = 344
HIT_WIDTH = 272
PICTURE_HEIGHT = 204
PADDING = 18
PART_LINE = 19

STRONGEST = 6.0
"""Deviations at which a part's bar is full."""

_QUIET_FONT, _FONT, _LARGE_FONT, _TITLE_FONT = 14, 16, 21, 36


def draw_contact_sheet(answers: Sequence[Answer], facts: SheetFacts) -> Pillow.Image:
    """An RGB picture; its width follows from the number of hits shown, its height from the questions.

    Raises ValueError if there is nothing to show.
    """
    if not answers:
        raise ValueError("a contact sheet needs one answer at least")
    columns = max(1, *(len(answer.found) for answer in answers))
    width = 2 * MARGIN + 2 * PADDING + QUERY_WIDTH + columns * (HIT_WIDTH + GAP)
    header_height = 138
    heights = [_row_height(answer) for answer in answers]
    height = header_height + sum(heights) + GAP * len(heights) + MARGIN - GAP
    sheet = Pillow.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, facts, width)
    top = header_height
    for answer, row_height in zip(answers, heights, strict=True):
        _draw_row(sheet, answer, top, row_height, width)
        top += row_height + GAP
    return sheet


def _row_height(answer: Answer) -> int:
    parts = max((len(hit.parts) for hit in answer.found), default=0)
    return 2 * PADDING + PICTURE_HEIGHT + 62 + max(parts, 2) * PART_LINE + 22


def _draw_header(draw: ImageDraw.ImageDraw, facts: SheetFacts, width: int) -> None:
    draw.text((MARGIN, 34), "RegionSearch", font=font(_TITLE_FONT), fill=INK, stroke_width=0.6)
    room = width - 2 * MARGIN
    line = shortened(draw, str(facts), _FONT, room)
    draw.text((MARGIN, 86), line, font=font(_FONT), fill=QUIET)
    meaning = shortened(draw, HOW_TO_READ, _QUIET_FONT, room)
    draw.text((MARGIN, 109), meaning, font=font(_QUIET_FONT), fill=QUIET)
    right: float = width - MARGIN
    for text, colour in (("matched entity", FOUND), ("what was asked with", ASKED)):
        length = draw.textlength(text, font=font(_FONT))
        draw.text((right - length, 52), text, font=font(_FONT), fill=INK)
        left = right - length - 30
        draw.rounded_rectangle((left, 54, left + 20, 68), 4, outline=colour, width=3)
        right = left - 26


def _draw_row(sheet: Pillow.Image, answer: Answer, top: int, height: int, width: int) -> None:
    draw = ImageDraw.Draw(sheet)
    card = (MARGIN, top, width - MARGIN, top + height)
    draw.rounded_rectangle(card, CORNER + 4, fill=CARD, outline=ROW_LINE)
    left, upper = MARGIN + PADDING, top + PADDING
    _draw_query(sheet, draw, answer, left, upper)
    left += QUERY_WIDTH + GAP
    draw.line((left - GAP // 2, upper, left - GAP // 2, top + height - PADDING), fill=ROW_LINE)
    for place, hit in enumerate(answer.found, start=1):
        _draw_hit(sheet, draw, answer, hit, place, left, upper)
        left += HIT_WIDTH + GAP
    if not answer.found:
        draw.text((left + PADDING, upper + PICTURE_HEIGHT // 2), "no hits", font=font(_FONT), fill=QUIET)


def _draw_query(sheet: Pillow.Image, draw: ImageDraw.ImageDraw, answer: Answer, left: int, top: int) -> None:
    question = answer.question
    room = QUERY_WIDTH - GAP
    shown = question_picture(answer, (room, PICTURE_HEIGHT))
    if shown is None:
        draw.rounded_rectangle((left, top, left + room, top + PICTURE_HEIGHT), CORNER, fill=WELL)
        lines = wrapped(draw, drawable(question.sentence), 30, room - 2 * PADDING)
        y = top + (PICTURE_HEIGHT - 38 * len(lines)) // 2
        for line in lines:
            length = draw.textlength(line, font=font(30))
            draw.text((left + (room - length) / 2, y), line, font=font(30), fill=INK)
            y += 38
    else:
        paste_into_well(sheet, shown, (left, top), (room, PICTURE_HEIGHT))
    y = top + PICTURE_HEIGHT + 12
    draw_pill(draw, question.kind, left, y)
    y += 32
    for line in wrapped(draw, drawable(caption(question)), 17, room, most=2):
        draw.text((left, y), line, font=font(17), fill=INK)
        y += 23
    outcome = verdict(answer)
    if outcome is not None:
        for line in wrapped(draw, drawable(outcome), _QUIET_FONT, room, most=2):
            draw.text((left, y + 3), line, font=font(_QUIET_FONT), fill=QUIET)
            y += PART_LINE


def _draw_hit(
    sheet: Pillow.Image,
    draw: ImageDraw.ImageDraw,
    answer: Answer,
    hit: Found,
    place: int,
    left: int,
    top: int,
) -> None:
    shown = hit_picture(hit, (HIT_WIDTH, PICTURE_HEIGHT))
    paste_into_well(sheet, shown, (left, top), (HIT_WIDTH, PICTURE_HEIGHT))
    y = top + PICTURE_HEIGHT + 12
    score = f"{hit.score:.2f}"
    score_length = draw.textlength(score, font=font(_LARGE_FONT))
    draw.text(
        (left + HIT_WIDTH - score_length, y - 2), score, font=font(_LARGE_FONT), fill=INK, stroke_width=0.4
    )
    number = f"{place}  "
    draw.text((left, y), number, font=font(17), fill=QUIET)
    indent = draw.textlength(number, font=font(17))
    name = shortened(draw, hit.image_id, 17, HIT_WIDTH - score_length - indent - 10)
    draw.text((left + indent, y), name, font=font(17), fill=INK)
    y += 27
    draw.rounded_rectangle((left, y, left + HIT_WIDTH, y + 6), 3, fill=WELL)
    filled = max(6, round(HIT_WIDTH * min(max(hit.score, 0.0), 1.0)))
    draw.rounded_rectangle((left, y, left + filled, y + 6), 3, fill=ACCENT)
    y += 16
    for part in hit.parts:
        _draw_part(draw, part, left, y)
        y += PART_LINE
    mark = badge(hit, answer)
    if mark is not None:
        colour = GOOD if is_good(hit, answer) else MISSED
        draw.text((left, y + 3), drawable(mark), font=font(_QUIET_FONT), fill=colour, stroke_width=0.25)


def _draw_part(draw: ImageDraw.ImageDraw, part: Part, left: int, y: int) -> None:
    """Name, a bar of deviations above the background, and the number; nothing to its left is better."""
    draw.text((left, y), part.name, font=font(_QUIET_FONT), fill=QUIET)
    start, end = left + 92, left + HIT_WIDTH - 62
    draw.rounded_rectangle((start, y + 6, end, y + 11), 2, fill=WELL)
    share = min(max(part.standardised / STRONGEST, 0.0), 1.0)
    if share > 0.02:
        draw.rounded_rectangle((start, y + 6, start + (end - start) * share, y + 11), 2, fill=QUIET)
    number = f"{part.standardised:+.1f} sd"
    length = draw.textlength(number, font=font(_QUIET_FONT))
    draw.text((left + HIT_WIDTH - length, y), number, font=font(_QUIET_FONT), fill=QUIET)
