"""An explanation as one picture: the question, and below it a card for each hit with what its score is of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from regionsearch.demonstration.explained import (
    ExplainedHit,
    ExplainedPart,
    ExplainedQuestion,
    Pictured,
)
from regionsearch.demonstration.outlines import Colour, fitted_size, photo_with_outlines, with_prompt
from regionsearch.demonstration.paper import (
    ACCENT,
    CARD,
    CORNER,
    INK,
    MISSED,
    PAPER,
    QUIET,
    ROW_LINE,
    WELL,
    font,
    paste_into_well,
    shortened,
    wrapped,
)
from regionsearch.demonstration.questions import deepest_point
from regionsearch.demonstration.wording import drawable
from regionsearch.images import Image
from regionsearch.regions import Mask

REGION_COLOURS: tuple[Colour, ...] = (
    (0, 214, 180),
    (255, 176, 0),
    (214, 120, 255),
    (90, 170, 255),
    (255, 110, 90),
    (190, 220, 40),
    (255, 120, 190),
    (30, 130, 60),
    (150, 100, 40),
    (70, 70, 220),
    (170, 20, 60),
    (130, 240, 255),
)
"""By the ordinal of the region; a thirteenth takes the first again. Numbers stand beside them."""
HITS_SHOWN = 24
"""A picture of more would be taller than many programs show."""

# Everything below is in pixels of the sheet.
MARGIN = 36
GAP = 18
PADDING = 16
QUESTION_PICTURE = (400, 290)
EXAMPLE_PICTURE = (132, 96)
HIT_PICTURE = (292, 216)
CHART_WIDTH = 452
CARD_WIDTH = 2 * PADDING + HIT_PICTURE[0] + GAP + CHART_WIDTH
COLUMNS = 2
LINE = 24
HEADER = 84
EXAMPLES_SHOWN = 4

_NO_PIXELS = (120, 126, 136)
_NUMBER_RADIUS = 10
_SMALL, _TEXT, _LARGE, _TITLE = 13, 15, 20, 30
_OTHERS_A_LINE = 4
# Left edges, or right edges where a number ends, within a chart.
_RAW_END, _BAR_START, _BAR_END, _SD_END, _WEIGHT_END, _ADDS_END = 144, 160, 296, 348, 400, CHART_WIDTH


@dataclass(frozen=True, slots=True)
class _Axis:
    """The deviations that a bar can show, the same for all hits of a picture."""

    least: float
    most: float

    def at(self, deviations: float) -> float:
        """Pixels from the chart's left edge."""
        held = min(max(deviations, self.least), self.most)
        return _BAR_START + (_BAR_END - _BAR_START) * (held - self.least) / (self.most - self.least)


def draw_explanation(
    question: ExplainedQuestion, hits: Sequence[ExplainedHit], *, more: int = 0
) -> Pillow.Image:
    """An RGB picture as wide as two cards; its height follows from the question and the hits.

    more: hits that the answer has beside these, which are not drawn.
    """
    width = 2 * MARGIN + COLUMNS * CARD_WIDTH + (COLUMNS - 1) * GAP
    numbered = _numbered(question, hits)
    axis = _axis(hits)
    rows = [hits[start : start + COLUMNS] for start in range(0, len(hits), COLUMNS)]
    heights = [max(map(_card_height, row)) for row in rows]
    question_height = _question_height(question)
    height = HEADER + question_height + sum(heights) + GAP * (len(heights) or 1) + MARGIN
    height += LINE if more or not hits else 0
    sheet = Pillow.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 28), "RegionSearch", font=font(_TITLE), fill=INK, stroke_width=0.5)
    beside = draw.textlength("RegionSearch", font=font(_TITLE)) + 16
    draw.text((MARGIN + beside, 41), "why these hits", font=font(_TEXT), fill=QUIET)
    _draw_question(sheet, question, HEADER, question_height, width, numbered)
    top = HEADER + question_height + GAP
    if not hits:
        draw.text((MARGIN, top), "nothing found", font=font(_TEXT), fill=QUIET)
    for row, row_height in zip(rows, heights, strict=True):
        for column, hit in enumerate(row):
            left = MARGIN + column * (CARD_WIDTH + GAP)
            _draw_card(sheet, hit, left, top, row_height, axis, numbered)
        top += row_height + GAP
    if more:
        rest = f"and {more} more, which the table and --json list"
        draw.text((MARGIN, top), rest, font=font(_TEXT), fill=QUIET)
    return sheet


