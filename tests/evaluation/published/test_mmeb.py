"""MMEB's tasks, both forms of its files, its strings and who counts as the same candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from published_files import write_parquet

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.published.mmeb import (
    MEANS,
    MmebRow,
    MmebSubset,
    candidate_of,
    query_of,
    read_task,
    retrieval_of,
    task_files,
    tasks_of_mean,
)
from regionsearch.evaluation.published.mmeb_tasks import TASKS
from regionsearch.evaluation.published.wording import wording_of

VIRTUE = wording_of("virtue")


def row(
    inst: str | None = "",
    text: str = "",
    image: str = "q.jpg",
    tgt_inst: str = "",
    captions: tuple[str, ...] = ("yes", "no"),
    images: tuple[str, ...] = ("", ""),
) -> MmebRow:
    return MmebRow(inst, text, image, tgt_inst, captions, images)


def test_there_are_36_tasks_of_which_20_are_in_distribution() -> None:
    counts = {mean: len(tasks_of_mean(mean)) for mean in MEANS}
    assert counts == {"CLS": 10, "VQA": 10, "RET": 12, "VG": 4, "IND": 20, "OOD": 16, "all": 36}


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        (
            "OK-VQA",
            row("<|image_1|>\nRepresent the given image with the following question:", "What is it?"),
            "<|image_pad|>\nRepresent the given image with the following question: What is it?\n",
        ),
        (
            "ImageNet-1K",
            row("<|image_1|>\nRepresent the given image for classification"),
            "<|image_pad|>\nRepresent the given image for classification\n",
        ),
        (
            # Unlike a question, a class's instruction keeps the space that it starts with.
            "ImageNet-1K",
            row("<|image_1|> Represent the given image for classification", "now"),
            "<|image_pad|>  Represent the given image for classification now\n",
        ),
        (
            "MSCOCO_i2t",
            row("<|image_1|> Find an image caption describing the image."),
            "<|image_pad|>  Find an image caption describing the image.\n",
        ),
        (
            "CIRR",
            row("<|image_1|>\nGiven an image, find a similar one: \n", "with a dog"),
            "<|image_pad|>\nGiven an image, find a similar one: with a dog\n",
        ),
        ("MSCOCO_t2i", row("Find me an image:", "A dog."), "Find me an image: A dog.\n"),
        ("VisDial", row("Represent the dialogue:", "Q: A dog?"), "Represent the dialogue: Q: A dog?\n\n"),
    ],
)
def test_queries_are_worded_as_by_the_published_program(task: str, given: MmebRow, expected: str) -> None:
    query = query_of(TASKS[task], given, VIRTUE)
    assert query.text == expected
    assert (query.image is None) == (TASKS[task].parser == "image_t2i")


@pytest.mark.parametrize(
    ("task", "captions", "expected"),
    [
        ("ImageNet-1K", ("dog",), "dog"),
        ("OK-VQA", ("a dog",), "a dog"),
        ("VisualNews_i2t", ("A dog.",), "A dog."),
        ("MSCOCO_t2i", ("",), "<|image_pad|>\nRepresent the given image.\n"),
        ("WebQA", ("Wiki",), "<|image_pad|>\nRepresent the given image. Wiki\n"),
        # Grounding: a line's end only behind a caption.
        ("RefCOCO", ("",), "<|image_pad|>\nRepresent the given image."),
        ("RefCOCO-Matching", ('"left dog"',), '<|image_pad|>\nRepresent the given image. "left dog"\n'),
    ],
)
def test_candidates_are_worded_as_by_the_published_program(
    task: str, captions: tuple[str, ...], expected: str
) -> None:
    given = row(
        "i", "t", tgt_inst="<|image_1|>\nRepresent the given image.", captions=captions, images=("c",)
    )
    candidate = candidate_of(TASKS[task], given, 0, VIRTUE)
    assert candidate.text == expected
    assert candidate.image == ("c" if "<|image_pad|>" in expected else None)


def test_strings_of_the_form_with_one_string_are_kept_but_for_the_token() -> None:
    given = row(None, "<|image_1|>\nFind: a dog\n", captions=("<|image_1|> Represent it.\n",), images=("c",))
    assert query_of(TASKS["CIRR"], given, VIRTUE).text == "<|image_pad|>\nFind: a dog\n"
    assert candidate_of(TASKS["CIRR"], given, 0, VIRTUE).text == "<|image_pad|> Represent it.\n"
    bare = row(None, "Find:", captions=("",), images=("c",))
    assert candidate_of(TASKS["CIRR"], bare, 0, VIRTUE).text == "<|image_pad|> "


@pytest.mark.parametrize(
    ("kind", "task", "query", "candidate"),
    [
        ("abc", "ImageNet-1K", "Say what.", "A photo of a dog."),
        ("abc", "OK-VQA", "Say what. Is it?", "dog"),
        ("abc", "MSCOCO_t2i", "Is it?", "dog"),
        ("compact", "ImageNet-1K", "Is it?", "dog"),
        ("compact", "CIRR", "Is it?", "dog"),
    ],
)
def test_models_with_other_wordings_get_theirs(kind: str, task: str, query: str, candidate: str) -> None:
    text = "" if kind == "abc" and task == "ImageNet-1K" else "Is it?"
    given = row("<|image_1|>\nSay what.", text, captions=("dog",), images=("c",), tgt_inst="Represent.")
    assert query_of(TASKS[task], given, wording_of(kind)).text == query
    assert candidate_of(TASKS[task], given, 0, wording_of(kind)).text == candidate


def test_a_picture_without_words_is_asked_without_words() -> None:
    given = row("<|image_1|>\nSay what.", captions=("",), images=("c",))
    assert query_of(TASKS["ImageNet-1K"], given, wording_of("dual_encoder")).text is None
    assert candidate_of(TASKS["NIGHTS"], given, 0, wording_of("dual_encoder")).text is None


@pytest.mark.parametrize(
    ("task", "captions", "images", "choices"),
    [
        ("OK-VQA", ("a", "b", "a"), ("", "", ""), [0, 1, 0]),
        ("WebQA", ("a", "b", "c"), ("x", "y", "x"), [0, 1, 0]),  # by the picture alone
        ("RefCOCO-Matching", ("a", "b", '"a"'), ("x", "x", "x"), [0, 1, 0]),  # quotes apart
        ("RefCOCO", ("", "", ""), ("x", "y", "x"), [0, 1, 0]),
    ],
)
def test_equal_candidates_are_one_and_the_first_one_met(
    task: str, captions: tuple[str, ...], images: tuple[str, ...], choices: list[int]
) -> None:
    subset = MmebSubset(TASKS[task], [row("i", "t", captions=captions, images=images)])
    retrieval = retrieval_of(subset, VIRTUE)
    assert retrieval.choices is not None
    assert retrieval.choices[0].tolist() == choices
    assert retrieval.correct[0].tolist() == [0]
    assert len(retrieval.candidates) == 2


INSTRUCT = {
    "qry_inst": "<|image_1|>\nAsk:",
    "qry_text": "what?",
    "qry_img_path": "q.jpg",
    "tgt_inst": "",
    "tgt_text": ["a", "b"],
    "tgt_img_path": ["", ""],
}


def test_both_published_forms_are_read(tmp_path: Path) -> None:
    one_string = {"qry_text": "<|image_1|>\nAsk: what?\n", "qry_img_path": "q.jpg", "tgt_text": ["a", "b"]}
    write_parquet(tmp_path / "GQA" / "test-00000-of-00001.parquet", [INSTRUCT])
    write_parquet(tmp_path / "DocVQA.parquet", [one_string])
    files = task_files([tmp_path])
    assert list(files) == ["DocVQA", "GQA"]  # in the published order
    expected = "<|image_pad|>\nAsk: what?\n"
    for name, paths in files.items():
        subset = read_task(TASKS[name], paths)
        assert query_of(subset.task, subset.rows[0], VIRTUE).text == expected
        assert subset.is_instruct_form == (name == "GQA")


def test_the_test_split_is_read_where_a_folder_holds_others(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path / "GQA" / f"{split}-00000-of-00001.parquet", [INSTRUCT])
    assert [path.name for path in task_files([tmp_path])["GQA"]] == ["test-00000-of-00001.parquet"]
    assert task_files([tmp_path / "GQA" / "train-00000-of-00001.parquet"], ["GQA"])


def test_unknown_tasks_and_files_are_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "Poems.parquet", [INSTRUCT])
    with pytest.raises(InvalidRequest, match=r"Poems\.parquet is called after no task"):
        task_files([file])
    with pytest.raises(InvalidRequest, match="holds no TASK"):
        task_files([tmp_path])
    with pytest.raises(InvalidRequest, match="has no task 'Poems'"):
        task_files([tmp_path], ["Poems"])
    write_parquet(tmp_path / "GQA.parquet", [INSTRUCT])
    with pytest.raises(InvalidRequest, match="no file of the task 'OVEN'"):
        task_files([tmp_path], ["OVEN"])


def test_parts_of_a_task_are_read_together_but_nothing_twice(tmp_path: Path) -> None:
    for part in range(2):
        write_parquet(tmp_path / "a" / "GQA" / f"test-0000{part}-of-00002.parquet", [INSTRUCT])
    whole = write_parquet(tmp_path / "b" / "GQA.parquet", [INSTRUCT])
    parts = task_files([tmp_path / "a"])["GQA"]
    assert [path.name[:10] for path in parts] == ["test-00000", "test-00001"]
    assert task_files(parts)["GQA"] == parts
    for twice in ([tmp_path / "a", tmp_path / "b"], [whole, whole], [tmp_path / "a", parts[1]]):
        with pytest.raises(InvalidRequest, match="'GQA' is given more than once"):
            task_files(twice)


@pytest.mark.parametrize(
    ("task", "changed", "message"),
    [
        ("GQA", {"qry_img_path": ""}, "GQA asks with a picture, none is named"),
        ("CIRR", {}, "a candidate of CIRR names no picture"),
        ("GQA", {"tgt_img_path": ["x"]}, "2 tgt_text, but 1 tgt_img_path"),
        ("GQA", {"tgt_text": "a"}, "column 'tgt_text'"),
    ],
)
def test_a_row_that_does_not_fit_its_task_is_named(
    tmp_path: Path, task: str, changed: dict[str, Any], message: str
) -> None:
    file = write_parquet(tmp_path / f"{task}.parquet", [{**INSTRUCT, **changed}])
    with pytest.raises(InvalidRequest, match=message):
        read_task(TASKS[task], [file])
