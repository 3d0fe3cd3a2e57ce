"""From a reference to a dual encoder that is ready to embed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from regionsearch.errors import InvalidRequest, ModelUnavailable
from regionsearch.models.checkpoints import (
    locate,
    read_json,
    read_tensors,
    weight_files,
    weights_hash,
)
from regionsearch.models.dual_encoder.settings import Family, Settings
from regionsearch.models.quoting import some_of
from regionsearch.models.reference import ModelReference
from regionsearch.models.runtime import Runtime

if TYPE_CHECKING:
    import torch

    from regionsearch.models.dual_encoder.embedder import DualEncoder

_CLASSES: Mapping[Family, tuple[str, str]] = {
    "clip": ("CLIPConfig", "CLIPModel"),
    "siglip": ("SiglipConfig", "SiglipModel"),
    "siglip2": ("Siglip2Config", "Siglip2Model"),
}
HUB_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors", "pytorch_model*.bin")
"""Not the same weights a third time (`open_clip_pytorch_model.bin`, TensorFlow's, Flax')."""
_UNUSED = ("logit_scale", "logit_bias")
"""They turn cosines into the logits of training, which nothing here asks for."""


def load_embedder(reference: ModelReference, runtime: Runtime) -> DualEncoder:
    """The checkpoint that a reference names: `dual_encoder:LOCATION[,OPTION=VALUE]…`; docs/dual-encoder.md
    lists the options.

    Raises InvalidRequest without a location or for an option that the checkpoint's family has not, and
    ModelUnavailable when files are missing, damaged, incomplete or of another model.
    """
    if not reference.location:
        raise InvalidRequest(
            f"model {reference.kind!r} needs a location: a folder or a name on the hub", field="embedder"
        )
    folder = locate(reference.location, HUB_FILES)
    family = _family(folder)
    settings = Settings.of(reference, family)

    import torch

    from regionsearch.models.dual_encoder.embedder import PREPROCESSING, DualEncoder
    from regionsearch.models.dual_encoder.image_views import load_views, preprocessor_files
    from regionsearch.models.dual_encoder.text import TextNetwork
    from regionsearch.models.dual_encoder.tokens import WordTokens
    from regionsearch.models.dual_encoder.towers import tower_of
    from regionsearch.models.dual_encoder.vision import VisionNetwork

    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    files = weight_files(folder)
    device, dtype = runtime.torch_device(), runtime.torch_dtype()
    config = _config(folder, family)
    views = load_views(folder, family, config.vision_config, settings)
    tokens = WordTokens(folder, family, config.text_config.max_position_embeddings)
    if family == "clip":
        _check_end(tokens.encode(["a"])[0], config.text_config.eos_token_id, folder)
    model = _model(files, folder, family, config, dtype).to(device)
    digest = weights_hash(
        [*files, folder / "config.json", *preprocessor_files(folder), *tokens.files],
        {"settings": asdict(settings), "preprocessing": PREPROCESSING},
    )
    dimension = int(config.projection_dim if family == "clip" else config.vision_config.hidden_size)
    vision = VisionNetwork(
        tower_of(model, family),
        views,
        source=f"dual_encoder:{digest}",
        device=device,
        dtype=dtype,
        budget=runtime.token_budget,
    )

    def encode(numbers: torch.Tensor) -> torch.Tensor:
        read = model.text_model(input_ids=numbers).pooler_output
        return cast("torch.Tensor", model.text_projection(read) if family == "clip" else read)

    text = TextNetwork(encode, tokens, dimension=dimension, device=device, budget=runtime.token_budget)
    return DualEncoder(str(reference), family, settings, vision, text, weights=digest, dimension=dimension)


def _family(folder: Path) -> Family:
    found = read_json(folder / "config.json").get("model_type")
    if found not in _CLASSES:
        raise ModelUnavailable(
            f"{folder} holds a model of type {found!r}; dual_encoder reads {', '.join(_CLASSES)}",
            field="embedder",
        )
    return cast(Family, found)


def _config(folder: Path, family: Family) -> Any:
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    from regionsearch.models.quiet_transformers import quiet_transformers

    try:
        # SigLIP's published configs name end tokens beyond their vocabulary, which nothing reads.
        with quiet_transformers():
            config = getattr(transformers, _CLASSES[family][0]).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, AttributeError, StrictDataclassError) as error:
        raise ModelUnavailable(
            f"{folder / 'config.json'} cannot be read: {error}", field="embedder"
        ) from error
    if family != "clip" and not config.vision_config.vision_use_head:
        raise ModelUnavailable(f"{folder} has no pooling head, and so no image vectors", field="embedder")
    if not isinstance(config.vision_config.patch_size, int) or (
        family != "siglip2" and not isinstance(config.vision_config.image_size, int)
    ):
        raise ModelUnavailable(f"{folder} reads images or patches that are not square", field="embedder")
    return config


def _check_end(numbers: list[int], end: int, folder: Path) -> None:
    """CLIP reads a text's vector at its end token. transformers looks for the number that config.json says
    (for 2, which old files say wrongly, at the highest number) and reads the start token where there is
    none: all texts would have one vector, and nobody would be told.

    numbers: a text's. Raises ModelUnavailable when they do not end with the end token.
    """
    wanted = max(numbers) if end == 2 else end
    if wanted not in numbers or numbers.index(wanted) != len(numbers) - 1:
        raise ModelUnavailable(
            f"the tokenizer in {folder} ends texts with token {numbers[-1]}, which is not the end token of "
            f"its config.json ({end})",
            field="embedder",
        )


def _model(files: list[Path], folder: Path, family: Family, config: Any, dtype: torch.dtype) -> Any:
    """The model on the CPU, with every weight from the files: nothing is left at random."""
    import transformers

    from regionsearch.models.quiet_transformers import quiet_transformers

    tensors: dict[str, Any] = {}
    for path in files:
        tensors.update(read_tensors(path))
    with quiet_transformers():
        try:
            model, report = getattr(transformers, _CLASSES[family][1]).from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=dtype,
                attn_implementation="sdpa",
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise ModelUnavailable(
                f"weights in {folder} cannot be used: {error}", field="embedder"
            ) from error
    missing = [name for name in sorted(report["missing_keys"]) if name not in _UNUSED]
    if missing:
        raise ModelUnavailable(f"weights in {folder} lack {some_of(missing)}", field="embedder")
    misshapen = sorted(str(entry[0]) for entry in report["mismatched_keys"])
    if misshapen:
        raise ModelUnavailable(
            f"weights in {folder} have not the shapes of its config.json: {some_of(misshapen)}",
            field="embedder",
        )
    return model.eval().requires_grad_(False)
