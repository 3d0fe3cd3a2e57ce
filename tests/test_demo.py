"""The demo end to end: a real index, a real server, answers checked by overlap."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFilter

from regionsearch import Client
from regionsearch.demonstration import Answer, IndexedPhoto, Question, Settings, Thing, run_demonstration
from regionsearch.demonstration.collection_reader import CollectionReader
from regionsearch.demonstration.demonstration import COLLECTION
from regionsearch.demonstration.questions import (
    deepest_point,
    mask_in_view,
    things_worth_asking,
    view_of,
)
from regionsearch.demonstration.server_process import ServerProcess
from regionsearch.errors import Unavailable
from regionsearch.regions import RegionPrompt

PHOTOS = 8
THINGS = 12
"""Things of these photos that are asked for."""
LEAST_OVERLAP = 0.5
"""Mask IoU from which on the returned entity counts as the thing that was asked for."""


def run_demo(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "regionsearch", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload,no-any-return]


def composed_photos(folder: Path) -> Path:
    """Photo-like pictures: shaded grounds with sensor noise, and a soft-edged thing or two on each."""
    generator = np.random.default_rng(4)
    folder.mkdir()
    rows, columns = np.mgrid[0:240, 0:320].astype(np.float32)
    for number in range(PHOTOS):
        ground = generator.uniform(60, 190, 3) + (rows[..., None] / 240 - 0.5) * generator.uniform(-70, 70, 3)
        thing = generator.uniform(0, 255, 3)
        x, y = generator.uniform(90, 230), generator.uniform(80, 160)
        radius = generator.uniform(35, 65)
        angle = np.arctan2(rows - y, columns - x)
        edge = radius * (1 + 0.25 * np.cos((2 + number % 4) * angle))
        cover = np.clip(edge - np.hypot(columns - x, rows - y), 0, 1)[..., None]
        shade = 1 - 0.35 * (columns[..., None] - x) / 320
        pixels = ground * (1 - cover) + thing * shade * cover + generator.normal(0, 5, (240, 320, 1))
        picture = Pillow.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(0.8)
        )
        picture.save(folder / f"photo-{number}.jpg", quality=92)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos that are not scikit-image's: real ones where there are some, else composed ones."""
    folder = tmp_path_factory.mktemp("demo") / "photos"
    named = os.environ.get("REGIONSEARCH_DATA")
    if not named:
        return composed_photos(folder)
    real = sorted((Path(named) / "coco128" / "images").glob("*.jpg"))
    assert len(real) >= PHOTOS, "REGIONSEARCH_DATA holds no coco128/images"
    (folder / "below").mkdir(parents=True)
    for number, source in enumerate(real[:: len(real) // PHOTOS][:PHOTOS]):
        shutil.copyfile(source, (folder if number % 2 else folder / "below") / source.name)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "data"


@pytest.fixture(scope="module")
def shown(
    photos: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Answer], Path, list[str]]:
    output = tmp_path_factory.mktemp("sheet") / "not" / "there yet"
    lines: list[str] = []
    return run_demonstration(Settings(photos, output, data, words=("a bird",)), lines.append), output, lines


def test_every_kind_of_question_finds_the_photo_it_was_made_from(
    shown: tuple[list[Answer], Path, list[str]],
) -> None:
    answers, _, _ = shown
    by_kind = {answer.question.kind: answer for answer in answers}
    always = {"box", "point", "words", "box + words", "mask", "more like this"}
    assert always <= set(by_kind) <= always | {"two boxes"}
    assert [by_kind[kind].rank for kind in ("box", "point", "mask")] == [1, 1, 1]
    # Words beside the region can put another photo first, but they do not replace the region.
    assert by_kind["box + words"].rank is not None


def test_the_returned_entity_overlaps_the_thing_that_was_asked_for(
    shown: tuple[list[Answer], Path, list[str]], photos: Path, data: Path
) -> None:
    with ServerProcess(data) as server, Client(server.address) as client:
        reader = CollectionReader(client, COLLECTION, photos, 64.0)
        indexed = reader.photos(PHOTOS)
        answers = [
            reader.ask(question, 1)
            for thing in things_worth_asking(indexed)[:THINGS]
            for question in views_of_thing(thing, indexed)
        ]
    overlaps = [answer.overlap or 0.0 for answer in answers]
    assert np.mean([answer.rank == 1 for answer in answers]) >= 0.9
    # Measured: 26 of 36 on these photos. A thing can be taken for its part or its neighbour. The composed
    # ones have no texture that a network trained on photos knows: 9 of 36.
    assert np.mean([overlap >= LEAST_OVERLAP for overlap in overlaps]) >= (
        0.6 if os.environ.get("REGIONSEARCH_DATA") else 0.15
    ), sorted(overlaps)


def views_of_thing(thing: Thing, photos: list[IndexedPhoto]) -> list[Question]:
    """The thing asked for by its box, by a click on it, and by its mask, in a view of its photo."""
    (photo,) = (photo for photo in photos if photo.image_id == thing.image_id)
    view, mask = view_of(photo.image), mask_in_view(thing.mask)
    return [
        Question("box", "", view, RegionPrompt(box=mask.box()), expected=thing),
        Question("point", "", view, RegionPrompt(points=(deepest_point(mask),)), expected=thing),
        Question("mask", "", view, RegionPrompt(mask=mask), expected=thing),
    ]


def test_an_indexed_thing_asked_with_is_not_its_own_answer(
    shown: tuple[list[Answer], Path, list[str]],
) -> None:
    answers, _, _ = shown
    (similar,) = (answer for answer in answers if answer.question.kind == "more like this")
    assert similar.found
    assert similar.question.image_id not in [hit.image_id for hit in similar.found]


def test_every_answer_has_hits_in_order_with_reasons(
    shown: tuple[list[Answer], Path, list[str]],
) -> None:
    answers, _, _ = shown
    for answer in answers:
        scores = [hit.score for hit in answer.found]
        assert len(scores) == 4
        assert scores == sorted(scores, reverse=True)
        wanted = {
            "words": {"text_entity", "text_image"},
            "box + words": {"entity", "global", "text_entity", "text_image"},
        }.get(answer.question.kind, {"entity", "global"})
        assert {part.name for part in answer.found[0].parts} - {"objectness"} == wanted


def test_the_sheet_is_written_and_the_user_told_where(
    shown: tuple[list[Answer], Path, list[str]],
) -> None:
    answers, output, lines = shown
    assert sorted(path.name for path in output.iterdir()) == ["contact-sheet.html", "contact-sheet.png"]
    with Pillow.open(output / "contact-sheet.png") as sheet:
        assert sheet.width > 1000
    page = (output / "contact-sheet.html").read_text(encoding="utf-8")
    assert page.count("<article") == len(answers)
    assert str(output / "contact-sheet.png") in "\n".join(lines)


def assert_one_line_about(finished: subprocess.CompletedProcess[str], what: str) -> None:
    assert finished.returncode == 1
    assert len(finished.stderr.splitlines()) == 1, finished.stderr
    assert what in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_folder_without_photos_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    assert_one_line_about(run_demo(tmp_path / "empty", "--output", tmp_path / "out"), "holds no image")


def test_a_folder_whose_photos_are_all_broken_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    finished = run_demo(tmp_path / "photos", "--output", tmp_path / "out")
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].startswith("regionsearch demo: none of the photos")
    assert "broken.jpg" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_folder_that_does_not_exist_is_refused_in_one_line(tmp_path: Path) -> None:
    assert_one_line_about(run_demo(tmp_path / "nowhere", "--output", tmp_path), "does not exist")


