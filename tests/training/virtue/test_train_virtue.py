"""Training a tiny VIRTUE: what it learns, what it leaves behind, and going on after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captioned_shapes import write_captioned_shapes
from safetensors.torch import load_file
from tiny_virtue import write_tiny_qwen2_vl, write_tiny_virtue

from regionsearch.errors import InvalidRegion, InvalidRequest, ModelUnavailable, RegionSearchError
from regionsearch.images import load_image
from regionsearch.models.embedder import ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime
from regionsearch.regions import Box, RegionPrompt
from regionsearch.training.region_caption_data import CaptionSource, RegionCaption, read_sources
from regionsearch.training.training_state import TrainingState
from regionsearch.training.virtue.adapters import ADAPTED, AdapterSettings
from regionsearch.training.virtue.batch_plan import BatchPlan
from regionsearch.training.virtue.distribution import Team
from regionsearch.training.virtue.frozen_features import FeatureMemory
from regionsearch.training.virtue.settings import TrainingSettings
from regionsearch.training.virtue.trainable_virtue import load_trainable
from regionsearch.training.virtue.training_loop import Training
from regionsearch.training.virtue.virtue_training import RunPlan, train_virtue

PAIRS = 6
RATE = 3e-3
PLENTY = 2**30
CPU = Runtime(device="cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_virtue(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_captioned_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def source(shapes: tuple[Path, Path]) -> CaptionSource:
    return read_sources([shapes[0]], [shapes[1]], 100, 0)[0]


def plan(model: Path, shapes: tuple[Path, Path], out: Path, steps: int, **more: Any) -> RunPlan:
    given = {"batch": PAIRS, "chunk": PAIRS, "learning_rate": RATE, "warmup": None} | more.pop("settings", {})
    settings = TrainingSettings(steps=steps, **given)
    return RunPlan(str(model), [shapes[0]], [shapes[1]], out, settings, **more)


@dataclass(frozen=True)
class Trained:
    """A finished training: losses by step, and the vectors of its pairs (queries, captions) by the model
    that trained and by the one that `folder` gives to anybody."""

    losses: list[float]
    in_memory: tuple[np.ndarray, np.ndarray]
    loaded: tuple[np.ndarray, np.ndarray]


def embedded(folder: Path, source: CaptionSource) -> tuple[np.ndarray, np.ndarray]:
    embedder = ModelRegistry(runtime=CPU).embedder(f"virtue:{folder}")
    queries = [
        ModelInput(load_image(pair.image), pair.query, RegionPrompt(box=Box(*pair.box or ())))
        for pair in source.pairs
    ]
    captions = [ModelInput(text=pair.target) for pair in source.pairs]
    return embedder.embed_inputs(queries), embedder.embed_inputs(captions)


def found_first(queries: np.ndarray, captions: np.ndarray) -> float:
    """The share of regions whose own caption is the nearest of all."""
    return float(np.mean((queries @ captions.T).argmax(axis=1) == np.arange(len(queries))))


@pytest.fixture(scope="module")
def trained(model: Path, source: CaptionSource, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    settings = TrainingSettings(
        steps=24, batch=PAIRS, chunk=PAIRS, learning_rate=RATE, adapters=AdapterSettings(dropout=0.0)
    )
    virtue = load_trainable(str(model), None, CPU, settings, FeatureMemory(PLENTY))
    folder = tmp_path_factory.mktemp("trained")
    run = Training(virtue, [source], settings, folder, state=TrainingState({}), team=Team(), save_every=100)
    losses = [each["loss"] for each in run.run().history]
    with torch.no_grad():
        queries = torch.cat([virtue.encode([virtue.ready_query(pair)]) for pair in source.pairs])
        captions = torch.cat([virtue.encode([virtue.ready_target(pair)]) for pair in source.pairs])
    virtue.save_published(folder)
    return Trained(losses, (queries.numpy(), captions.numpy()), embedded(folder, source))


def test_the_loss_falls_and_the_captions_trained_on_are_found_again(
    model: Path, source: CaptionSource, trained: Trained
) -> None:
    assert found_first(*embedded(model, source)) <= 0.5
    assert trained.losses[0] > np.log(PAIRS)  # no better than chance
    assert np.mean(trained.losses[-3:]) < 0.1 * trained.losses[0]
    assert found_first(*trained.loaded) == 1.0


def test_a_saved_model_scores_as_the_one_in_memory_did(trained: Trained) -> None:
    for loaded, in_memory in zip(trained.loaded, trained.in_memory, strict=True):
        np.testing.assert_allclose(loaded, in_memory, atol=1e-5)
    scores = [queries @ captions.T for queries, captions in (trained.loaded, trained.in_memory)]
    np.testing.assert_allclose(*scores, atol=1e-5)


@pytest.mark.parametrize("layout", ["sharded .bin", "Meta's SAM"])
def test_what_is_not_trained_is_saved_as_it_was(
    shapes: tuple[Path, Path], tmp_path: Path, layout: str
) -> None:
    model = (
        write_tiny_virtue(tmp_path / "model", weights="bin", shards=2)
        if layout == "sharded .bin"
        else write_tiny_virtue(tmp_path / "model", sam="official")
    )
    train_virtue(plan(model, shapes, tmp_path / "out", 1, settings={"batch": 2, "chunk": 2}), CPU, Team())
    before: dict[str, torch.Tensor] = {}
    for file in sorted([*model.glob("*.bin"), *model.glob("*.safetensors")]):
        before |= load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
    after: dict[str, torch.Tensor] = {}
    for file in sorted((tmp_path / "out").glob("*.safetensors")):
        after |= load_file(file)
    assert set(after) == set(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.removesuffix(".weight").endswith(ADAPTED)}
    kept, written = (json.loads((folder / "config.json").read_text()) for folder in (model, tmp_path / "out"))
    assert kept == written
    segment = torch.load(tmp_path / "out" / "sam2_reducer_and_vlm_layer.pth", weights_only=True)
    assert {name: sorted(part) for name, part in segment.items()} == {
        "sam2_reducer": ["bias", "weight"],
        "sam2vlm_layer": ["0.bias", "0.weight", "2.bias", "2.weight"],
    }
    ModelRegistry(runtime=CPU).embedder(f"virtue:{tmp_path / 'out'}")  # reads it all, the copied SAM too


def test_a_plain_qwen2_vl_becomes_a_virtue_by_captions_of_whole_pictures(
    shapes: tuple[Path, Path], model: Path, tmp_path: Path
) -> None:
    base = write_tiny_qwen2_vl(tmp_path / "base")
    small = {"batch": 2, "chunk": 2}
    captions = shapes[0].parent / "captions.json"
    asked = plan(base, (captions, shapes[1]), tmp_path / "out", 1, sam=str(model / "sam2"), settings=small)
    report = train_virtue(asked, CPU, Team())
    assert np.isfinite(report["last_loss"])
    embedder = ModelRegistry(runtime=CPU).embedder(str(tmp_path / "out"))
    vectors = embedder.embed_inputs([ModelInput(text="a dog")])
    assert np.linalg.norm(vectors[0]) == pytest.approx(1.0, abs=1e-6)


def test_in_bf16_the_trained_numbers_stay_in_fp32(
    model: Path, shapes: tuple[Path, Path], tmp_path: Path
) -> None:
    asked = plan(model, shapes, tmp_path / "out", 4, settings={"batch": 2, "chunk": 2})
    report = train_virtue(asked, Runtime(device="cpu", dtype="bf16"), Team())
    assert np.isfinite(report["last_loss"])
    state = torch.load(tmp_path / "out" / "training_state.pt", weights_only=True)
    parts = [tensor for part in state["trained"].values() for tensor in part.values()]
    assert {tensor.dtype for tensor in parts} == {torch.float32}


@pytest.mark.slow
def test_a_chunk_changes_memory_and_not_the_result(
    model: Path, shapes: tuple[Path, Path], source: CaptionSource, tmp_path: Path
) -> None:
    captions = read_sources([shapes[0].parent / "captions.json"], [shapes[1]], 2, 0)[0]
    both = [source, captions]
    drawn = BatchPlan([len(each.pairs) for each in both], 4, 1, seed=1).batch(0)
    assert {number for number, _ in drawn} == {0, 1}  # boxes and whole pictures in one batch
    gradients = []
    for chunk, memory in ((1, 0), (3, PLENTY)):
        settings = TrainingSettings(
            steps=1, batch=4, chunk=chunk, seed=1, learning_rate=RATE, adapters=AdapterSettings(dropout=0.0)
        )
        encoder = load_trainable(str(model), None, CPU, settings, FeatureMemory(memory))
        folder = tmp_path / str(chunk)
        folder.mkdir()
        Training(encoder, both, settings, folder, state=TrainingState({}), team=Team(), save_every=9).run()
        gradients.append(gradient_of_first_step(folder))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def gradient_of_first_step(out: Path) -> list[torch.Tensor]:
    """AdamW's first moment after one step is a tenth of the gradient."""
    state = torch.load(out / "training_state.pt", weights_only=True)
    return [moments["exp_avg"] * 10 for moments in state["optimizer"]["state"].values()]


