"""A sheet of judged answers: a row for each question, the query on the left and its hits beside it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image as Pillow
from PIL import ImageDraw

from regionsearch.demonstration.explanation import colour_of
from regionsearch.demonstration.outlines import photo_with_outlines, with_prompt
from regionsearch.demonstration.paper import (
    CARD,
    CORNER,
    GOOD,
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
from regionsearch.demonstration.sheet_answers import JudgedAnswer, SheetHit
from regionsearch.demonstration.sheet_questions import SheetQuestion
from regionsearch.demonstration.wording import counted
from regionsearch.regions import Point, RegionPrompt

HITS_SHOWN = 6

# Everything below is in pixels of the sheet.
MARGIN = 30
PADDING = 14
GAP = 12
QUERY = (232, 168)
HIT = (196, 147)
HEADER = 100
ROW = 2 * PADDING + QUERY[1] + 46
WIDTH = 2 * MARGIN + 2 * PADDING + QUERY[0] + HITS_SHOWN * (GAP + HIT[0]) + GAP


def draw_sheet(title: str, facts: str, answers: Sequence[JudgedAnswer]) -> Pillow.Image:
    """An RGB picture. facts: the line below the title. answers: the best first, 1 at least."""
    sheet = Pillow.new("RGB", (WIDTH, HEADER + len(answers) * (ROW + GAP) + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 24), title, font=font(28), fill=INK, stroke_width=0.4)
    draw.text((MARGIN, 66), shortened(draw, facts, 15, WIDTH - 2 * MARGIN), font=font(15), fill=QUIET)
    right: float = WIDTH - MARGIN
    for words, is_right in (("not", False), ("a right answer", True)):
        right -= draw.textlength(words, font=font(15))
        draw.text((right, 32), words, font=font(15), fill=INK)
        _draw_mark(draw, right - 16, 41, is_right)
        right -= 46
    for number, answer in enumerate(answers):
        _draw_row(sheet, answer, HEADER + number * (ROW + GAP))
    return sheet


def _draw_row(sheet: Pillow.Image, answer: JudgedAnswer, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.rounded_rectangle((MARGIN, top, WIDTH - MARGIN, top + ROW), CORNER + 2, fill=CARD, outline=ROW_LINE)
    left, y = MARGIN + PADDING, top + PADDING
    _draw_query(sheet, answer, left, y)
    y += QUERY[1] + 9
    room = QUERY[0]
    for line in wrapped(draw, said_by(answer.question), 15, room, most=2):
        draw.text((left, y), line, font=font(15), fill=INK)
        y += 19
    left += QUERY[0] + 2 * GAP
    for place, hit in enumerate(answer.hits, start=1):
        _draw_hit(sheet, hit, place, left, top + PADDING)
        left += HIT[0] + GAP
    if not answer.hits:
        draw.text((left, top + PADDING + 60), "no hits", font=font(16), fill=QUIET)
    judged = (
        f"right: {answer.question.wanted} ({answer.relevant} of {answer.ranked} photos); "
        f"average precision {answer.average_precision:.2f}"
    )
    left = MARGIN + PADDING + QUERY[0] + 2 * GAP
    where = (left, top + PADDING + QUERY[1] + 18)
    draw.text(where, shortened(draw, judged, 15, WIDTH - MARGIN - PADDING - left), font=font(15), fill=QUIET)


def _draw_query(sheet: Pillow.Image, answer: JudgedAnswer, left: int, top: int) -> None:
    question = answer.question
    if answer.photo is not None:
        outlines = [(mask, colour_of(number)) for number, mask in enumerate(answer.used)]
        shown = photo_with_outlines(answer.photo, QUERY, outlines)
        for number, (x, y) in enumerate(question.points):
            click = RegionPrompt(points=(Point(x * shown.width, y * shown.height),))
            shown = with_prompt(shown, click, (1.0, 1.0), colour_of(number))
        paste_into_well(sheet, shown, (left, top), QUERY)
        return
    draw = ImageDraw.Draw(sheet)
    examples = [(photo, True) for photo in answer.liked] + [(photo, False) for photo in answer.disliked]
    if not examples:
        draw.rounded_rectangle((left, top, left + QUERY[0], top + QUERY[1]), CORNER, fill=WELL)
        _draw_middle(draw, f"“{question.text}”", left, top, QUERY[1])
        return
    size = ((QUERY[0] - 8) // 2, (QUERY[1] - 8) // 2)
    for number, (photo, liked) in enumerate(examples[:4]):
        at = (left + number % 2 * (size[0] + 8), top + number // 2 * (size[1] + 8))
        paste_into_well(sheet, photo_with_outlines(photo, size, []), at, size)
        _draw_badge(draw, "like" if liked else "unlike", at[0] + 4, at[1] + 4)
    if question.text is not None and len(examples) <= 2:
        _draw_middle(draw, f"“{question.text}”", left, top + size[1] + 8, size[1])


def _draw_middle(draw: ImageDraw.ImageDraw, text: str, left: int, top: int, height: int) -> None:
    lines = wrapped(draw, text, 21, QUERY[0] - 24)
    y = top + (height - 27 * len(lines)) // 2
    for line in lines:
        length = draw.textlength(line, font=font(21))
        draw.text((left + (QUERY[0] - length) / 2, y), line, font=font(21), fill=INK)
        y += 27


def _draw_badge(draw: ImageDraw.ImageDraw, text: str, left: float, top: float) -> None:
    length = draw.textlength(text, font=font(13))
    draw.rounded_rectangle((left, top, left + length + 12, top + 19), 9, fill=CARD, outline=ROW_LINE)
    draw.text((left + 6, top + 2), text, font=font(13), fill=INK)


def _draw_hit(sheet: Pillow.Image, hit: SheetHit, place: int, left: int, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    outlines = [(mask, colour_of(region)) for region, mask in hit.outlines]
    paste_into_well(sheet, photo_with_outlines(hit.photo, HIT, outlines), (left, top), HIT)
    y = top + HIT[1] + 7
    _draw_mark(draw, left + 9, y + 9, hit.right)
    score = f"{hit.score:.2f}"
    length = draw.textlength(score, font=font(15))
    draw.text((left + HIT[0] - length, y), score, font=font(15), fill=INK)
    name = f"{place}  {hit.image_id.rpartition('/')[2].rpartition('.')[0]}"
    room = HIT[0] - length - 34
    draw.text((left + 24, y), shortened(draw, name, 15, room), font=font(15), fill=QUIET)


def _draw_mark(draw: ImageDraw.ImageDraw, x: float, y: float, right: bool) -> None:
    """A tick or a cross within a disc: the two differ in shape, not in colour alone."""
    draw.ellipse((x - 8, y - 8, x + 8, y + 8), fill=GOOD if right else MISSED)
    if right:
        draw.line(((x - 4, y), (x - 1, y + 3), (x + 4, y - 3)), fill=CARD, width=2, joint="curve")
    else:
        draw.line((x - 3, y - 3, x + 3, y + 3), fill=CARD, width=2)
        draw.line((x - 3, y + 3, x + 3, y - 3), fill=CARD, width=2)


def said_by(question: SheetQuestion) -> str:
    """What the question says beside its picture, in words."""
    said = []
    if question.points:
        said.append("a click" if len(question.points) == 1 else counted(len(question.points), "click"))
    if question.entity_at is not None:
        said.append("this entity, by its id")
    if question.text is not None and (question.photo is not None or question.own):
        said.append(f"“{question.text}”")
    for examples, feeling in ((question.liked, "liked"), (question.disliked, "disliked")):
        if examples:
            said.append(f"{len(examples)} {feeling}")
    if question.place is not None:
        said.append(f"in the {question.place.replace('_', ' ')}")
    if question.min_area is not None:
        said.append(f"at least {question.min_area:.0%} of the photo")
    if question.max_area is not None:
        said.append(f"at most {question.max_area:.0%} of the photo")
    if question.min_count is not None:
        said.append(f"at least {question.min_count} of them")
    return ", ".join(said) if said else "words alone"