def _numbered(question: ExplainedQuestion, hits: Sequence[ExplainedHit]) -> bool:
    """Whether there are several regions, so that each needs its number."""
    pictures = [hit.picture for hit in hits] + ([question.picture] if question.picture else [])
    return any(ordinal > 0 for picture in pictures for ordinal, _ in picture.outlines)


def _axis(hits: Sequence[ExplainedHit]) -> _Axis:
    shown = [part.standardised for hit in hits for part in _rows(hit)]
    return _Axis(min(-1.0, math.floor(min(shown, default=0))), max(3.0, math.ceil(max(shown, default=0))))


def _rows(hit: ExplainedHit) -> tuple[ExplainedPart, ...]:
    return hit.parts + (() if hit.reread is None else (hit.reread,))


def colour_of(region: int) -> Colour:
    return REGION_COLOURS[region % len(REGION_COLOURS)]


def _drawn(picture: Pictured, within: tuple[int, int], numbered: bool) -> Pillow.Image:
    """The picture with outlines, what was pointed at, wanted boxes, and numbers of regions."""
    if picture.photo is None:
        size = fitted_size(picture.width, picture.height, within)
        photo = Image(np.full((size[1], size[0], 3), _NO_PIXELS, dtype=np.uint8))
    else:
        photo = picture.photo
    outlines = [(mask, colour_of(region)) for region, mask in picture.outlines]
    shown = photo_with_outlines(photo, within, outlines, beside=picture.others)
    scale = (shown.width / picture.width, shown.height / picture.height)
    for region, prompt in picture.prompts:
        shown = with_prompt(shown, prompt, scale, colour_of(region))
    draw = ImageDraw.Draw(shown)
    for region, box in picture.wanted:
        corners = (box.x0 * shown.width, box.y0 * shown.height, box.x1 * shown.width, box.y1 * shown.height)
        _dashed_box(draw, tuple(map(round, corners)), colour_of(region))
    if numbered:
        taken: list[tuple[float, float]] = []
        for region, mask in picture.outlines:
            taken.append(_free_place(_middle_of(mask, shown.size), taken, shown.size))
            _disc(draw, str(region + 1), *taken[-1], _NUMBER_RADIUS, colour_of(region))
    if picture.photo is None:
        note = "no pixels kept"
        length = draw.textlength(note, font=font(_SMALL))
        draw.text(
            (shown.width - length - 8, shown.height - 22), note, font=font(_SMALL), fill=(240, 240, 240)
        )
    return shown


def _dashed_box(draw: ImageDraw.ImageDraw, corners: tuple[int, ...], colour: Colour) -> None:
    x0, y0, x1, y1 = corners
    x1, y1 = max(x1 - 1, x0), max(y1 - 1, y0)
    for start in range(x0, x1, 12):
        for y in (y0, y1):
            draw.line((start, y, min(start + 7, x1), y), fill=colour, width=2)
    for start in range(y0, y1, 12):
        for x in (x0, x1):
            draw.line((x, start, x, min(start + 7, y1)), fill=colour, width=2)


def _middle_of(mask: Mask, size: tuple[int, int]) -> tuple[float, float]:
    """Where the mask is thickest, in pixels of a picture of that size (width, height)."""
    small = mask.resized(size[1], size[0])
    if small.pixels:
        point = deepest_point(small)
        return point.x, point.y
    box = mask.box()
    return box.x0 * size[0] / mask.width, box.y0 * size[1] / mask.height


def _free_place(
    wanted: tuple[float, float], taken: Sequence[tuple[float, float]], size: tuple[int, int]
) -> tuple[float, float]:
    """Where a number's disc is whole within the picture and covers no other: the nearest such place on
    rings around the wanted one, and that itself in a picture too small for all."""
    edge = _NUMBER_RADIUS + 2

    def within(x: float, y: float) -> tuple[float, float]:
        return (min(max(x, edge), size[0] - edge), min(max(y, edge), size[1] - edge))

    places = [within(*wanted)]
    for away in range(edge, max(size), edge):
        for turn in range(12):
            angle = turn * math.pi / 6
            places.append(within(wanted[0] + away * math.cos(angle), wanted[1] + away * math.sin(angle)))
    free = (place for place in places if all(math.dist(place, other) >= 2 * edge - 2 for other in taken))
    return next(free, places[0])


