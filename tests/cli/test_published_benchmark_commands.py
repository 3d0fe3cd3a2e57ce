"""`eval scar`, `mmeb`, `ctrlbench`, `flickr30k` and `coco --karpathy` as a user types them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from drawn_photos import DrawnFolder, draw_folder
from published_files import (
    objects_of,
    scar_rows,
    write_ctrlbench,
    write_karpathy,
    write_parquet,
    write_scar,
)

from regionsearch.cli import main
from regionsearch.images import image_size

PHOTOS = 12
DUMMY = ["--embedder", "dummy"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DrawnFolder:
    return draw_folder(tmp_path_factory.mktemp("published"), PHOTOS)


@pytest.fixture(scope="module")
def scar(folder: DrawnFolder) -> Path:
    return write_scar(folder, folder.images.parent / "SCaR_eval_ADE20K.parquet")


def report_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What a command printed, when that was JSON and nothing else, and nothing on stderr."""
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report: dict[str, Any] = json.loads(out)
    return report


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that was refused."""
    capsys.readouterr()
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def scar_words(folder: DrawnFolder, scar: Path, *more: str) -> list[str]:
    return ["eval", "scar", "--annotations", str(scar), "--images", str(folder.images), *DUMMY, *more]


def test_scar_in_a_process_of_its_own_prints_json_alone(folder: DrawnFolder, scar: Path) -> None:
    words = [sys.executable, "-m", "regionsearch", *scar_words(folder, scar, "--engine", "--crop", "--json")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    report = json.loads(done.stdout)
    (subset,) = report["subsets"].values()
    things = len(objects_of(folder))
    assert list(report["subsets"]) == ["ADE20K"]
    assert (subset["queries"], subset["images"], subset["entities"]) == (things, PHOTOS, things)
    accuracy = {column: one["hit1"] for column, one in subset["accuracy"].items()}
    # Colours of a box are those of its caption; of the whole picture they are mostly not.
    assert accuracy["embedding"] == accuracy["crop"] == accuracy["region_only"] == accuracy["joint"] == 1
    assert accuracy["image_only"] < 0.9
    assert report["overall"]["joint"] == subset["accuracy"]["joint"]
    assert report["gain"]["joint_over_image_only"]["hit1"] == pytest.approx(1 - accuracy["image_only"])
    assert subset["chance"] == pytest.approx(0.1)
    assert subset["boxes"]["beyond_picture"] == 0
    assert report["published"]["columns"] == ["ADE20K"]
    assert report["published"]["rows"]["VIRTUE-2B"] == {"ADE20K": 27.5}


def test_boxes_that_leave_their_picture_are_counted_on_every_side(
    folder: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = scar_rows(folder)[0]
    height, width = image_size((folder.images / row["qry_image_path"]).read_bytes())
    inside = [[0.0, 0.0, width, height], [-0.5, -0.5, width + 1.0, height + 1.0]]
    beyond = [[-9.0, 5.0, 20.0, 9.0], [5.0, -9.0, 9.0, 20.0], [5.0, 5.0, width, 9.0], [5.0, 5.0, 9.0, height]]
    rows = [{**row, "bbox": [float(number) for number in box]} for box in [*inside, *beyond]]
    file = write_parquet(tmp_path / "boxes.parquet", rows)
    words = ["eval", "scar", "--annotations", str(file), "--images", str(folder.images), *DUMMY]
    boxes = report_of(words, capsys)["subsets"]["boxes"]["boxes"]
    assert boxes["beyond_picture"] == len(beyond)
    assert boxes["farthest_edge"] == pytest.approx(max(1 + 5 / width, 1 + 5 / height))


def test_scar_s_table_stands_above_the_published_one(
    folder: DrawnFolder, scar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(scar_words(folder, scar, "--limit", "3")) == 0
    out = capsys.readouterr().out
    ours, published = out.split("published by their authors, not measured here")
    assert "limited to 3 of each subset" in ours
    assert "100.0 (100.0–100.0)" in ours
    assert "VIRTUE-7B +SCaR-train" in published
    assert "VIRTUE" not in ours
    fewer, assumed = published.splitlines()[-2:]
    assert "over fewer: ADE20K 3 of 9,368" in fewer
    assert assumed == "what was assumed, and how far boxes reach in pictures: --json"


def test_entities_of_a_segmenter_can_stand_beside_the_boxes(
    folder: DrawnFolder, scar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of(scar_words(folder, scar, "--engine", "--segmenter", "dummy"), capsys)
    subset = report["subsets"]["ADE20K"]
    assert subset["entities"] == 2 * subset["queries"]
    assert subset["accuracy"]["joint"]["hit1"] == 1


def test_missing_pictures_are_refused_or_reported(
    folder: DrawnFolder, scar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = DrawnFolder(tmp_path, folder.annotations, folder.captions)
    for file in folder.images.iterdir():
        if file.name != "000.png":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    err = refusal(scar_words(fewer, scar), capsys)
    assert f"1 of {PHOTOS} pictures" in err
    assert "000.png" in err
    assert "--skip-missing" in err
    report = report_of(scar_words(fewer, scar, "--skip-missing", "--engine"), capsys)
    lost = sum(file == "000.png" for file, *_ in objects_of(folder))
    assert report["left_out"] == {"queries": lost, "candidates": 0, "images": 1, "first": ["000.png"]}
    assert report["subsets"]["ADE20K"]["images"] == PHOTOS - 1


def test_what_scar_cannot_do_is_said_in_one_line(
    folder: DrawnFolder, scar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--as-published" in refusal(scar_words(folder, scar, "--as-published"), capsys)
    nowhere = ["--images", str(tmp_path / "x")]
    assert "there is no folder" in refusal([*scar_words(folder, scar), *nowhere], capsys)
    other = write_parquet(tmp_path / "x.parquet", [{"qry_text": "a"}])
    assert "no column" in refusal(scar_words(folder, other), capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "scar", "--images", "x"],
        ["eval", "scar", "--annotations", "x", "--images", "x", "--limit", "0"],
        ["eval", "scar", "--annotations", "x", "--images", "x", "--segmenter", "dummy"],
        ["eval", "mmeb", "--annotations", "x", "--images", "x", "--wording", "poems"],
        ["eval", "flickr30k", "--annotations", "x", "--images", "x", "--split", "all"],
        ["eval", "coco", "--images", "x", "--karpathy", "y", "--annotations", "z"],
        ["eval", "coco", "--images", "x", "--annotations", "z", "--cache", "y"],
        ["eval", "coco", "--images", "x"],
    ],
)
def test_command_lines_of_another_form_end_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2


@pytest.fixture(scope="module")
def mmeb(folder: DrawnFolder) -> Path:
    """Three tasks about the drawn photos, each of another kind."""
    root = folder.images.parent / "mmeb"
    content = json.loads(folder.captions.read_text())
    named = zip(content["images"], content["annotations"], strict=True)
    photos = [(one["file_name"], said["caption"]) for one, said in named]
    first = {file: colour for file, colour, _, _ in reversed(objects_of(folder))}
    none = {"qry_text": "", "tgt_inst": "", "tgt_text": [""], "tgt_img_path": [""]}
    labels = [
        {
            **none,
            "qry_inst": "<|image_1|>\nName the colour.",
            "qry_img_path": file,
            "tgt_text": [first[file], "white", "black"],
            "tgt_img_path": ["", "", ""],
        }
        for file, _ in photos
    ]
    pictures = [
        {
            **none,
            "qry_inst": "Find the picture:",
            "qry_text": caption,
            "qry_img_path": "",
            "tgt_inst": "<|image_1|>\nRepresent it.",
            "tgt_text": ["", ""],
            "tgt_img_path": [file, other],
        }
        for (file, caption), (other, _) in itertools.pairwise(photos)
    ]
    same = [
        {
            **none,
            "qry_inst": "<|image_1|>\nFind the same.",
            "qry_img_path": file,
            "tgt_text": ["", ""],
            "tgt_img_path": [file, other],
        }
        for (file, _), (other, _) in itertools.pairwise(photos)
    ]
    write_parquet(root / "VOC2007" / "test-00000-of-00001.parquet", labels)
    write_parquet(root / "MSCOCO_t2i" / "test-00000-of-00001.parquet", pictures)
    write_parquet(root / "RefCOCO" / "test-00000-of-00001.parquet", same)
    return root


def test_mmeb_by_task_with_the_published_means(
    folder: DrawnFolder, mmeb: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "mmeb", "--annotations", str(mmeb), "--images", str(folder.images), *DUMMY]
    report = report_of(words, capsys)
    assert list(report["tasks"]) == ["VOC2007", "MSCOCO_t2i", "RefCOCO"]
    same = report["tasks"]["RefCOCO"]
    assert (same["hit1"], same["kind"], same["domain"]) == (1, "VG", "OOD")
    assert (same["queries"], same["candidates_per_query"]) == (PHOTOS - 1, 2)
    assert same["candidates"] == PHOTOS
    by_task = {name: task["hit1"] for name, task in report["tasks"].items()}
    means = report["means"]
    assert means["IND"]["hit1"] == pytest.approx((by_task["VOC2007"] + by_task["MSCOCO_t2i"]) / 2)
    assert means["all"] == {"hit1": pytest.approx(sum(by_task.values()) / 3), "tasks": 3, "of": 36}
    assert means["VQA"] == {"hit1": None, "tasks": 0, "of": 10}
    assert report["published"]["tasks"]["ABC"] == {"VOC2007": 81.4}
    assert main([*words, "--task", "RefCOCO"]) == 0
    out = capsys.readouterr().out
    assert "1 of 36" in out
    assert "VOC2007" not in out
    assert "RefCOCO 11 of 1,000" in out
    assert "no task 'Poems'" in refusal([*words, "--task", "Poems"], capsys)


def test_mmeb_names_what_it_passes_over(
    folder: DrawnFolder, mmeb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = pyarrow.parquet.read_table(mmeb / "VOC2007").slice(0, 1).to_pylist()
    for below in ("VOC2007/test-0.parquet", "refcoco/test-0.parquet", "Poems.parquet"):
        write_parquet(tmp_path / below, [row])
    (tmp_path / "images").mkdir()
    words = ["eval", "mmeb", "--annotations", str(tmp_path), "--images", str(folder.images), *DUMMY, "--json"]
    capsys.readouterr()
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out)["tasks"]) == ["VOC2007"]
    [line] = err.splitlines()
    assert line.endswith(f": {tmp_path / 'Poems.parquet'}, {tmp_path / 'refcoco'}")
    report_of([*words[:-1], "--task", "VOC2007"], capsys)


def test_ctrlbench_finds_the_caption_that_the_instruction_asks_for(
    folder: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_ctrlbench(folder, tmp_path / "ctrl.jsonl")
    words = ["eval", "ctrlbench", "--annotations", str(file), "--images", str(folder.images), *DUMMY]
    report = report_of(words, capsys)
    assert report["queries"] == report["candidates"] == len(objects_of(folder))
    assert report["images"] == PHOTOS
    assert 0 < report["r1"] <= report["r5"] <= report["r10"] <= 1
    assert report["published"]["rows"]["ABC"] == {"R@1": 50.94, "R@5": 78.43, "R@10": 87.47}
    assert main(words) == 0
    assert "GME-7B" in capsys.readouterr().out


def test_captions_and_pictures_of_both_datasets(
    folder: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_karpathy(folder, tmp_path / "dataset.json")
    flickr = ["eval", "flickr30k", "--annotations", str(file), "--images", str(folder.images), *DUMMY]
    coco = ["eval", "coco", "--karpathy", str(file), "--images", str(folder.images), *DUMMY]
    one, other = report_of(flickr, capsys), report_of(coco, capsys)
    assert one["i2t"] == other["i2t"]
    assert one["t2i"] == other["t2i"]
    assert one["i2t"]["queries"] == one["t2i"]["candidates"] == PHOTOS - 1
    assert one["t2i"]["r1"] > 0.3
    assert one["t2i"]["r10"] > 0.9
    assert other["published"]["rows"]["CLIP"]["i2t R@1"] == 58.4
    assert one["published"]["rows"]["ABC"]["t2i R@10"] == 95.45
    assert one["published"]["fewer"] == {"pictures": {"here": PHOTOS - 1, "published": 1000}}
    assert report_of([*flickr, "--limit", "4"], capsys)["i2t"]["queries"] == 4
    assert main(coco) == 0
    assert "caption to picture" in capsys.readouterr().out
    assert main([*flickr, "--split", "train"]) == 0
    assert "the split train: published scores are of the split test" in capsys.readouterr().out


def test_a_missing_picture_is_lost_in_both_directions(
    folder: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_karpathy(folder, tmp_path / "dataset.json")
    images = tmp_path / "images"
    images.mkdir()
    for picture in folder.images.iterdir():
        if picture.name != "000.png":
            (images / picture.name).write_bytes(picture.read_bytes())
    words = ["eval", "flickr30k", "--annotations", str(file), "--images", str(images), *DUMMY]
    report = report_of([*words, "--skip-missing"], capsys)
    i2t, t2i = report["i2t"], report["t2i"]
    # The picture as a query, its caption as a query, the picture as a candidate; the caption still
    # stands among the others' candidates.
    assert report["left_out"] == {"queries": 2, "candidates": 1, "images": 1, "first": ["000.png"]}
    assert (i2t["queries"], i2t["candidates"]) == (PHOTOS - 2, PHOTOS - 1)
    assert (t2i["queries"], t2i["candidates"]) == (PHOTOS - 2, PHOTOS - 2)


def test_a_cache_answers_the_second_run(
    folder: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_karpathy(folder, tmp_path / "dataset.json")
    words = ["eval", "flickr30k", "--annotations", str(file), "--images", str(folder.images), *DUMMY]
    plain = report_of(words, capsys)
    for expected in ("embedded, 0 from", "0 inputs embedded"):
        assert main([*words, "--cache", str(tmp_path / "cache"), "--json"]) == 0
        out, err = capsys.readouterr()
        assert expected in err
        assert json.loads(out) == plain


def test_virtue_is_judged_both_ways_side_by_side(
    folder: DrawnFolder, scar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="virtue needs torch")
    from tiny_virtue import write_tiny_virtue

    model = write_tiny_virtue(tmp_path / "virtue")
    words = ["eval", "scar", "--annotations", str(scar), "--images", str(folder.images), "--limit", "1"]
    words += ["--device", "cpu", "--cache", str(tmp_path / "cache"), "--json"]
    assert main([*words, "--embedder", f"virtue:{model}", "--as-published"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["wording"] == "image_pad"
    assert list(report["overall"]) == ["embedding", "as_published"]
    # The second column is that of the model by this name: all its vectors are there already.
    assert main([*words, "--embedder", f"virtue:{model},as_published=yes"]) == 0
    out, err = capsys.readouterr()
    assert "0 inputs embedded" in err
    assert json.loads(out)["overall"]["embedding"] == report["overall"]["as_published"]


def test_abc_and_a_dual_encoder_are_asked_in_their_own_words(
    folder: DrawnFolder, scar: Path, mmeb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="these models need torch")
    from tiny_abc import write_tiny_abc
    from tiny_dual_encoder import write_tiny_dual_encoder

    abc = write_tiny_abc(tmp_path / "abc")
    clip = write_tiny_dual_encoder(tmp_path / "clip")
    for model, wording in ((f"abc:{abc}", "instructed"), (f"dual_encoder:{clip}", "bare")):
        options = ["--images", str(folder.images), "--embedder", model, "--device", "cpu", "--limit", "2"]
        asked = report_of(
            ["eval", "scar", "--annotations", str(scar), "--crop", "--engine", *options], capsys
        )
        assert asked["wording"] == wording
        assert list(asked["overall"]) == ["embedding", "crop", "region_only", "image_only", "joint"]
        tasks = report_of(["eval", "mmeb", "--annotations", str(mmeb), *options], capsys)["tasks"]
        assert {task["queries"] for task in tasks.values()} == {2}
