"""Which questions annotations make, and what answers them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from regionsearch.evaluation.coco_annotations import (
    AnnotatedImage,
    AnnotatedObject,
    AnnotatedPhotos,
    read_folders,
)
from regionsearch.evaluation.coco_questions import (
    caption_questions,
    class_questions,
    composed_questions,
    region_questions,
)

LARGE, SMALL = 40.0, 5.0


def photos_of(*contents: dict[str, list[float]]) -> AnnotatedPhotos:
    """Photos of 100 × 100 pixels; each is given by class as the sides of its square objects, pixels."""
    images = tuple(
        AnnotatedImage(
            image_id=f"{number:02}",
            path=Path(f"{number:02}.png"),
            width=100,
            height=100,
            objects=tuple(
                AnnotatedObject(name, (0.0, 0.0, side, side), side * side / 10_000, ())
                for name, sides in content.items()
                for side in sides
            ),
        )
        for number, content in enumerate(contents)
    )
    return AnnotatedPhotos(images, tuple(sorted({name for content in contents for name in content})))


def test_classes_in_three_photos_are_asked_for_in_words() -> None:
    photos = photos_of(
        {"kite": [SMALL], "drum": [LARGE]}, {"kite": [SMALL]}, {"kite": [LARGE], "drum": [SMALL]}
    )
    (question,) = class_questions(photos)
    assert question.text == "a photo of a kite"
    assert question.relevant == {"00", "01", "02"}
    assert question.left_out is None


def test_the_largest_box_of_a_class_is_the_region_when_it_is_large_and_others_have_the_class() -> None:
    photos = photos_of({"kite": [LARGE, LARGE + 1, SMALL]}, {"kite": [SMALL]}, {"drum": [LARGE]})
    (question,) = region_questions(photos)
    assert question.box == (0, 0, LARGE + 1, LARGE + 1)
    assert question.relevant == {"01"}
    assert question.left_out == "00"


def test_a_pair_is_asked_with_photos_of_the_first_class_alone() -> None:
    both = {"kite": [LARGE], "drum": [LARGE]}
    photos = photos_of(both, both, both, {"kite": [LARGE]}, {"kite": [SMALL]}, {"drum": [SMALL]})
    (question,) = composed_questions(photos)
    assert (question.group, question.text, question.image_id) == ("kite + drum", "with a drum", "03")
    assert question.relevant == {"00", "01", "02"}


def test_at_most_five_photos_ask_for_a_pair_and_always_the_same() -> None:
    both = {"kite": [LARGE], "drum": [SMALL]}
    photos = photos_of(*[both] * 3, *[{"kite": [LARGE]}] * 9)
    questions = composed_questions(photos)
    assert len(questions) == 5
    assert len({question.image_id for question in questions}) == 5
    assert composed_questions(photos) == questions


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abcd"), st.lists(st.sampled_from([SMALL, LARGE]), min_size=1, max_size=2)
        ),
        min_size=1,
        max_size=12,
    )
)
def test_composed_questions_are_those_of_the_definition(contents: list[dict[str, list[float]]]) -> None:
    photos = photos_of(*contents)
    expected: dict[str, tuple[set[str], set[str]]] = {}
    for a in "abcd":
        for b in "abcd":
            answers = {f"{n:02}" for n, c in enumerate(contents) if a in c and b in c}
            sources = {f"{n:02}" for n, c in enumerate(contents) if LARGE in c.get(a, []) and b not in c}
            if a != b and len(answers) >= 3 and sources:
                expected[f"{a} + {b}"] = (answers, sources)
    asked: dict[str, set[str]] = {}
    for question in composed_questions(photos):
        answers, sources = expected[question.group]
        assert question.relevant == answers
        assert question.image_id in sources
        asked.setdefault(question.group, set()).add(question.image_id or "")
    assert {group: len(ids) for group, ids in asked.items()} == {
        group: min(5, len(sources)) for group, (_, sources) in expected.items()
    }


def test_a_caption_asks_for_the_photo_that_it_describes() -> None:
    image = AnnotatedImage("a", Path("a"), 10, 10, (), ("one", "two"))
    questions = caption_questions(AnnotatedPhotos((image,), ()))
    assert [question.text for question in questions] == ["one", "two"]
    assert all(question.relevant == {"a"} and question.left_out is None for question in questions)


def test_real_annotations_give_the_questions_that_their_counts_say(data_folder: Path) -> None:
    coco128 = data_folder / "coco128"
    photos = read_folders([coco128 / "images"], [coco128 / "instances.json"])
    assert len(photos.images) == 128
    assert len(photos.classes) == 80
    assert len(class_questions(photos)) == 49
    assert len(region_questions(photos)) == 223
    assert len(composed_questions(photos)) == 269
