"""The commands `eval` and `bench` as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import scipy.io
from drawn_photos import DrawnFolder, draw_folder

from regionsearch.cli import main

PHOTOS = 16
DUMMIES = ["--embedder", "dummy", "--segmenter", "dummy"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DrawnFolder:
    return draw_folder(tmp_path_factory.mktemp("drawn"), PHOTOS)


def coco_words(folder: DrawnFolder, *more: str) -> list[str]:
    paths = ["--images", str(folder.images), "--annotations", str(folder.annotations)]
    return ["eval", "coco", *paths, *DUMMIES, *more]


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What a command printed, when that was JSON and nothing else, and nothing on stderr."""
    out, err = capsys.readouterr()
    assert err == ""
    report: dict[str, Any] = json.loads(out)
    return report


@pytest.fixture(scope="module")
def report(folder: DrawnFolder) -> dict[str, Any]:
    """Of a process of its own, so that the whole command is run once as it is used."""
    words = coco_words(folder, "--captions", str(folder.captions), "--json")
    done = subprocess.run(
        [sys.executable, "-m", "regionsearch", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


MODES = {
    "text_to_image": {"entity", "global", "joint"},
    "region_to_image": {"whole_image", "entity", "global", "joint"},
    "composed": {"region_only", "text_only", "z_sum", "joint"},
    "captions": {"global", "joint"},
}


def test_every_block_has_its_modes_and_figures_within_their_range(report: dict[str, Any]) -> None:
    assert report["images"] == PHOTOS
    assert report["failed"] == []
    for block, modes in MODES.items():
        figures = report[block]
        assert figures["queries"] > 0
        assert 0 < figures["chance"] < 1
        assert 0 <= figures["ece"] <= 1
        for mode in modes:
            measures = ("r1", "r5", "r10") if block == "captions" else ("map", "p1", "p5")
            for measure in measures:
                low, high = figures[mode]["ci95" if measure == "map" else f"{measure}_ci95"]
                assert 0 <= low <= high <= 1
                assert 0 <= figures[mode][measure] <= 1


def test_colours_are_found_by_models_that_know_colours(report: dict[str, Any]) -> None:
    """The drawn things are what the dummy models see, so entities find and outline them perfectly."""
    text = report["text_to_image"]
    assert text["queries"] == 6
    assert text["entity"]["map"] == 1
    assert text["localized_p1"] == 1
    assert report["region_to_image"]["entity"]["p1"] == 1
    assert report["region_to_image"]["entity"]["map"] > report["region_to_image"]["whole_image"]["map"]


def test_ratios_are_of_the_figures_beside_them(report: dict[str, Any]) -> None:
    for block, baselines in (
        ("text_to_image", ["global"]),
        ("region_to_image", ["whole_image"]),
        ("composed", ["region_only", "text_only"]),
    ):
        for measure in ("map", "p1"):
            best = max(report[block][baseline][measure] for baseline in baselines)
            expected = report[block]["joint"][measure] / best
            assert report[block]["ratio"][measure] == pytest.approx(expected)


def test_the_table_shows_the_figures_of_the_json(
    folder: DrawnFolder, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(coco_words(folder)) == 0
    table = capsys.readouterr().out
    assert f"{report['images']} photos, {report['entities']} entities" in table
    for block in ("text_to_image", "region_to_image", "composed"):
        for mode in MODES[block]:
            low, high = report[block][mode]["ci95"]
            assert f"{report[block][mode]['map']:.3f} ({low:.3f}–{high:.3f})" in table
    assert "captions" not in table


def test_two_folders_are_judged_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = draw_folder(tmp_path / "one", 5), draw_folder(tmp_path / "two", 6, seed=1)
    words = coco_words(one, "--images", str(two.images), "--annotations", str(two.annotations), "--json")
    assert main(words) == 0
    assert printed(capsys)["images"] == 11


@pytest.mark.parametrize(
    "more",
    [
        ["--images", "elsewhere"],
        ["--captions", "a.json", "--captions", "b.json"],
        ["--colour", "red"],
        ["--caption", "a.json"],
    ],
)
def test_unpaired_and_unknown_options_cannot_be_parsed(folder: DrawnFolder, more: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(coco_words(folder, *more))
    assert stopped.value.code == 2


def test_an_unknown_category_is_one_line_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw_folder(tmp_path, 3)
    content = json.loads(folder.annotations.read_text())
    content["annotations"][0]["category_id"] = 4711
    folder.annotations.write_text(json.dumps(content))
    assert main(coco_words(folder)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "4711" in err


def test_segmentation_is_judged_by_the_objects_that_entities_cover(
    folder: DrawnFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ["--images", str(folder.images), "--annotations", str(folder.annotations)]
    assert main(["eval", "segmentation", *paths, "--segmenter", "dummy", "--json"]) == 0
    report = printed(capsys)
    # At most four things a picture: all of them are among the first eight entities.
    assert report["recall"] == {"8": 1, "16": 1, "32": 1, "64": 1}
    assert report["recall_ci95"]["32"] == [1, 1]
    assert report["mask_recall_32"] == 1
    assert report["mean_best_iou"] == pytest.approx(1)
    assert report["entities_per_image"] == report["objects"] / PHOTOS
    assert report["seconds_per_image"] > 0
    assert report["baseline_seconds_per_image"] > 0
    assert main(["eval", "segmentation", *paths, "--segmenter", "dummy"]) == 0
    assert "box recall at 32                    1.000 (1.000–1.000)" in capsys.readouterr().out


def test_partitions_are_judged_by_human_segmentations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two humans, one of whom saw the red thing alone; the segmenter sees both things."""
    (tmp_path / "images").mkdir()
    (tmp_path / "ground_truth").mkdir()
    pixels = np.full((90, 120, 3), 255, dtype=np.uint8)
    both, one = np.zeros((90, 120), dtype=np.uint16), np.zeros((90, 120), dtype=np.uint16)
    pixels[10:50, 10:50] = (220, 20, 20)
    pixels[20:80, 70:110] = (20, 40, 220)
    both[10:50, 10:50], both[20:80, 70:110] = 1, 2
    one[10:50, 10:50] = 1
    PIL.Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    humans = np.empty((1, 2), dtype=object)
    humans[0, 0], humans[0, 1] = {"Segmentation": both}, {"Segmentation": one}
    scipy.io.savemat(tmp_path / "ground_truth" / "a.mat", {"groundTruth": humans})
    words = ["eval", "segmentation", "--bsds", str(tmp_path), "--segmenter", "dummy"]
    assert main([*words, "--json"]) == 0
    report = printed(capsys)
    # The second human's ground is covered by ours without the blue thing.
    ground = 90 * 120 - 40 * 40
    covering = (ground * (ground - 60 * 40) / ground + 40 * 40) / (90 * 120)
    assert report["covering"] == pytest.approx((1 + covering) / 2)
    assert report["boundary_f"] == 1
    assert set(report["felzenszwalb"]) >= {"covering", "boundary_f"}
    assert main(words) == 0
    assert "1 photos" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [[], ["--images", "a"], ["--annotations", "b"], ["--bsds", "c", "--annotations", "b"]]
)
def test_segmentation_needs_one_source(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["eval", "segmentation", *words])
    assert stopped.value.code == 2


@pytest.fixture(scope="module")
def address(folder: DrawnFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a process of its own, over the drawn photos."""
    data = str(tmp_path_factory.mktemp("bench") / "data")
    words = ["index", str(folder.images), "--collection", "c", "--data", data, *DUMMIES, "--json"]
    assert main(words) == 0
    command = [sys.executable, "-m", "regionsearch", "serve", "--data", data, "--address", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


def bench_words(address: str, *more: str) -> list[str]:
    load = ["--address", address, "--collection", "c", "--rate", "40", "--duration", "0.5"]
    return ["bench", "latency", *load, *more]


@pytest.mark.parametrize("kind", ["text", "box", "similar"])
def test_a_server_is_asked_at_the_rate_that_was_given(
    address: str, folder: DrawnFolder, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(bench_words(address, "--queries", kind, "--images", str(folder.images), "--json")) == 0
    report = printed(capsys)
    assert (report["sent"], report["ok"], report["errors"]) == (20, 20, 0)
    assert 0 < report["p50_ms"] <= report["p90_ms"] <= report["p99_ms"] <= report["p999_ms"]
    assert {"entity_arm", "global_arm", "joint"} <= set(report["stages_ms"])
    assert report["achieved_rate"] <= 42


def test_questions_that_are_refused_at_the_start_end_the_command_with_exit_1(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PIL.Image.new("RGB", (60, 40), "white").save(tmp_path / "empty.png")
    capsys.readouterr()
    assert main(bench_words(address, "--queries", "point", "--images", str(tmp_path), "--json")) == 1
    assert "background" in capsys.readouterr().err


def test_pixels_to_ask_with_must_be_given(address: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(bench_words(address, "--queries", "mix"))
    assert stopped.value.code == 2
    for wrong in (["--rate", "0"], ["--duration", "soon"], ["--queries", "poems"]):
        with pytest.raises(SystemExit) as stopped:
            main(bench_words(address, *wrong))
        assert stopped.value.code == 2


def test_a_collection_that_does_not_exist_is_one_line_and_exit_1(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(bench_words(address, "--collection", "nowhere")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "nowhere" in err
