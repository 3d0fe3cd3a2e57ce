"""How far VIRTUE here is from what its published code computed: a table, and JSON with --json.

    python -m benchmarks.parity_virtue --golden DIR [--json]

DIR holds `config.json`, `weights_official_names.safetensors` and `golden.safetensors`: a tiny random
model, two pictures, and every tensor on the way, from the published code on a CPU in fp32. The weights
are written in the published layout, loaded through the registry, and computed with fp32 on the CPU.
Left out are two bugs of the published code: a box under a misspelt key, which is ignored there, and
words beside pictures in one batch, which are spoilt there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from regionsearch.images import Image
from regionsearch.models.embedder import ModelInput
from regionsearch.models.qwen2_vl.preprocessing import QwenPixels
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime
from regionsearch.models.virtue.embedder import VirtueEmbedder
from regionsearch.models.virtue.features import VirtueFeatures
from regionsearch.models.virtue.network import VirtueBatch, VirtueNetwork
from regionsearch.models.virtue.positions import POSITION_MODES, PositionMode, position_ids
from regionsearch.models.virtue.preprocessing import qwen_pixels, sam_pixels
from regionsearch.models.virtue.prompts import FRAME, GRID, SamPrompt
from regionsearch.regions import Box, Point, RegionPrompt

TOLERANCE = 1e-5
PICTURES = ("imgA", "imgB")
POINT = SamPrompt("point", (300.0, 700.0))
BOX = SamPrompt("box", (100.0, 200.0, 500.0, 800.0))
OTHER_BOX = SamPrompt("box", (10.5, 20.25, 900.0, 1000.0))
SAM_CASES: Mapping[str, tuple[Sequence[str], Sequence[SamPrompt]]] = {
    "grid": (("imgA",), (GRID,)),
    "point": (("imgA",), (POINT,)),
    "bbox": (("imgA",), (BOX,)),
    "bbox2": (PICTURES, (BOX, OTHER_BOX)),
    "grid2": (PICTURES, (GRID, GRID)),
}
"""In SAM's frame of 1024 × 1024."""
CASES: Mapping[str, tuple[Sequence[str], Sequence[SamPrompt]]] = {
    "img_grid_b1": SAM_CASES["grid"],
    "img_point_b1": SAM_CASES["point"],
    "img_bbox_b1": SAM_CASES["bbox"],
    "img_bbox_b2_leftpad": SAM_CASES["bbox2"],
    "text_b1": ((), ()),
    "text_b2_leftpad": ((), ()),
}
SPECIAL_TOKENS = {
    150: "<|endoftext|>",
    151: "<|im_end|>",
    152: "<|vision_start|>",
    153: "<|vision_end|>",
    154: "<|im_start|>",
    155: "<|image_pad|>",
    156: "<|video_pad|>",
}

Tensors = Mapping[str, torch.Tensor]
Features = Mapping[str, VirtueFeatures]


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