def _disc(draw: ImageDraw.ImageDraw, text: str, x: float, y: float, radius: float, colour: Colour) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=(10, 14, 20), width=1)
    lightness = sum(weight * level for weight, level in zip((0.3, 0.59, 0.11), colour, strict=True))
    ink = (10, 14, 20) if lightness > 110 else (255, 255, 255)
    draw.text((x, y), text, font=font(_SMALL), fill=ink, anchor="mm", stroke_width=0.3)


def _question_height(question: ExplainedQuestion) -> int:
    body = QUESTION_PICTURE[1] if question.picture is not None else 116
    lines = len(question.facts) * LINE + (80 if question.text else 0)
    examples = [len(kind) > 0 for kind in (question.liked, question.disliked)]
    lines += sum(examples) * (EXAMPLE_PICTURE[1] + LINE + 8)
    return 2 * PADDING + max(body, lines)


def _draw_question(
    sheet: Pillow.Image, question: ExplainedQuestion, top: int, height: int, width: int, numbered: bool
) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.rounded_rectangle(
        (MARGIN, top, width - MARGIN, top + height), CORNER + 4, fill=CARD, outline=ROW_LINE
    )
    left, y = MARGIN + PADDING, top + PADDING
    if question.picture is not None:
        shown = _drawn(question.picture, QUESTION_PICTURE, numbered)
        paste_into_well(sheet, shown, (left, y), QUESTION_PICTURE)
        left += QUESTION_PICTURE[0] + 28
    room = width - MARGIN - PADDING - left
    if question.text:
        lines = wrapped(draw, drawable(f"“{question.text}”"), 26, room, most=2)
        for line in lines:
            draw.text((left, y), line, font=font(26), fill=INK)
            y += 33
        y += 14
    for fact in question.facts:
        draw.text((left, y), shortened(draw, fact, _TEXT, room), font=font(_TEXT), fill=QUIET)
        y += LINE
    for title, examples in (("like", question.liked), ("unlike", question.disliked)):
        if not examples:
            continue
        more = len(examples) - EXAMPLES_SHOWN
        label = f"{title}, and {more} more" if more > 0 else title
        draw.text((left, y + 4), label, font=font(_TEXT), fill=INK)
        y += LINE + 4
        for place, example in enumerate(examples[:EXAMPLES_SHOWN]):
            at = (left + place * (EXAMPLE_PICTURE[0] + 12), y)
            paste_into_well(sheet, _drawn(example, EXAMPLE_PICTURE, False), at, EXAMPLE_PICTURE)
        y += EXAMPLE_PICTURE[1] + 4


def _card_height(hit: ExplainedHit) -> int:
    chart = LINE * (len(_rows(hit)) + 2) + 8 + 20 * len(notes_of(hit))
    return 2 * PADDING + 34 + max(HIT_PICTURE[1], chart)


def _draw_card(
    sheet: Pillow.Image,
    hit: ExplainedHit,
    left: int,
    top: int,
    height: int,
    axis: _Axis,
    numbered: bool,
) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.rounded_rectangle(
        (left, top, left + CARD_WIDTH, top + height), CORNER + 4, fill=CARD, outline=ROW_LINE
    )
    x, y = left + PADDING, top + PADDING
    score = f"{hit.score:.3f}"
    score_length = draw.textlength(score, font=font(_LARGE))
    end = left + CARD_WIDTH - PADDING
    draw.text((end - score_length, y - 3), score, font=font(_LARGE), fill=INK, stroke_width=0.4)
    rank = f"{hit.rank}  "
    draw.text((x, y), rank, font=font(17), fill=QUIET)
    indent = draw.textlength(rank, font=font(17))
    entity_length = draw.textlength(drawable(hit.entity), font=font(_SMALL))
    room = CARD_WIDTH - 2 * PADDING - score_length - indent - entity_length - 30
    name = shortened(draw, hit.picture.name, 17, max(room, 120))
    draw.text((x + indent, y), name, font=font(17), fill=INK)
    beside = x + indent + draw.textlength(name, font=font(17)) + 12
    entity = shortened(draw, hit.entity, _SMALL, end - score_length - 14 - beside)
    draw.text((beside, y + 3), entity, font=font(_SMALL), fill=QUIET)
    y += 34
    paste_into_well(sheet, _drawn(hit.picture, HIT_PICTURE, numbered), (x, y), HIT_PICTURE)
    _draw_chart(draw, hit, x + HIT_PICTURE[0] + GAP, y, axis)


