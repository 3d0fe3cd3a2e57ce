"""How far ABC here is from what its published code computed: a table, and JSON with --json.

    python -m benchmarks.parity_abc --golden DIR [--json]

DIR is a tiny random checkpoint in the published layout (a Qwen2-VL base with both adapters below it) and
`golden.safetensors`: two pictures, and every tensor on the way, from the published code on a CPU in fp32.
It is loaded through the registry and computed with fp32 on the CPU. The published code pads batches, and
the vector of a padded row depends on its padding; nothing is padded here, so of its padded batches the
tokens themselves are compared (which the padding leaves alone) and the row without padding.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file

from regionsearch.images import Image
from regionsearch.models.abc.embedder import AbcEmbedder
from regionsearch.models.embedder import ModelInput
from regionsearch.models.low_rank import linear_modules
from regionsearch.models.qwen2_vl.position_modes import POSITION_MODES, Positions
from regionsearch.models.qwen2_vl.rows import Row, inputs_embeds, rotary_positions
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime

TOLERANCE = 1e-5
HIDDEN_TOLERANCE = 1e-4
"""Of single tokens inside the network, whose values are not brought to any length."""
GOLDEN_BOUNDS = "min_tokens=4,max_tokens=16"
"""The golden set was made with few tokens a picture, to keep its files small."""


@dataclass(frozen=True, slots=True)
class Asked:
    """picture: `imgA`, `imgB` or None."""

    picture: str | None = None
    text: str | None = None


TEXT, OTHER_TEXT = Asked(text="a dog"), Asked(text="two cats on a red sofa")
PICTURE, OTHER_PICTURE = Asked("imgA"), Asked("imgB")
BOTH, OTHER_BOTH = Asked("imgA", "what is on the left?"), Asked("imgB", "the small one!")
SINGLE: Mapping[str, Asked] = {
    "text_b1": TEXT,
    "text_other_b1": OTHER_TEXT,
    "text_bang_b1": Asked(text="wow! a dog! run!!"),
    "img_b1": PICTURE,
    "img_other_b1": OTHER_PICTURE,
    "imginst_b1": BOTH,
    "imginst_other_b1": OTHER_BOTH,
}
WITHOUT_ADAPTER = "imginst_adapteroff_b1"
PADDED: Mapping[str, Sequence[Asked]] = {
    "text_b2_rightpad": (TEXT, OTHER_TEXT),
    "img_b2_rightpad": (PICTURE, OTHER_PICTURE),
    "imginst_b2_rightpad": (BOTH, OTHER_BOTH),
}

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Difference:
    """Largest absolute difference of a stage in one case; tolerance 0 means bit for bit."""

    stage: str
    case: str
    difference: float
    tolerance: float = TOLERANCE

    @property
    def agrees(self) -> bool:
        return self.difference <= self.tolerance


def differences(golden: Path) -> Iterator[Difference]:
    """Stage by stage, in both position modes."""
    given = load_file(golden / "golden.safetensors")
    registry = ModelRegistry(runtime=Runtime(device="cpu", dtype="fp32"))
    models = {
        mode: cast(
            AbcEmbedder, registry.embedder(f"abc:{golden.absolute()},positions={mode},{GOLDEN_BOUNDS}")
        )
        for mode in POSITION_MODES
    }
    with torch.inference_mode():
        yield from _merged(given, models["later"])
        for name, asked in SINGLE.items():
            yield from _input(given, models["later"], name, _row(given, models["later"], asked))
        for mode, model in models.items():
            for name, asked in SINGLE.items():
                yield from _network(given, model, name, mode, _row(given, model, asked))
            # The published code turns the adapter off for what is stored, which is never an instruction.
            off = replace(_row(given, model, BOTH), instructed=False)
            yield from _network(given, model, WITHOUT_ADAPTER, mode, off)
            for name, batch in PADDED.items():
                yield from _padded(given, model, name, mode, [_row(given, model, one) for one in batch])
    for mode, model in models.items():
        yield from _through_the_interface(given, model, mode)


def _merged(given: Tensors, model: AbcEmbedder) -> Iterator[Difference]:
    modules = linear_modules(model.network.base.model)
    for key in sorted(key for key in given if key.startswith("merged.") and key.endswith(".weight")):
        name = key.removeprefix("merged.").removesuffix(".weight")
        yield Difference("merged matrix", name, _largest(modules[name].weight, given[key]), 0)
    temperature = given["merged.temperature.temp"]
    yield Difference(
        "temperature", "all", _largest(torch.tensor([model.network.temperature]), temperature), 0
    )


def _input(given: Tensors, model: AbcEmbedder, name: str, row: Row) -> Iterator[Difference]:
    case = f"case.{name}."
    yield Difference("token ids", name, _largest(torch.tensor(row.ids), given[f"{case}input_ids"][0]), 0)
    images = []
    if row.shown is not None:
        pixels = row.shown.read()
        patches = torch.from_numpy(pixels.patches)
        yield Difference("pixel_values", name, _largest(patches, given[f"{case}pixel_values"]), 0)
        grid = torch.tensor(pixels.grid)
        yield Difference("grid", name, _largest(grid, given[f"{case}image_grid_thw"][0]), 0)
        images = model.network.image_embeds([pixels])
        yield Difference("image_embeds", name, _largest(images[0], given[f"{case}image_embeds"]))
    embedded = inputs_embeds(model.network.base, [row], images)
    yield Difference("inputs_embeds", name, _largest(embedded, given[f"{case}inputs_embeds"]))


def _network(
    given: Tensors, model: AbcEmbedder, name: str, mode: Positions, row: Row
) -> Iterator[Difference]:
    network, case, label = model.network, f"case.{name}.{mode}.", f"{name}, {mode}"
    positions = rotary_positions(row, mode)
    yield Difference("positions", label, _largest(positions, given[f"{case}position_ids"][:, 0]), 0)
    first: list[torch.Tensor] = []
    layer: Any = network.base.language_model.layers[0]
    handle = layer.register_forward_hook(lambda module, inputs, output: first.append(output))
    hidden = _last_hidden_state(model, row)
    handle.remove()
    yield Difference("first layer", label, _largest(first[0], given[f"{case}layer0_out"]), HIDDEN_TOLERANCE)
    wanted = given[f"{case}last_hidden_state"]
    yield Difference("last_hidden_state", label, _largest(hidden, wanted), HIDDEN_TOLERANCE)
    pooled = network.pooled([row], hidden)
    yield Difference("pooled mean", label, _largest(pooled, given[f"{case}pooled_mean"]))
    projected = network.head(pooled)
    yield Difference("after the head", label, _largest(projected, given[f"{case}after_mlp_head"]))
    vector = torch.from_numpy(network.embed([row]))
    yield Difference("vector of the row", label, _largest(vector, given[f"{case}embedding"]))


def _padded(
    given: Tensors, model: AbcEmbedder, name: str, mode: Positions, rows: Sequence[Row]
) -> Iterator[Difference]:
    case = f"case.{name}.{mode}."
    for place, row in enumerate(rows):
        label = f"{name} row {place}, {mode}"
        wanted = given[f"{case}last_hidden_state"][place, : len(row)]
        hidden = _last_hidden_state(model, row)[0]
        yield Difference("last_hidden_state", label, _largest(hidden, wanted), HIDDEN_TOLERANCE)
        if given[f"case.{name}.attention_mask"][place].all():
            vector = torch.from_numpy(model.network.embed([row])[0])
            yield Difference("vector of the row", label, _largest(vector, given[f"{case}embedding"][place]))


def _through_the_interface(given: Tensors, model: AbcEmbedder, mode: Positions) -> Iterator[Difference]:
    """All inputs of the golden set at once."""
    vectors = model.embed_inputs(
        [
            ModelInput(None if asked.picture is None else _image(given, asked.picture), asked.text)
            for asked in SINGLE.values()
        ]
    )
    for name, vector in zip(SINGLE, torch.from_numpy(vectors), strict=True):
        wanted = given[f"case.{name}.{mode}.embedding"][0]
        yield Difference("embedding", f"{name}, {mode}", _largest(vector, wanted))


def _last_hidden_state(model: AbcEmbedder, row: Row) -> torch.Tensor:
    images = [] if row.shown is None else model.network.image_embeds([row.shown.read()])
    return model.network.last_hidden_state([row], inputs_embeds(model.network.base, [row], images))


def _row(given: Tensors, model: AbcEmbedder, asked: Asked) -> Row:
    return model.row(ModelInput(None if asked.picture is None else _image(given, asked.picture), asked.text))


def _image(given: Tensors, name: str) -> Image:
    return Image(given[f"{name}.uint8_hwc"].numpy())


def _largest(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)} cannot be compared")
    return float((ours.double() - theirs.double()).abs().max())


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when something does not agree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golden", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="every difference, as JSON")
    parsed = parser.parse_args(arguments)
    found = list(differences(parsed.golden))
    if parsed.json:
        print(json.dumps([{**asdict(one), "agrees": one.agrees} for one in found], indent=1))
    else:
        print(f"{'stage':20} {'cases':>5} {'largest':>9} {'allowed':>8}  worst case")
        for stage in dict.fromkeys(one.stage for one in found):
            of_stage = [one for one in found if one.stage == stage]
            worst = max(of_stage, key=lambda one: one.difference)
            print(
                f"{stage:20} {len(of_stage):5} {worst.difference:9.1e} {worst.tolerance:8.0e}  {worst.case}"
            )
    return 0 if all(one.agrees for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
