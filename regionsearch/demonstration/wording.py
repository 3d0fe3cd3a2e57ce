"""The words that both forms of the contact sheet share."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from regionsearch.demonstration.answers import Answer, Found
from regionsearch.demonstration.questions import Question

PART_MEANING = {
    "entity": "region to entity",
    "global": "picture to picture",
    "text_entity": "words to entity",
    "text_image": "words to picture",
    "placement": "where the entity lies and how large it is",
    "objectness": "how much like a thing the entity looks",
}

GOOD_OVERLAP = 0.5

HOW_TO_READ = (
    "sd: standard deviations above what random pairs score · overlap: pixels that the matched entity and the "
    "thing asked about share, of all pixels of the two · of two boxes, the second in coral and its match in "
    "violet"
)


@dataclass(frozen=True, slots=True)
class SheetFacts:
    """What was indexed: the source as the user knows it, counts, and the embedder's name."""

    source: str
    images: int
    entities: int
    embedder: str

    def __str__(self) -> str:
        return (
            f"{counted(self.images, 'photo')} from {self.source}, cut into "
            f"{counted(self.entities, 'entity', 'entities')}; embedder {self.embedder}; "
            "every answer came over gRPC from a running server"
        )


def counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def caption(question: Question) -> str:
    """The line below a query; words alone stand in the picture's place already."""
    return "Which photos show this?" if question.picture is None else question.sentence


def verdict(answer: Answer) -> str | None:
    """Whether the known right answer was found; None where nobody knows it."""
    expected = answer.question.expected
    if expected is None:
        return None
    if answer.rank is None or answer.overlap is None:
        return f"made from {expected.image_id}, which is not among these hits"
    place = "first" if answer.rank == 1 else f"at place {answer.rank}"
    return f"made from {expected.image_id}: found {place}, overlap {answer.overlap:.2f}"


def badge(hit: Found, answer: Answer) -> str | None:
    """What a hit says about itself when it is the photo that the question was made from."""
    overlap = answer.overlap_of(hit)
    return None if overlap is None else f"asked about · overlap {overlap:.2f}"


def is_good(hit: Found, answer: Answer) -> bool:
    overlap = answer.overlap_of(hit)
    return overlap is not None and overlap >= GOOD_OVERLAP


def alt_text(hit: Found) -> str:
    """The picture in words, for those who do not see it."""
    x0, y0, x1, y1 = (round(side) for side in hit.box.as_tuple())
    return (
        f"{hit.image_id} with the matched entity outlined: {hit.area:.0%} of the photo, "
        f"within x {x0} to {x1}, y {y0} to {y1}"
    )


def query_alt_text(answer: Answer) -> str:
    """The query picture in words."""
    question = answer.question
    if question.picture is None:
        return f"a query in words alone: {question.sentence}"
    if question.region is None:
        return f"the indexed photo {question.image_id} with entity {question.entity} outlined"
    shape = {
        "box": "a box",
        "point": "a point",
        "mask": "an outline",
        "box + words": "a box",
        "two boxes": "two boxes",
    }[question.kind]
    made_from = f", a mirrored and smaller view of {question.expected.image_id}" if question.expected else ""
    return f"the query picture{made_from}, with {shape} drawn in"


def drawable(text: str) -> str:
    """The text in characters that Pillow's own typeface has; others lose their accents or become `?`.

    The web page shows names as they are; only the PNG needs this.
    """
    plain = []
    for character in text:
        if character in _DRAWABLE:
            plain.append(character)
            continue
        letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        plain.append(letters or "?")
    return "".join(plain)


_DRAWABLE = frozenset(map(chr, range(32, 127))) | frozenset("’“”·…±°")
