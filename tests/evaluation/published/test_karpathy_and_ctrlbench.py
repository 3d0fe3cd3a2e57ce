"""The files of Karpathy's splits and of CtrlBench, and what is asked with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from drawn_photos import draw_folder
from published_files import write_ctrlbench, write_karpathy

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.published import ctrlbench, karpathy
from regionsearch.evaluation.published.karpathy import CaptionedImage
from regionsearch.evaluation.published.wording import wording_of


def test_a_split_is_read_with_its_captions_trimmed(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path, 4)
    file = write_karpathy(folder, tmp_path / "dataset_flickr30k.json")
    split = karpathy.read_split(file, folder.images)
    assert [one.image for one in split] == ["000.png", "001.png", "002.png"]
    assert all(caption == caption.strip() for one in split for caption in one.captions)
    assert [one.image for one in karpathy.read_split(file, folder.images, "train")] == ["003.png"]
    assert len(karpathy.read_split(file, folder.images, limit=2)) == 2
    with pytest.raises(InvalidRequest, match="no picture in the split 'val'"):
        karpathy.read_split(file, folder.images, "val")


def test_pictures_lie_in_the_folder_itself_or_as_the_file_says(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "flat", 3)
    file = write_karpathy(folder, tmp_path / "dataset_coco.json", below="val2014")
    assert karpathy.read_split(file, folder.images)[0].image == "000.png"
    (tmp_path / "deep").mkdir()
    folder.images.rename(tmp_path / "deep" / "val2014")
    assert karpathy.read_split(file, tmp_path / "deep")[0].image == "val2014/000.png"


def test_every_caption_answers_its_picture_and_the_picture_every_caption() -> None:
    split = [CaptionedImage("a", ("1", "2")), CaptionedImage("b", ("3",))]
    i2t, t2i = karpathy.retrievals_of(split, wording_of("virtue"))
    assert [one.text for one in i2t.queries] == ["<|image_pad|>\nRepresent the given image.\n"] * 2
    assert [one.text for one in i2t.candidates] == ["1", "2", "3"]
    assert [places.tolist() for places in i2t.correct] == [[0, 1], [2]]
    assert [places.tolist() for places in t2i.correct] == [[0], [0], [1]]
    plain, _ = karpathy.retrievals_of(split, wording_of("compact"))
    assert [one.text for one in plain.queries] == [None, None]


@pytest.mark.parametrize("content", ["nothing", "[]", '{"images": [{"split": "test"}]}'])
def test_what_is_no_karpathy_split_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(InvalidRequest, match=r"x\.json is not"):
        karpathy.read_split(file, tmp_path)


def test_another_file_is_told_what_a_karpathy_split_holds(tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text('{"images": [{"id": 1, "file_name": "a.jpg"}]}')
    with pytest.raises(InvalidRequest, match=r"there is no 'split'.*`sentences`.*dataset_flickr30k\.json"):
        karpathy.read_split(tmp_path / "captions.json", tmp_path)


def test_both_forms_of_controlled_pairs_say_the_same(tmp_path: Path) -> None:
    listed: dict[str, Any] = {
        "image": "a",
        "pairs": [{"prompt": "p", "desc": "d"}, {"prompt": "q", "desc": "e"}],
    }
    numbered = {"image": "a", "prompt_1": "p", "desc_1": "d", "prompt_10": "q", "desc_10": "e"}
    (tmp_path / "listed.json").write_text(json.dumps([listed]))
    (tmp_path / "numbered.jsonl").write_text(json.dumps(numbered) + "\n\n")
    expected = [ctrlbench.ControlledPair("a", "p", "d"), ctrlbench.ControlledPair("a", "q", "e")]
    assert ctrlbench.read_pairs(tmp_path / "listed.json") == expected
    assert ctrlbench.read_pairs(tmp_path / "numbered.jsonl") == expected


def test_equal_captions_are_one_candidate_and_every_instruction_a_query(tmp_path: Path) -> None:
    pairs = [ctrlbench.ControlledPair(image, "what?", "a dog") for image in ("a", "b")]
    retrieval = ctrlbench.retrieval_of(
        [*pairs, ctrlbench.ControlledPair("a", "how?", "x")], wording_of("vlm")
    )
    assert [one.text for one in retrieval.candidates] == ["a dog", "x"]
    assert [places.tolist() for places in retrieval.correct] == [[0], [0], [1]]
    assert retrieval.queries[2].text == "<|image_pad|>\nhow?\n"
    assert ctrlbench.query_of(pairs[0], wording_of("abc")).text == "what?"
    assert ctrlbench.query_of(pairs[0], wording_of("dual_encoder")).text == "what?"


def test_a_limit_of_controlled_pairs_counts_pictures(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path, 6)
    file = write_ctrlbench(folder, tmp_path / "ctrl.jsonl")
    assert len({pair.image for pair in ctrlbench.read_pairs(file, 2)}) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "neither a JSON array nor JSON lines"),
        ("[3]", "entry 0: is no object with the path"),
        ('{"image": "a"}', "neither `pairs` nor `prompt_0`"),
        ('{"image": "a", "prompt_0": "p"}', "'desc_0' is no text"),
        ('{"image": "a", "pairs": ["p"]}', "no list of objects"),
        ("[]", "holds no pair"),
        ('{"image": "Müller"}', "is not UTF-8"),
    ],
)
def test_pairs_of_another_form_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.json").write_text(content, encoding="latin-1")
    with pytest.raises(InvalidRequest, match=message):
        ctrlbench.read_pairs(tmp_path / "x.json")