def write_published_layout(golden: Path, folder: Path) -> Path:
    """The golden weights as VIRTUE is published: legacy names in `.bin`, the connector beside it, SAM in
    Meta's names below `sam2`. Its tokenizer reads `w17` as token 17."""
    config = json.loads((golden / "config.json").read_text())
    weights = load_file(golden / "weights_official_names.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    entry = {"enabled": True, "config_path": "", "checkpoint": "", **config["seg"]}
    (folder / "config.json").write_text(json.dumps({**config["qwen2vl"], "virtue_sam": entry}))
    torch.save(_below(weights, "encoder."), folder / "pytorch_model.bin")
    connector = {
        part: _below(weights, f"segmentation_model.{part}.") for part in ("sam2_reducer", "sam2vlm_layer")
    }
    torch.save(connector, folder / "sam2_reducer_and_vlm_layer.pth")
    (folder / "sam2").mkdir(exist_ok=True)
    torch.save({"model": _below(weights, "segmentation_model.sam_model.")}, folder / "sam2" / "sam2.1.pt")
    (folder / "sam2" / "config.json").write_text(json.dumps(_SAM_CONFIG))
    _write_tokenizer(folder, config["qwen2vl"]["vocab_size"])
    return folder


def differences(golden: Path, layout: Path) -> Iterator[Difference]:
    """Stage by stage. layout: what `write_published_layout` wrote."""
    given = load_file(golden / "golden.safetensors")
    registry = ModelRegistry(runtime=Runtime(device="cpu", dtype="fp32"))
    models = {
        mode: cast(VirtueEmbedder, registry.embedder(f"virtue:{layout},positions={mode}"))
        for mode in POSITION_MODES
    }
    features = {name: models["later"].backbone.features([_image(given, name)])[0] for name in PICTURES}
    with torch.inference_mode():
        yield from _preprocessing(given)
        yield from _segmentation(given, models["later"].network, features)
        for name in CASES:
            yield from _language(given, models, features, name)
    yield from _through_the_interface(given, models)


def _preprocessing(given: Tensors) -> Iterator[Difference]:
    for name in PICTURES:
        pixels = _pixels(given, name)
        yield Difference("pixel_values", name, _largest(pixels.patches, given[f"{name}.pixel_values"]), 0)
        yield Difference("grid", name, _largest(pixels.grid, given[f"{name}.image_grid_thw"][0]), 0)
        normalised = given[f"{name}.raw_pixel_values"][0]
        yield Difference("resized picture", name, _largest(pixels.normalised, normalised), 0)
    seen = sam_pixels(_pixels(given, "imgA"))
    yield Difference("SAM input", "imgA", _largest(seen[:, ::16, ::16], given["sam.input_strided16"][0]))
    mean, deviation = given["sam.input_meanstd"][:, 0]
    yield Difference("SAM input, mean", "imgA", _largest(seen.mean((1, 2)), mean))
    yield Difference("SAM input, deviation", "imgA", _largest(seen.std((1, 2)), deviation))


def _segmentation(given: Tensors, network: VirtueNetwork, features: Features) -> Iterator[Difference]:
    sam = features["imgA"].sam
    yield Difference("SAM image embedding", "imgA", _largest(sam.embedding, given["sam.image_embed"][0]))
    if sam.high_res is None:
        raise ValueError("the backbone keeps the fine maps of SAM")
    # With its two feature levels, the published code starts at the 128 × 128 one.
    fine = sam.high_res[1][:, ::4, ::4]
    yield Difference("SAM fine map", "imgA", _largest(fine, given["sam.high_res_feats0_strided4"][0]))
    places = network.sam.get_image_wide_positional_embeddings()
    yield Difference("SAM positions", "all", _largest(places, given["sam.dense_pe"]))
    for name, (pictures, prompts) in SAM_CASES.items():
        sparse, dense = network.prompt_embeddings(prompts)
        wanted = given[f"sam.{name}.sparse"]
        yield Difference("prompt tokens", name, _largest(sparse[: len(wanted), 0], wanted))
        column = given[f"sam.{name}.dense_col"]
        yield Difference("dense prompt", name, _largest(dense[: len(column), :, 0, 0], column))
        keys = network.decoder_keys(torch.stack([features[each].sam.embedding for each in pictures]), prompts)
        whole = f"sam.{name}.mask_embeddings"
        if whole in given:
            yield Difference("decoder keys", name, _largest(keys, given[whole]))
        else:
            strided = given[f"{whole}_strided4"]
            yield Difference("decoder keys", name, _largest(keys[:, :, ::4, ::4], strided))
        yield Difference("reducer", name, _largest(network.reducer(keys), given[f"sam.{name}.reducer_out"]))
        segment = network.segment_tokens(keys)
        yield Difference("connector", name, _largest(segment, given[f"sam.{name}.segment_embeddings"]))


def _language(
    given: Tensors, models: Mapping[PositionMode, VirtueEmbedder], of_picture: Features, name: str
) -> Iterator[Difference]:
    pictures, prompts = CASES[name]
    network = models["later"].network
    features = [of_picture[each] for each in pictures]
    batch = VirtueBatch(given[f"case.{name}.input_ids"], given[f"case.{name}.attention_mask_in"])
    segment = None
    if pictures:
        batch = VirtueBatch(
            batch.input_ids,
            batch.mask,
            torch.cat([each.tokens for each in features]),
            torch.stack([each.sam.embedding for each in features]),
            prompts,
        )
        tokens = given[f"case.{name}.image_embeds"]
        yield Difference(
            "vision tower", name, _largest(torch.cat([each.tokens for each in features]), tokens)
        )
        keys = network.decoder_keys(torch.stack([each.sam.embedding for each in features]), prompts)
        segment = network.segment_tokens(keys)
    embeds, mask = network.inputs_embeds(batch, segment)
    yield Difference("inputs_embeds", name, _largest(embeds, given[f"case.{name}.inputs_embeds"]))
    yield Difference("mask", name, _largest(mask, given[f"case.{name}.attention_mask_used"]), 0)
    for mode, of_mode in models.items():
        case = f"{name}, {mode}"
        places = position_ids(batch.mask, 0 if segment is None else segment.shape[1], mode)
        yield Difference("position_ids", case, _largest(places, given[f"case.{name}.{mode}.position_ids"]), 0)
        vector = of_mode.network(batch)
        yield Difference("embedding", case, _largest(vector, given[f"case.{name}.{mode}.embedding"]))


def _through_the_interface(
    given: Tensors, models: Mapping[PositionMode, VirtueEmbedder]
) -> Iterator[Difference]:
    """The unpadded cases once more, as anyone asks: a picture, words, a region in pixels."""
    image = _image(given, "imgA")
    regions = {
        "img_grid_b1": None,
        "img_point_b1": RegionPrompt(points=(Point(*_in_pixels(POINT, image)),)),
        "img_bbox_b1": RegionPrompt(box=Box(*_in_pixels(BOX, image))),
        "text_b1": None,
    }
    inputs = [
        ModelInput(image if CASES[name][0] else None, _words(given[f"case.{name}.input_ids"][0]), region)
        for name, region in regions.items()
    ]
    for mode, model in models.items():
        for name, vector in zip(regions, model.embed_inputs(inputs), strict=True):
            wanted = given[f"case.{name}.{mode}.embedding"][0]
            yield Difference("embed_inputs", f"{name}, {mode}", _largest(vector, wanted))


def _words(ids: torch.Tensor) -> str:
    """The string that the layout's tokenizer reads as these ids; image tokens come back as one."""
    words = [SPECIAL_TOKENS.get(token, f"w{token}") for token in ids.tolist()]
    return " ".join(word for place, word in enumerate(words) if place == 0 or word != words[place - 1])


def _in_pixels(prompt: SamPrompt, image: Image) -> list[float]:
    sides = (image.width, image.height)
    return [value * sides[axis % 2] / FRAME for axis, value in enumerate(prompt.coordinates)]


def _image(given: Tensors, name: str) -> Image:
    return Image(given[f"{name}.uint8_hwc"].numpy())


def _pixels(given: Tensors, name: str) -> QwenPixels:
    return qwen_pixels(_image(given, name))


def _largest(ours: torch.Tensor | NDArray[np.float32] | Sequence[int], theirs: torch.Tensor) -> float:
    """Largest absolute difference. Raises ValueError for another shape: nothing may be broadcast."""
    mine = torch.as_tensor(ours)
    if mine.shape != theirs.shape:
        raise ValueError(f"shape {tuple(mine.shape)} here, {tuple(theirs.shape)} in the golden tensors")
    return float((mine.double() - theirs.double()).abs().max())


def _below(weights: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _write_tokenizer(folder: Path, size: int) -> None:
    words = {SPECIAL_TOKENS.get(token, f"w{token}"): token for token in range(size)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token=f"w{size - 1}"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": SPECIAL_TOKENS[150]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


_SAM_CONFIG = {
    "model_type": "sam2",
    "vision_config": {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 16,
            "num_attention_heads": 1,
            "blocks_per_stage": [1, 2, 3, 2],
            "embed_dim_per_stage": [16, 32, 64, 128],
            "num_attention_heads_per_stage": [1, 2, 4, 8],
            "window_size_per_stage": [8, 4, 14, 7],
            "global_attention_blocks": [4],
            "window_positional_embedding_background_size": [7, 7],
        },
        "fpn_hidden_size": 32,
        "backbone_channel_list": [128, 64, 32, 16],
    },
    "prompt_encoder_config": {"hidden_size": 32},
    "mask_decoder_config": {"hidden_size": 32},
}
"""The shapes of the tiny SAM 2 of the golden tensors, which its weights alone do not tell."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--golden", type=Path, required=True, help="the folder of golden tensors")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = list(differences(arguments.golden, write_published_layout(arguments.golden, Path(folder))))
    if arguments.json:
        print(json.dumps([asdict(each) | {"agrees": each.agrees} for each in found], indent=1))
        return
    print(f"{'stage':<22}{'cases':>6}{'largest difference':>20}{'tolerance':>11}")
    for stage in dict.fromkeys(each.stage for each in found):
        of_stage = [each for each in found if each.stage == stage]
        largest = max(each.difference for each in of_stage)
        print(f"{stage:<22}{len(of_stage):>6}{largest:>20.1e}{of_stage[0].tolerance:>11.0e}")
    if not all(each.agrees for each in found):
        raise SystemExit("some stage differs by more than its tolerance")


if __name__ == "__main__":
    main()
