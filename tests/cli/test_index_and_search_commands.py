"""The commands `index` and `search` as a user types them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw
import pytest

from regionsearch.cli import main
from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.errors import CollectionNotFound, NotADataDirectory
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask, mask_iou

COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "orange", "purple")


def draw(things: Sequence[tuple[str, tuple[int, int, int, int]]]) -> bytes:
    image = PIL.Image.new("RGB", (120, 90), "white")
    for colour, box in things:
        PIL.ImageDraw.Draw(image).rectangle(box, fill=colour)
    coded = io.BytesIO()
    image.save(coded, "PNG")
    return coded.getvalue()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(16):
        first, second = COLOURS[number % 8], COLOURS[(number // 2 + 3) % 8]
        things = [(first, (10, 10, 39 + number, 39)), (second, (70, 50, 109, 79 - number))]
        (folder / f"{number:02}.png").write_bytes(draw(things))
    return folder


@pytest.fixture(scope="module")
def data(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("index") / "data"
    assert main([*index_words(photos, data), "--json"]) == 0
    return data


def index_words(photos: Path, data: Path, *more: str) -> list[str]:
    models = ["--embedder", "dummy", "--segmenter", "dummy"]
    return ["index", str(photos), "--collection", "c", "--data", str(data), *models, *more]


def search_words(data: Path, *more: str | Path) -> list[str]:
    return ["search", "--collection", "c", "--data", str(data), *map(str, more)]


def answer(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


def refusal(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    capsys.readouterr()
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("regionsearch")]
    assert len(lines) == 1
    return lines[0]


def test_index_reports_this_run_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = answer(capsys, index_words(photos, tmp_path / "data"))
    assert (first["images"], first["skipped"], first["failed"]) == (16, 0, [])
    assert first["entities"] == 32
    assert set(first["steps"]) == {"decode", "segment", "embed", "store"}
    assert first["images_per_second"] == pytest.approx(16 / first["seconds"])
    second = answer(capsys, index_words(photos, tmp_path / "data"))
    assert (second["images"], second["entities"], second["skipped"]) == (0, 0, 16)


def test_the_table_of_index_names_steps_and_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.png").write_bytes(draw([("red", (10, 10, 30, 30))]))
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    assert main(index_words(folder, tmp_path / "data")) == 0
    printed = capsys.readouterr().out
    assert "failed: bad.jpg: " in printed
    assert all(f"\n{step}" in printed for step in ("decode", "segment", "embed", "store"))


def test_a_file_name_with_line_breaks_stays_in_its_line_of_the_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good\nfailed: é.jpg\x1b[1m.png").write_bytes(b"broken")
    assert main(index_words(folder, tmp_path / "data")) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("failed: ")]
    assert line.startswith(r"failed: good\nfailed: é.jpg\x1b[1m.png: ")


def test_index_takes_larger_files_than_a_server_and_refuses_by_its_own_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    large = draw([("red", (10, 10, 30, 30))]) + bytes(Limits().image_bytes)  # behind the PNG's end
    (folder / "large.png").write_bytes(large)
    words = index_words(folder, tmp_path / "data")
    refused = answer(capsys, [*words, "--max-image-bytes", "1000"])
    (failure,) = refused["failed"]
    assert "limit is 1000" in failure["reason"]
    assert answer(capsys, words)["images"] == 1
    assert "limits.image_bytes" in refusal(capsys, [*words, "--max-image-bytes", "0"])


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--pixels", "original"], "--pixels thumbnail"),
        (["--entity-limit", "5"], "--entity-limit 32"),
        (["--workers", "0"], "--workers"),
        (["--max-megapixels", "0"], "limits.image_megapixels"),
    ],
)
def test_index_refuses_what_an_existing_collection_is_not(
    photos: Path, data: Path, capsys: pytest.CaptureFixture[str], more: list[str], named: str
) -> None:
    assert named in refusal(capsys, index_words(photos, data, *more))


def test_index_refuses_a_second_writer_by_name(
    photos: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "regionsearch", *index_words(photos, data)]
    with DataDirectory(data, "write"):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert str(os.getpid()) in done.stderr


def test_index_leaves_a_folder_that_is_not_ours_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert str(tmp_path) in refusal(capsys, index_words(photos, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_index_refuses_another_model_than_the_collections_own(
    photos: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["index", str(photos), "--collection", "c", "--data", str(data), "--embedder", "nobody"]
    assert "'nobody'" in refusal(capsys, words)


def stored_images(data: Path) -> int:
    """How many images another process has stored so far."""
    try:
        with DataDirectory(data, "read") as directory:
            return directory.collection("c").stats.images
    except (NotADataDirectory, CollectionNotFound):
        return 0  # it has not come so far yet


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_index_told_to_stop_counts_what_it_stored(tmp_path: Path, workers: str, sent: signal.Signals) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4000):
        things = [("red", (5, 5, 30 + number % 80, 30)), ("blue", (5, 40, 30 + number // 80, 80))]
        (folder / f"{number:04}.png").write_bytes(draw(things))
    data = tmp_path / "data"
    words = index_words(folder, data, "--workers", workers, "--json")
    command = [sys.executable, "-m", "regionsearch", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while stored_images(data) == 0 and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(sent)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 128 + sent, err
    report = json.loads(out)
    assert report["stopped"]
    assert 0 < report["images"] < 4000
    with DataDirectory(data, "read") as directory:
        assert directory.collection("c").stats.images == report["images"]


def test_search_by_words_answers_as_the_contract_says(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, search_words(data, "--text", "something red", "--limit", "5"))
    assert found["regions"] == []
    assert len(found["hits"]) == 5
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)
    hit = found["hits"][0]
    assert set(hit) >= {"image_id", "score", "parts", "entity", "payload"}
    assert set(hit["parts"]) >= {"text_entity", "text_image"}
    assert all(set(part) >= {"raw", "standardised", "weight"} for part in hit["parts"].values())
    assert set(hit["entity"]) == {"index", "box", "area", "objectness", "label", "label_source", "mask"}
    mask = Mask.from_coco(hit["entity"]["mask"])
    assert list(mask.box().as_tuple()) == hit["entity"]["box"]


def test_a_point_on_the_command_line_finds_the_thing_again(
    photos: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = search_words(data, "--image", photos / "03.png", "--point", "20,20", "--limit", "1")
    found = answer(capsys, words)
    assert found["hits"][0]["image_id"] == "03.png"
    used = Mask.from_coco(found["regions"][0]["mask"])
    assert found["regions"][0]["prompts"] == [{"point": [20.0, 20.0], "positive": True}]
    assert mask_iou(used, Mask.from_box(Box(10, 10, 43, 40), 90, 120)) > 0.9
    assert mask_iou(used, Mask.from_coco(found["hits"][0]["entity"]["mask"])) == 1.0


def test_a_mask_file_is_a_region(
    photos: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = PIL.Image.new("L", (120, 90), 0)
    PIL.ImageDraw.Draw(mask).rectangle((10, 10, 39, 39), fill=255)
    mask.save(tmp_path / "mask.png")
    words = search_words(data, "--image", photos / "00.png", "--mask", tmp_path / "mask.png")
    assert answer(capsys, words)["regions"][0]["box"] == [10, 10, 40, 40]
    PIL.Image.new("L", (120, 90), 0).save(tmp_path / "black.png")
    words = search_words(data, "--image", photos / "00.png", "--mask", tmp_path / "black.png")
    assert "black" in refusal(capsys, words)


def test_more_like_an_entity_needs_no_pixels(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, search_words(data, "--image-id", "00.png", "--entity", "0", "--limit", "15"))
    assert "00.png" not in [hit["image_id"] for hit in found["hits"]]
    assert len(found["hits"]) == 15


def test_weights_can_be_set_by_part_name(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, search_words(data, "--text", "blue", "--weight", "text_image=0"))
    assert found["hits"][0]["parts"]["text_image"]["weight"] == 0


REFUSED: list[tuple[list[str], str]] = [
    ([], "empty"),
    (["--text", " "], "text"),
    (["--text", "x" * 100_000], "limits.text_characters"),
    (["--text", "red", "--limit", "0"], "limit"),
    (["--text", "red", "--weight", "colour=1"], "'colour'"),
    (["--text", "red", "--box", "1,2,3,4"], "--image"),
    (["--image-id", "00.png", "--box", "1,2,3,4"], "--entity"),
    (["--image-id", "nobody.png"], "'nobody.png'"),
    (["--image-id", "00.png", "--entity", "77"], "77"),
    (["--image", "PHOTO", "--box", "9000,9000,9100,9100"], "120 × 90"),
    (["--image", "PHOTO", "--box", "40,40,40,60"], "empty"),
    (["--image", "PHOTO", "--point", "20,20,0"], "negative"),
    (["--image", "PHOTO", "--point", "1,88"], "point (1, 88)"),
    (["--image", "missing.jpg"], "missing.jpg"),
    (["--image", "PHOTO", "--mask", "missing.png"], "missing.png"),
]


@pytest.mark.parametrize(("more", "named"), REFUSED)
def test_search_refuses_in_one_line_that_names_what_was_wrong(
    photos: Path, data: Path, capsys: pytest.CaptureFixture[str], more: list[str], named: str
) -> None:
    words = [str(photos / "00.png") if word == "PHOTO" else word for word in more]
    assert named in refusal(capsys, search_words(data, *words))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--image-id", "nobody.png"], "'nobody.png'"),
        (["--image-id", "00.png", "--entity", "77"], "77"),
        (["--image", "PHOTO", "--box", "9000,9000,9100,9100"], "120 × 90"),
        (["--image", "PHOTO", "--mask", "MASK"], "7 × 5"),
        (["--collection", "nowhere", "--text", "x"], "'nowhere'"),
    ],
)
def test_what_needs_no_model_to_be_refused_is_refused_before_one_loads(
    photos: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    named: str,
) -> None:
    def loaded(_: ModelRegistry, name: str) -> None:
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr(ModelRegistry, "embedder", loaded)
    monkeypatch.setattr(ModelRegistry, "segmenter", loaded)
    PIL.Image.new("L", (7, 5), 255).save(tmp_path / "mask.png")
    given = {"PHOTO": str(photos / "00.png"), "MASK": str(tmp_path / "mask.png")}
    assert named in refusal(capsys, search_words(data, *(given.get(word, word) for word in more)))


def test_an_unknown_collection_is_refused_with_those_that_exist(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, ["search", "--collection", "nowhere", "--data", str(data), "--text", "x"])
    assert "'nowhere'" in line
    assert "c" in line


@pytest.mark.parametrize(
    "more",
    [
        ["--text", "red", "--colour", "red"],
        ["--image", "x.png", "--box", "1,2"],
        ["--image", "x.png", "--box", "a,b,c,d"],
        ["--image", "x.png", "--point", "1,2,3"],
        ["--text", "red", "--limit", "many"],
        ["--text", "red", "--weight", "entity"],
        ["--image", "x.png", "--image-id", "y"],
        ["--tex", "red"],
    ],
)
def test_a_command_line_that_cannot_be_parsed_exits_with_2(data: Path, more: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(search_words(data, *more))
    assert stopped.value.code == 2


def test_index_gives_photos_payloads_and_names_ids_of_no_photo(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payloads = tmp_path / "payloads.jsonl"
    lines = [{"image_id": name, "payload": {"year": 2020}} for name in ("03.png", "gone.png")]
    payloads.write_text("\n".join(map(json.dumps, lines)))
    words = index_words(photos, tmp_path / "data", "--payloads", str(payloads))
    report = answer(capsys, words)
    assert (report["images"], report["payloads_unknown"]) == (16, ["gone.png"])
    payloads.write_text(json.dumps({"03.png": {"year": 2021}}))
    assert main(words) == 0
    assert "1 of those skipped were given another payload" in capsys.readouterr().out
    count = ["collection", "count", "c", "--data", str(tmp_path / "data"), "--where", "payload.year = 2021"]
    assert answer(capsys, count)["images"] == 1
    payloads.write_text('{"image_id": "03.png", "payload": {}}\n{"image_id": 3}\n')
    assert "line 2" in refusal(capsys, index_words(photos, tmp_path / "new", "--payloads", str(payloads)))
    assert not (tmp_path / "new").exists()
