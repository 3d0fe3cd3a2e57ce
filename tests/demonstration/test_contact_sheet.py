"""The contact sheet, as a PNG and as a web page."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as Pillow

from regionsearch.demonstration.answer_pictures import hit_picture, question_picture
from regionsearch.demonstration.answers import Answer, Found, Part
from regionsearch.demonstration.contact_sheet import draw_contact_sheet
from regionsearch.demonstration.outlines import (
    ASKED,
    ASKED_FURTHER,
    FOUND,
    FOUND_FURTHER,
    fitted_size,
    photo_with_outline,
    photo_with_prompt,
)
from regionsearch.demonstration.questions import Question, Thing
from regionsearch.demonstration.web_page import contact_sheet_page
from regionsearch.demonstration.wording import SheetFacts, drawable, verdict
from regionsearch.images import Image
from regionsearch.regions import Box, Mask, Point, RegionPrompt

GREY = Image(np.full((120, 160, 3), 128, dtype=np.uint8))
SQUARE = Mask.from_box(Box(40, 30, 100, 90), 120, 160)
FACTS = SheetFacts("photos", 3, 9, "compact")


def is_near(pixels: np.ndarray, colour: tuple[int, int, int], within: int = 24) -> np.ndarray:
    return (np.abs(pixels.astype(int) - colour) <= within).all(axis=-1)


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_an_outline_follows_the_edge_of_its_mask(ratio: float) -> None:
    shown = photo_with_outline(
        GREY, (round(160 * ratio), round(120 * ratio)), SQUARE, FOUND, pixel_ratio=ratio
    )
    rows, columns = np.nonzero(is_near(np.asarray(shown), FOUND))
    for found, edges in ((columns, (40, 100)), (rows, (30, 90))):
        assert abs(found.min() / ratio - edges[0]) <= 3
        assert abs(found.max() / ratio - edges[1]) <= 3
    middle = np.asarray(shown)[round(60 * ratio), round(70 * ratio)]
    assert middle.tolist() == [128, 128, 128]  # what was found is shown as it is
    assert np.asarray(shown)[2, 2].max() < 100  # and the rest dimmed


def test_a_mask_that_fills_the_photo_is_outlined_along_its_frame() -> None:
    shown = np.asarray(photo_with_outline(GREY, (160, 120), Mask.full(120, 160), FOUND))
    near = is_near(shown, FOUND)
    assert near[0].mean() > 0.9
    assert near[:, -1].mean() > 0.9
    assert not near[10:-10, 10:-10].any()


def test_a_photo_keeps_its_proportions() -> None:
    assert fitted_size(400, 100, (200, 200)) == (200, 50)
    assert fitted_size(1, 4000, (200, 200)) == (1, 200)


def test_what_was_pointed_at_is_drawn_where_it_was() -> None:
    box = np.asarray(photo_with_prompt(GREY, (160, 120), RegionPrompt(box=Box(40, 30, 100, 90)), SQUARE))
    rows, columns = np.nonzero(is_near(box, ASKED))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (40, 99, 30, 89)
    point = np.asarray(photo_with_prompt(GREY, (160, 120), RegionPrompt(points=(Point(20, 100),)), None))
    rows, columns = np.nonzero(is_near(point, ASKED))
    assert abs(columns.mean() + 0.5 - 20) < 0.6
    assert abs(rows.mean() + 0.5 - 100) < 0.6


def found(image_id: str, score: float = 0.7) -> Found:
    parts = (Part("entity", 0.6, 4.25, 1.0), Part("global", 0.3, -0.5, 0.5))
    return Found(image_id, GREY, score, parts, 1, SQUARE, SQUARE.box(), SQUARE.area)


@pytest.fixture
def answers() -> list[Answer]:
    thing = Thing("right.jpg", 1, SQUARE, SQUARE.box(), SQUARE.area, 0.9)
    asked = Question("box", "What is in this box?", GREY, RegionPrompt(box=SQUARE.box()), expected=thing)
    words = Question("words", "“a dog”", text="a dog")
    return [
        Answer(asked, (found("right.jpg"), found("other.jpg", 0.4)), SQUARE, 12.0),
        Answer(words, (found("<script>alert(1)</script>.jpg"),), None, 3.0),
    ]


def test_the_sheet_has_a_row_for_each_question_and_room_for_every_hit(answers: list[Answer]) -> None:
    one = draw_contact_sheet(answers[:1], FACTS)
    both = draw_contact_sheet(answers, FACTS)
    assert both.height > one.height
    assert both.width == one.width
    narrow = draw_contact_sheet([replace(answers[0], found=answers[0].found[:1])], FACTS)
    assert narrow.width < one.width
    # The outlines are on it: of the query once, of every hit once.
    pixels = np.asarray(both)
    assert is_near(pixels, FOUND).sum() > 2 * is_near(np.asarray(narrow), FOUND).sum()
    assert is_near(pixels, ASKED, 8).sum() > 400


def test_of_two_regions_each_has_its_colour() -> None:
    other = Mask.from_box(Box(110, 95, 150, 115), 120, 160)
    hit = np.asarray(hit_picture(replace(found("a.jpg"), others=(other,)), (160, 120)))
    asked = Question(
        "two boxes",
        "both?",
        GREY,
        RegionPrompt(box=SQUARE.box()),
        further=(RegionPrompt(box=other.box()),),
    )
    query = question_picture(Answer(asked, (), SQUARE, 1.0), (160, 120))
    for shown, colours in ((hit, (FOUND, FOUND_FURTHER)), (np.asarray(query), (ASKED, ASKED_FURTHER))):
        for colour, left in zip(colours, (40, 110), strict=True):
            assert abs(np.nonzero(is_near(shown, colour))[1].min() - left) <= 3


def test_an_answer_without_hits_can_be_drawn(answers: list[Answer]) -> None:
    empty = [replace(answers[1], found=())]
    assert draw_contact_sheet(empty, FACTS).width > 400
    assert "no hits" in contact_sheet_page(empty, FACTS)


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(ValueError, match="one answer at least"):
        draw_contact_sheet([], FACTS)


class PageReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str]] = []
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append({name: value or "" for name, value in attrs})

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_needs_nothing_beside_it_and_describes_every_picture(answers: list[Answer]) -> None:
    page = contact_sheet_page(answers, FACTS)
    reader = PageReader()
    reader.feed(page)
    assert len(reader.images) == 4  # one query picture, three hits
    for image in reader.images:
        kind, _, data = image["src"].partition("base64,")
        assert kind == "data:image/jpeg;"
        with Pillow.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.width == 640
        assert len(image["alt"]) > 30
    assert not re.search(r"(?:src|href)=\"(?!data:)|url\(|@import", page)
    assert not {"script", "link", "iframe"} & set(reader.tags)


def test_a_file_name_cannot_become_markup(answers: list[Answer]) -> None:
    reader = PageReader()
    reader.feed(contact_sheet_page(answers, FACTS))
    assert "script" not in reader.tags
    assert any("<script>alert(1)</script>.jpg" in text for text in reader.text)


def test_names_in_other_scripts_can_be_drawn(answers: list[Answer]) -> None:
    assert drawable("Überraschung été.jpg") == "Uberraschung ete.jpg"
    assert drawable("猫.jpg") == "?.jpg"
    draw_contact_sheet([replace(answers[0], found=(found("фото/猫.jpg"), found("a" * 400)))], FACTS)


def test_the_verdict_says_what_is_known(answers: list[Answer]) -> None:
    assert verdict(answers[0]) == "made from right.jpg: found first, overlap 1.00"
    assert verdict(answers[1]) is None
    missed = replace(answers[0], found=(found("other.jpg"),))
    assert verdict(missed) == "made from right.jpg, which is not among these hits"