def command(model: Path, shapes: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    given = ["--model", str(model), "--annotations", str(shapes[0]), "--images", str(shapes[1])]
    numbers = ["--batch", "3", "--chunk", "2", "--learning-rate", str(RATE), "--device", "cpu", "--json"]
    return ["train", "virtue", *given, "--out", str(out), *numbers, *more]


def environment() -> dict[str, str]:
    """The number of threads decides in which order sums are taken."""
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_numbers(
    model: Path, shapes: tuple[Path, Path], tmp_path: Path
) -> None:
    def asked(out: Path, **more: Any) -> RunPlan:
        return plan(model, shapes, out, 6, settings={"batch": 3, "chunk": 2}, **more)

    whole = train_virtue(asked(tmp_path / "whole"), CPU, Team())
    out = tmp_path / "killed"
    arguments = command(model, shapes, out, "--steps", "6", "--save-every", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "regionsearch", *arguments],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 90
    while not (out / "training_state.pt").exists() and process.poll() is None:
        assert time.monotonic() < deadline, "no state was saved"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it had not come to its end
    resumed = train_virtue(asked(out, resume=True), CPU, Team())
    assert 0 < resumed["resumed_from"] < 6
    assert resumed["history"] == whole["history"]
    for name in ("model.safetensors", "sam2_reducer_and_vlm_layer.pth"):
        first, second = (tmp_path / folder / name for folder in ("whole", "killed"))
        if name.endswith(".safetensors"):
            assert first.read_bytes() == second.read_bytes()
        else:
            read = [torch.load(path, weights_only=True) for path in (first, second)]
            assert all(
                torch.equal(tensor, read[1][part][key])
                for part, tensors in read[0].items()
                for key, tensor in tensors.items()
            )


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(model: Path, shapes: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    settings = {"batch": 6, "chunk": 3, "warmup": 0, "adapters": AdapterSettings(dropout=0.0)}
    report = train_virtue(plan(model, shapes, one, 1, settings=settings), CPU, Team())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    more = ["--steps", "1", "--warmup", "0", "--dropout", "0"]
    ran = subprocess.run(
        [*launcher, "-m", "regionsearch", *command(model, shapes, two, *more)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert (said["processes"], said["batch"]) == (2, 6)
    assert said["last_loss"] == pytest.approx(report["last_loss"], abs=1e-5)
    gradients, others = gradient_of_first_step(one), gradient_of_first_step(two)
    assert len(gradients) == len(others)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"settings": {"batch": 7}}, "a batch takes 7 pairs and there are 6"),
        ({"settings": {"warmup": 9}}, "--warmup is 9, of 4 steps"),
        ({"save_every": 0}, "--save-every is 0"),
        ({"memory": float("nan")}, "--feature-memory is nan"),
        ({"memory": float("inf")}, "--feature-memory is inf"),
        ({"settings": {"temperature": 0.0}}, "--temperature is 0"),
        ({"settings": {"temperature": float("nan")}}, "--temperature is nan"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    shapes: tuple[Path, Path], tmp_path: Path, more: dict[str, Any], complaint: str
) -> None:
    nowhere = tmp_path / "no model"  # said before one is loaded
    with pytest.raises(InvalidRequest, match=complaint):
        train_virtue(plan(nowhere, shapes, tmp_path / "out", 4, **more), CPU, Team())
    assert not (tmp_path / "out").exists()


def test_adapters_wider_than_the_model_are_refused(
    model: Path, shapes: tuple[Path, Path], tmp_path: Path
) -> None:
    wide = {"adapters": AdapterSettings(rank=10_000)}
    with pytest.raises(InvalidRequest, match=r"--rank is 10000; it must be \d+, the model's width, or less"):
        train_virtue(plan(model, shapes, tmp_path / "out", 4, settings=wide), CPU, Team())


def test_a_run_goes_on_only_as_it_was_begun(model: Path, shapes: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    small: dict[str, Any] = {"batch": 2, "chunk": 2}
    stopped = train_virtue(plan(model, shapes, out, 4, settings=small), CPU, Team(), stop=lambda: True)
    assert (stopped["steps"], stopped["stopped"]) == (1, True)
    assert not (out / "config.json").exists()  # no model yet
    with pytest.raises(InvalidRequest, match="--resume"):
        train_virtue(plan(model, shapes, out, 4, settings=small), CPU, Team())
    nowhere = tmp_path / "no model"  # said before one is loaded
    with pytest.raises(InvalidRequest, match=r"otherwise: --seed was 0 and is 1; --steps was 4 and is 6\. "):
        train_virtue(plan(nowhere, shapes, out, 6, settings=small | {"seed": 1}, resume=True), CPU, Team())
    other = write_tiny_virtue(tmp_path / "other", seed=1)
    with pytest.raises(InvalidRequest, match="otherwise: model was"):
        train_virtue(plan(other, shapes, out, 4, settings=small, resume=True), CPU, Team())
    (out / "training_state.pt").write_bytes(b"damaged")
    with pytest.raises(ModelUnavailable, match=r"training_state.pt cannot be read"):
        train_virtue(plan(model, shapes, out, 4, settings=small, resume=True), CPU, Team())
    with pytest.raises(InvalidRequest, match="holds something that is not a training run"):
        train_virtue(plan(model, shapes, shapes[1], 4), CPU, Team())


def test_half_precision_without_a_scaled_loss_is_refused(shapes: tuple[Path, Path], tmp_path: Path) -> None:
    nowhere = plan(tmp_path / "no model", shapes, tmp_path / "out", 4)  # said before one is loaded
    with pytest.raises(InvalidRequest, match="--dtype fp32"):
        train_virtue(nowhere, Runtime(device="cpu", dtype="fp16"), Team())


class Slope:
    """One trained number, whose gradient is infinite while the loss is finite."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def ready_query(self, pair: RegionCaption) -> str:
        return pair.query

    def ready_target(self, pair: RegionCaption) -> str:
        return pair.target

    def shape(self, ready: str) -> int:
        return 0

    def encode(self, chunk: Sequence[str]) -> torch.Tensor:
        place = torch.tensor([[float(len(text)), 1.0] for text in chunk])
        return torch.nn.functional.normalize(place, dim=1) + self.weight.sqrt()

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        return [self.weight]

    def trained_state(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"part": {"weight": self.weight.detach()}}

    def load_trained(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        self.weight.data.copy_(state["part"]["weight"])


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path: Path) -> None:
    pairs = tuple(RegionCaption(tmp_path, "q" * number, "t" * (7 - number)) for number in range(1, 5))
    settings = TrainingSettings(steps=1, batch=4, chunk=4)
    slope = Slope()
    source, new = CaptionSource("a", pairs), TrainingState({})
    run = Training(slope, [source], settings, tmp_path, state=new, team=Team(), save_every=1)
    with pytest.raises(RegionSearchError, match="the gradient of step 0 is"):
        run.run()
    assert slope.weight.item() == 0.0
    assert not (tmp_path / "training_state.pt").exists()


def test_a_box_outside_its_picture_is_named(model: Path, source: CaptionSource) -> None:
    encoder = load_trainable(str(model), None, CPU, TrainingSettings(steps=1), FeatureMemory(0))
    outside = replace(source.pairs[0], box=(500.0, 400.0, 528.0, 426.0))
    with pytest.raises(InvalidRegion, match=r"0\.png: box .* lies outside"):
        encoder.ready_query(outside)
