"""Tiny dual encoders with random weights, in the layout of the published ones."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers.utils import logging as transformers_logging

Family = Literal["clip", "siglip", "siglip2"]
FAMILIES: tuple[Family, ...] = ("clip", "siglip", "siglip2")

SIDE = 32
PATCH = 8
PATCHES = 24
"""The most that NaFlex cuts an image into."""
_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
_LETTERS = string.ascii_lowercase + string.digits + string.punctuation
_CONTEXT = 16
_SENTENCEPIECE_TEXT = {
    **_TOWER,
    "vocab_size": 4 + len(_LETTERS),
    "max_position_embeddings": _CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def write_tiny_dual_encoder(
    folder: Path,
    family: Family = "clip",
    *,
    bin_file: bool = False,
    side: int = SIDE,
    patch: int = PATCH,
) -> Path:
    """A model of 3 layers, its tokenizer (letters) and its image processor, as `save_pretrained` writes them.

    bin_file: weights in `pytorch_model.bin`, as transformers 4 wrote them on request. side, patch: pixels
    of the square that CLIP and SigLIP read, and of a patch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        if family == "clip":
            model, processor = _clip(side, patch)
        elif family == "siglip":
            model, processor = _siglip(side, patch)
        else:
            model, processor = _siglip2(patch)
        # Fresh weights are so small that all pictures and words look alike.
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim > 1 and "embedding" not in name:
                    weight.mul_(2.5)
                elif name.endswith("bias"):
                    weight.normal_(std=0.2)
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if family == "clip":
        _clip_tokenizer().save_pretrained(folder)
    else:
        _write_sentencepiece_like(folder, family)
    if bin_file:
        # Old files also hold the positions, which are no weights.
        state = {**model.state_dict(), "text_model.embeddings.position_ids": torch.arange(_CONTEXT)[None]}
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


def _clip(side: int, patch: int) -> tuple[Any, Any]:
    vocabulary = _clip_tokenizer()
    config = transformers.CLIPConfig(
        text_config={
            **_TOWER,
            "vocab_size": len(vocabulary),
            "max_position_embeddings": _CONTEXT,
            "bos_token_id": vocabulary.bos_token_id,
            "eos_token_id": vocabulary.eos_token_id,
            "pad_token_id": vocabulary.pad_token_id,
        },
        vision_config={**_TOWER, "image_size": side, "patch_size": patch},
        projection_dim=24,
    )
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    return transformers.CLIPModel(config), processor


def _siglip(side: int, patch: int) -> tuple[Any, Any]:
    config = transformers.SiglipConfig(
        text_config=_SENTENCEPIECE_TEXT,
        vision_config={**_TOWER, "image_size": side, "patch_size": patch},
    )
    processor = transformers.SiglipImageProcessorPil(size={"height": side, "width": side})
    return transformers.SiglipModel(config), processor


def _siglip2(patch: int) -> tuple[Any, Any]:
    config = transformers.Siglip2Config(
        text_config=_SENTENCEPIECE_TEXT,
        vision_config={**_TOWER, "num_patches": 16, "patch_size": patch},
    )
    processor = transformers.Siglip2ImageProcessorPil(patch_size=patch, max_num_patches=PATCHES)
    return transformers.Siglip2Model(config), processor


def _clip_tokenizer() -> Any:
    pieces = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[])


def _write_sentencepiece_like(folder: Path, family: Family) -> None:
    """`tokenizer.json` as SigLIP's (unigrams, `</s>` also pads) or as SigLIP 2's (Gemma's, `<pad>`)."""
    if family == "siglip":
        pad = end = "</s>"
        pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in _LETTERS)]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
        tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        said = {"tokenizer_class": "SiglipTokenizer", "do_lower_case": True}
    else:
        pad, end = "<pad>", "<eos>"
        names = [pad, end, "<unk>", "▁", *_LETTERS]
        vocabulary = {piece: number for number, piece in enumerate(names)}
        tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        said = {"tokenizer_class": "GemmaTokenizer", "padding_side": "right"}
    tokenizer.add_special_tokens([pad, end])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    said |= {"pad_token": pad, "eos_token": {"content": end, "special": True}, "model_max_length": _CONTEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