def _draw_chart(draw: ImageDraw.ImageDraw, hit: ExplainedHit, left: int, top: int, axis: _Axis) -> None:
    rows = _rows(hit)
    _number(draw, "raw", left + _RAW_END, top, QUIET)
    draw.text((left + _BAR_START, top), "deviations (sd)", font=font(_SMALL), fill=QUIET)
    _number(draw, "sd", left + _SD_END, top, QUIET)
    _number(draw, "weight", left + _WEIGHT_END, top, QUIET)
    _number(draw, "adds", left + _ADDS_END, top, QUIET)
    y = top + LINE
    zero = left + axis.at(0)
    for part in rows:
        draw.text((left, y), drawable(part.name), font=font(_SMALL), fill=INK)
        _number(draw, f"{part.raw:.3f}", left + _RAW_END, y, INK)
        draw.rounded_rectangle((left + _BAR_START, y + 3, left + _BAR_END, y + 13), 2, fill=WELL)
        reach = left + axis.at(part.standardised)
        colour = ACCENT if part.standardised >= 0 else MISSED
        # A part without weight is measured, but adds nothing: it is drawn hollow.
        if abs(reach - zero) >= 1:
            span = (min(zero, reach), y + 3, max(zero, reach), y + 13)
            draw.rectangle(span, fill=colour if part.weight > 0 else WELL, outline=colour)
        _number(draw, _signed(part.standardised), left + _SD_END, y, INK)
        _number(draw, f"{part.weight:.2f}", left + _WEIGHT_END, y, INK)
        _number(draw, _signed(part.weight * part.standardised), left + _ADDS_END, y, INK)
        y += LINE
    draw.line((zero, top + LINE - 1, zero, y - 6), fill=QUIET, width=1)
    draw.line((left + _BAR_END + 12, y - 2, left + _ADDS_END, y - 2), fill=ROW_LINE, width=1)
    total = sum(part.weight * part.standardised for part in rows)
    draw.text((left + _BAR_END + 12, y + 2), "sum", font=font(_SMALL), fill=QUIET)
    _number(draw, _signed(total), left + _ADDS_END, y + 2, INK)
    y += LINE + 6
    for region, note in notes_of(hit):
        x: float = left
        if region is not None:
            _disc(draw, str(region + 1), left + 8, y + 8, 8, colour_of(region))
            x += 24
        draw.text(
            (x, y), shortened(draw, note, _SMALL, left + CHART_WIDTH - x), font=font(_SMALL), fill=QUIET
        )
        y += 20


def notes_of(hit: ExplainedHit) -> list[tuple[int | None, str]]:
    """(region, line) below the chart."""
    notes: list[tuple[int | None, str]] = []
    if len(hit.matches) > 1:
        notes += [
            (match.region, f"entity {match.entity}: cosine {match.raw:.3f}, {match.standardised:+.2f} sd")
            for match in hit.matches
        ]
    for start in range(0, len(hit.others), _OTHERS_A_LINE):
        also = hit.others[start : start + _OTHERS_A_LINE]
        said_of = ", ".join(f"entity {entity} ({score:.2f})" for entity, score in also)
        notes.append((None, f"{'also' if start == 0 else 'and'}: {said_of}"))
    elsewhere: dict[int, list[str]] = {}
    for part in hit.parts:
        if part.entity is not None:
            elsewhere.setdefault(part.entity, []).append(part.name)
    # A line for each entity: several do not fit beside each other.
    notes += [
        (None, f"measured on entity {entity}: {', '.join(names)}") for entity, names in elsewhere.items()
    ]
    ranks = (("entity arm", hit.entity_arm_rank), ("global arm", hit.global_arm_rank))
    said = (f"{arm}: {'not among its candidates' if rank is None else f'rank {rank}'}" for arm, rank in ranks)
    notes.append((None, " · ".join(said)))
    return notes


def _signed(number: float) -> str:
    """With its sign and two decimals, and no minus before a zero."""
    return f"{round(number, 2) + 0.0:+.2f}"


def _number(draw: ImageDraw.ImageDraw, text: str, right: float, y: float, colour: Colour) -> None:
    length = draw.textlength(text, font=font(_SMALL))
    draw.text((right - length, y), text, font=font(_SMALL), fill=colour)
