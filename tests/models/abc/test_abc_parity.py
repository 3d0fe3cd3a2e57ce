"""ABC here is ABC as published: every tensor on the way, against those of the published code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.parity_abc import Difference, differences

EXACT = {"merged matrix", "temperature", "token ids", "pixel_values", "grid", "positions"}
STAGES = EXACT | {
    "image_embeds",
    "inputs_embeds",
    "first layer",
    "last_hidden_state",
    "pooled mean",
    "after the head",
    "vector of the row",
    "embedding",
}


@pytest.fixture(scope="module")
def found(golden_folder: Path) -> list[Difference]:
    return list(differences(golden_folder / "abc"))


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_is_that_of_the_published_code(found: list[Difference], stage: str) -> None:
    of_stage = [one for one in found if one.stage == stage]
    assert of_stage
    assert [one for one in of_stage if not one.agrees] == []
    allowed = {one.tolerance for one in of_stage}
    assert allowed == {
        0.0 if stage in EXACT else 1e-4 if stage in ("first layer", "last_hidden_state") else 1e-5
    }


def test_nothing_is_compared_that_is_not_listed(found: list[Difference]) -> None:
    assert {one.stage for one in found} == STAGES


def test_both_position_modes_and_every_case_of_the_golden_set_are_compared(
    found: list[Difference], golden_folder: Path
) -> None:
    given = load_file(golden_folder / "abc" / "golden.safetensors")
    cases = {key.split(".")[1] for key in given if key.startswith("case.") and key.endswith(".embedding")}
    for mode in ("later", "first"):
        compared = {one.case for one in found if one.stage == "last_hidden_state"}
        assert cases == {case.split(",")[0].split(" ")[0] for case in compared if case.endswith(mode)}


def test_a_padded_batch_of_the_published_code_gives_other_vectors_than_its_rows_alone(
    golden_folder: Path,
) -> None:
    """Why nothing is padded here."""
    given = load_file(golden_folder / "abc" / "golden.safetensors")
    alone = given["case.text_b1.later.embedding"][0]
    beside_a_longer_text = given["case.text_b2_rightpad.later.embedding"][0]
    assert float(np.abs(alone - beside_a_longer_text).max()) > 0.1