def test_an_output_that_cannot_be_written_is_refused_before_indexing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    started = time.monotonic()
    assert_one_line_about(run_demo("--output", tmp_path / "file" / "out"), "cannot write")
    assert time.monotonic() - started < 20


def test_an_output_inside_the_photos_is_refused(photos: Path) -> None:
    assert_one_line_about(run_demo(photos, "--output", photos / "sheet"), "inside the folder")


def test_an_unknown_embedder_is_refused_in_one_line(photos: Path, tmp_path: Path) -> None:
    finished = run_demo(photos, "--output", tmp_path, "--embedder", "imaginary")
    assert_one_line_about(finished, "imaginary")


def is_running(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_the_server_ends_with_the_block_even_when_it_fails(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data")

    def fail_while_serving() -> None:
        with server:
            assert is_running(server.process_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_serving()
    assert not is_running(server.process_id)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "somebody-elses.txt").write_text("not ours")
    server = ServerProcess(tmp_path / "data")
    with pytest.raises(Unavailable, match=r"the server ended at once: .*data"):
        server.__enter__()
    assert not is_running(server.process_id)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the server's process in /proc")
def test_a_demo_that_is_told_to_stop_leaves_no_server_behind_and_keeps_its_collection(
    photos: Path, tmp_path: Path
) -> None:
    data = str(tmp_path / "data")
    command = [sys.executable, "-m", "regionsearch", "demo", str(photos), "--output", str(tmp_path / "out")]
    command += ["--data", data, "--embedder", "dummy", "--segmenter", "dummy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("asking at"):
                break
        servers = [child for child in children_of(demo.pid) if "serve" in command_line(child)]
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(30) == 128 + signal.SIGTERM
    assert len(servers) == 1
    assert not is_running(servers[0])
    index = [sys.executable, "-m", "regionsearch", "index", str(photos), "--collection", "demo"]
    index += ["--data", data, "--json"]
    again = subprocess.run(index, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["skipped"] == PHOTOS


def children_of(process_id: int) -> list[int]:
    listed = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(child) for child in listed.split()]


def command_line(process_id: int) -> list[str]:
    return Path(f"/proc/{process_id}/cmdline").read_text().split("\0")
