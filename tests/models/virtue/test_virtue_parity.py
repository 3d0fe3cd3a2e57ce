"""VIRTUE computes what its published code computed, at every stage, and does not repeat its bugs."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.parity_virtue import Difference, differences, write_published_layout
from regionsearch.images import Image
from regionsearch.models.embedder import ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime
from regionsearch.models.virtue.embedder import VirtueEmbedder
from regionsearch.regions import Box, RegionPrompt

STAGES = {
    "pixel_values": 2,
    "grid": 2,
    "resized picture": 2,
    "SAM input": 1,
    "SAM input, mean": 1,
    "SAM input, deviation": 1,
    "SAM image embedding": 1,
    "SAM fine map": 1,
    "SAM positions": 1,
    "prompt tokens": 5,
    "dense prompt": 5,
    "decoder keys": 5,
    "reducer": 5,
    "connector": 5,
    "vision tower": 4,
    "inputs_embeds": 6,
    "mask": 6,
    "position_ids": 12,
    "embedding": 12,
    "embed_inputs": 8,
}
"""And in how many cases each is compared: both position modes from `position_ids` on."""
WORDS = "<|image_pad|> w5 w17 w33 w2 w90 w41"
OTHER_WORDS = "w99 w3 w100"


@pytest.fixture(scope="module")
def golden(golden_folder: Path) -> Path:
    return golden_folder / "virtue"


@pytest.fixture(scope="module")
def layout(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published_layout(golden, tmp_path_factory.mktemp("golden_virtue"))


@pytest.fixture(scope="module")
def found(golden: Path, layout: Path) -> list[Difference]:
    return list(differences(golden, layout))


@pytest.fixture(scope="module")
def model(layout: Path) -> VirtueEmbedder:
    registry = ModelRegistry(runtime=Runtime(device="cpu", dtype="fp32"))
    return cast(VirtueEmbedder, registry.embedder(str(layout)))


@pytest.fixture(scope="module")
def tensors(golden: Path) -> dict[str, torch.Tensor]:
    return cast(dict[str, torch.Tensor], load_file(golden / "golden.safetensors"))


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_stage_gives_the_published_tensors(found: list[Difference], stage: str) -> None:
    of_stage = [each for each in found if each.stage == stage]
    assert len(of_stage) == STAGES[stage]
    assert [each for each in of_stage if not each.agrees] == []


def test_no_other_stage_is_compared(found: list[Difference]) -> None:
    assert {each.stage for each in found} == set(STAGES)


def test_a_box_is_never_ignored_as_the_misspelt_key_was(
    model: VirtueEmbedder, tensors: dict[str, torch.Tensor]
) -> None:
    image = Image(tensors["imgA.uint8_hwc"].numpy())
    box = Box(100 / 1024 * 150, 200 / 1024 * 100, 500 / 1024 * 150, 800 / 1024 * 100)
    with_box, without = torch.from_numpy(
        model.embed_inputs([ModelInput(image, WORDS, RegionPrompt(box=box)), ModelInput(image, WORDS)])
    )
    ignored = tensors["case.img_bboxKEYTYPO_b1.later.embedding"][0]
    torch.testing.assert_close(without, ignored, atol=1e-5, rtol=0)
    torch.testing.assert_close(with_box, tensors["case.img_bbox_b1.later.embedding"][0], atol=1e-5, rtol=0)
    assert (with_box - ignored).abs().max() > 1e-3
    # And what is misspelt is refused.
    with pytest.raises(TypeError, match="bbox"):
        RegionPrompt(bbox=box)  # type: ignore[call-arg]


def test_words_beside_a_picture_are_what_they_are_alone(
    model: VirtueEmbedder, tensors: dict[str, torch.Tensor]
) -> None:
    image = Image(tensors["imgA.uint8_hwc"].numpy())
    pair = [ModelInput(image, WORDS), ModelInput(text=OTHER_WORDS)]
    together = torch.from_numpy(model.embed_inputs(pair))
    alone = torch.from_numpy(model.embed_inputs(pair[1:]))
    torch.testing.assert_close(together[1], alone[0], atol=1e-6, rtol=0)
    mixed = tensors["case.mixed_b2.later.embedding"]
    # The picture's row was sound there; the words' row was not theirs at all.
    torch.testing.assert_close(together[0], mixed[0], atol=1e-5, rtol=0)
    assert float(together[1] @ mixed[1]) < 0.5
