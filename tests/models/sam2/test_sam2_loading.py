"""SAM 2's published files, in either naming, give the same model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_sam2 import tiny_config, tiny_weights, write_tiny_sam2
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VideoConfig, Sam2VideoModel

from regionsearch.errors import ModelUnavailable
from regionsearch.images import Image
from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2.architecture import config_from_official
from regionsearch.models.sam2.image_features import encode_pixels
from regionsearch.models.sam2.loading import LoadedSam2, build_sam2, load_sam2
from regionsearch.models.sam2.official_names import from_official, to_official
from regionsearch.models.virtue.preprocessing import qwen_pixels, sam_pixels

CPU = Runtime(threads=1, device="cpu", dtype="fp32")


def test_both_namings_hold_the_same_weights() -> None:
    weights = tiny_weights()
    official = to_official(weights)
    again = from_official(official, weights)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())
    assert {name.split(".")[0] for name in official} == {
        "image_encoder",
        "no_mem_embed",
        "sam_mask_decoder",
        "sam_prompt_encoder",
    }


@torch.inference_mode()
def test_both_namings_give_equal_outputs(tmp_path: Path) -> None:
    models = [
        load_sam2(str(write_tiny_sam2(tmp_path / naming, naming=naming)), CPU)
        for naming in ("transformers", "official")
    ]
    pixels = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    points = torch.tensor([[[[300.0, 700.0]]]])
    first, second = (loaded.model(pixel_values=pixels, input_points=points) for loaded in models)
    # Not bit for bit: tensors from the two formats are aligned differently in memory.
    assert_near(first.pred_masks, second.pred_masks)
    assert_near(first.iou_scores, second.iou_scores)
    loaded = [loaded.model.state_dict() for loaded in models]
    assert all(torch.equal(tensor, loaded[1][name]) for name, tensor in loaded[0].items())
    assert models[0].weights != models[1].weights  # other files


def test_meta_weights_have_exactly_the_names_of_the_golden_ones(golden_folder: Path) -> None:
    published = golden_sam(golden_folder)
    assert to_official(tiny_weights()).keys() == published.keys()


def test_the_image_encoder_agrees_with_the_official_code(golden_folder: Path) -> None:
    golden = load_file(golden_folder / "virtue" / "golden.safetensors")
    model = build_sam2(tiny_config(), golden_sam(golden_folder), "golden")
    pixels = sam_pixels(qwen_pixels(Image(golden["imgA.uint8_hwc"].numpy())))[None]
    assert_near(pixels[:, :, ::16, ::16], golden["sam.input_strided16"])
    loaded = LoadedSam2(model, [], "golden", torch.device("cpu"), torch.float32)
    (features,) = encode_pixels(loaded, pixels, [(100, 150)], "sam2:golden:virtue", keep_high_res=True)
    assert_near(features.embedding, golden["sam.image_embed"][0])
    assert features.high_res is not None
    assert_near(features.high_res[1][None, :, ::4, ::4], golden["sam.high_res_feats0_strided4"])
    assert (features.height, features.width) == (100, 150)
    assert_near(model.get_image_wide_positional_embeddings(), golden["sam.dense_pe"])


@pytest.mark.parametrize(
    ("case", "prompt"),
    [
        (
            "point",
            {"input_points": torch.tensor([[[[300.0, 700.0]]]]), "input_labels": torch.ones(1, 1, 1).long()},
        ),
        ("bbox", {"input_boxes": torch.tensor([[[100.0, 200.0, 500.0, 800.0]]])}),
    ],
)
def test_prompts_agree_with_the_official_code(
    golden_folder: Path, case: str, prompt: dict[str, torch.Tensor]
) -> None:
    golden = load_file(golden_folder / "virtue" / "golden.safetensors")
    model = build_sam2(tiny_config(), golden_sam(golden_folder), "golden")
    sparse, dense = model.get_prompt_embeddings(**prompt)
    assert_near(sparse[0], golden[f"sam.{case}.sparse"])
    assert_near(dense[:, :, 5, 7], golden[f"sam.{case}.dense_col"])
    reached = []
    model.mask_decoder.transformer.register_forward_hook(lambda _, __, output: reached.append(output))
    model.mask_decoder(
        image_embeddings=golden["sam.image_embed"],
        image_positional_embeddings=golden["sam.dense_pe"],
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
        high_resolution_features=[torch.zeros(1, 4, 256, 256), torch.zeros(1, 8, 128, 128)],
    )
    tokens, keys = reached[0]
    assert_near(tokens[0], golden[f"sam.{case}.decoder_tokens_out"])
    if case == "bbox":
        assert_near(keys[:, 0].transpose(1, 2).reshape(1, 32, 64, 64), golden["sam.bbox.mask_embeddings"])


@pytest.mark.parametrize(
    ("sizes", "windows", "global_blocks", "heads"),
    [
        ((96, [1, 2, 7, 2]), [8, 4, 14, 7], [5, 7, 9], 1),
        ((96, [1, 2, 11, 2]), [8, 4, 14, 7], [7, 10, 13], 1),
        ((112, [2, 3, 16, 3]), [8, 4, 14, 7], [12, 16, 20], 2),
        ((144, [2, 6, 36, 4]), [8, 4, 16, 8], [23, 33, 43], 2),
    ],
    ids=["tiny", "small", "base-plus", "large"],
)
def test_meta_files_tell_their_size(
    sizes: tuple[int, list[int]], windows: list[int], global_blocks: list[int], heads: int
) -> None:
    width, blocks = sizes
    dims = [width * 2**stage for stage in range(4)]
    written = Sam2Config(
        vision_config={
            "backbone_config": Sam2HieraDetConfig(
                hidden_size=width,
                num_attention_heads=heads,
                blocks_per_stage=blocks,
                embed_dim_per_stage=dims,
                num_attention_heads_per_stage=[heads * 2**stage for stage in range(4)],
                window_size_per_stage=windows,
                global_attention_blocks=global_blocks,
                window_positional_embedding_background_size=[14, 14] if width == 112 else [7, 7],
            ).to_dict(),
            "backbone_channel_list": dims[::-1],
        }
    )
    with torch.device("meta"):
        tensors = Sam2Model(written).state_dict()
    read = config_from_official(to_official(tensors), "sam2.pt")
    assert read.vision_config.to_dict() == written.vision_config.to_dict()


def test_folders_of_the_video_model_are_read_without_its_memory(tmp_path: Path) -> None:
    parts = tiny_config()
    config = Sam2VideoConfig(
        vision_config=parts.vision_config,
        prompt_encoder_config={"hidden_size": 32},
        mask_decoder_config={"hidden_size": 32},
        memory_attention_hidden_size=32,
        memory_encoder_hidden_size=32,
        mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32,
        memory_encoder_output_channels=8,
    )
    torch.manual_seed(0)
    video = Sam2VideoModel(config)
    video.save_pretrained(tmp_path)
    model = load_sam2(str(tmp_path), CPU).model
    read = model.state_dict()
    written = video.state_dict()
    assert read.keys() < written.keys()
    assert all(torch.equal(tensor, written[name]) for name, tensor in read.items())


def test_one_copy_serves_a_process(tmp_path: Path) -> None:
    folder = write_tiny_sam2(tmp_path / "model")
    assert load_sam2(str(folder), CPU) is load_sam2(str(folder / ".." / "model"), CPU)
    half = load_sam2(str(folder), Runtime(device="cpu", dtype="bf16"))
    assert half is not load_sam2(str(folder), CPU)
    assert {tensor.dtype for tensor in half.model.state_dict().values()} == {torch.bfloat16}
    assert half.weights == load_sam2(str(folder), CPU).weights


def test_other_settings_are_another_model(tmp_path: Path) -> None:
    folder = write_tiny_sam2(tmp_path / "one")
    other = write_tiny_sam2(tmp_path / "other")
    described = json.loads((other / "config.json").read_text(encoding="utf-8"))
    described["vision_config"]["backbone_config"]["global_attention_blocks"] = [3]
    (other / "config.json").write_text(json.dumps(described), encoding="utf-8")
    assert load_sam2(str(folder), CPU).weights != load_sam2(str(other), CPU).weights


def lacking(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["mask_decoder.iou_token.weight"]


def foreign(tensors: dict[str, torch.Tensor]) -> None:
    tensors["mask_decoder.something"] = torch.zeros(1)


def misshapen(tensors: dict[str, torch.Tensor]) -> None:
    tensors["mask_decoder.iou_token.weight"] = torch.zeros(1, 33)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lacking, "lack.*iou_token"),
        (foreign, "unexpected.*something"),
        (misshapen, r"iou_token.*\(1, 33\)"),
    ],
)
@pytest.mark.parametrize("naming", ["transformers", "official"])
def test_weights_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, naming: str, spoil: Callable[[dict[str, torch.Tensor]], None], said: str
) -> None:
    folder = write_tiny_sam2(tmp_path)
    tensors = tiny_weights()
    spoil(tensors)
    if naming == "official":
        (folder / "model.safetensors").unlink()
        torch.save({"model": to_official(tensors)}, folder / "sam2_spoilt.pt")
    else:
        save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelUnavailable, match=said):
        load_sam2(str(folder), CPU)


def test_an_unknown_size_without_its_configuration_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_sam2(tmp_path, naming="official")
    (folder / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match="none of the published sizes"):
        load_sam2(str(folder), CPU)


def test_a_folder_with_two_of_metas_files_asks_which(tmp_path: Path) -> None:
    folder = write_tiny_sam2(tmp_path, naming="official")
    (folder / "sam2_other.pt").write_bytes(next(folder.glob("*.pt")).read_bytes())
    with pytest.raises(ModelUnavailable, match="several"):
        load_sam2(str(folder), CPU)
    assert load_sam2(str(folder / "sam2_other.pt"), CPU).model.training is False


def golden_sam(folder: Path) -> dict[str, torch.Tensor]:
    prefix = "segmentation_model.sam_model."
    tensors = load_file(folder / "virtue" / "weights_official_names.safetensors")
    return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}


def assert_near(given: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5)
