"""SAM 2 from its published files, in either naming, one copy a process."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Sam2Config, Sam2Model

from regionsearch.errors import ModelUnavailable
from regionsearch.models.checkpoints import locate, read_json, read_tensors, weight_files, weights_hash
from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2.architecture import config_from_json, config_from_official, settings_of
from regionsearch.models.sam2.official_names import from_official, is_official

DEFAULT_LOCATION = "facebook/sam2.1-hiera-base-plus"
"""The size that VIRTUE was trained with."""

_FROM_HUB = ("config.json", "model*.safetensors", "model.safetensors.index.json")
_TIED = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
"""One matrix under two names; files may hold either or both."""
_VIDEO_PREFIXES = (
    "mask_downsample.",
    "memory_attention.",
    "memory_encoder.",
    "memory_temporal_positional_encoding",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "object_pointer_proj.",
    "occlusion_spatial_embedding_parameter",
    "temporal_positional_encoding_projection_layer.",
)
"""What only tracking through a video needs, in transformers' names."""


@dataclass(frozen=True, eq=False)
class LoadedSam2:
    """A SAM 2 in evaluation mode on its device, ready to compute.

    weights: sha256 (hex) over the files and over the settings that change what the model gives.
    All of the model is in `dtype`, its Gaussian position matrices too.
    """

    model: Sam2Model
    files: list[Path]
    weights: str
    device: torch.device
    dtype: torch.dtype


_loaded: dict[tuple[Path, torch.device, torch.dtype], LoadedSam2] = {}
_lock = threading.Lock()


def load_sam2(location: str, runtime: Runtime) -> LoadedSam2:
    """The model at a location: a folder as transformers saves it (type sam2, or sam2_video of which the
    image part is read), Meta's own `.pt` file or a folder with one, or a name on the hub; "" is
    DEFAULT_LOCATION. The second call for the same files, device and precision returns the first's model.

    Meta's file tells its size by its shapes; for another than the published four a `config.json` must lie
    beside it. Pickles are read with `weights_only`.
    Raises ModelUnavailable when files are missing or damaged, or hold other weights than expected.
    """
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    path = locate(location or DEFAULT_LOCATION, _FROM_HUB).resolve()
    key = (path, runtime.torch_device(), runtime.torch_dtype())
    with _lock:
        if key not in _loaded:
            _loaded[key] = _load(*key)
        return _loaded[key]


def build_sam2(config: Sam2Config, tensors: Mapping[str, torch.Tensor], where: str) -> Sam2Model:
    """A model in evaluation mode with these weights, in either naming, on the CPU in their precision.

    Raises ModelUnavailable, naming `where` and the key, for one that is missing, unexpected, or of another
    shape than the configuration says. What only video needs is ignored.
    """
    config._attn_implementation = "sdpa"
    # Without storage: nothing is initialised only to be overwritten.
    with torch.device("meta"):
        model = Sam2Model(config)
    expected = model.state_dict()
    named = from_official(tensors, expected) if is_official(tensors) else _image_part(tensors, expected)
    for name, tensor in named.items():
        if tensor.shape != expected[name].shape:
            raise ModelUnavailable(
                f"{where}: {name!r} has shape {tuple(tensor.shape)}, but the model of its configuration "
                f"has {tuple(expected[name].shape)}"
            )
    model.load_state_dict(named, assign=True)
    model.requires_grad_(False)
    return model.eval()


def _image_part(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    named = {name: tensor for name, tensor in tensors.items() if not name.startswith(_VIDEO_PREFIXES)}
    for present, absent in (_TIED, _TIED[::-1]):
        if present in named:
            named.setdefault(absent, named[present].clone())
    for name in expected:
        if name not in named:
            raise ModelUnavailable(f"SAM 2 weights lack {name!r}")
    for name in named:
        if name not in expected:
            raise ModelUnavailable(f"SAM 2 weights hold an unexpected {name!r}")
    return named


def _load(path: Path, device: torch.device, dtype: torch.dtype) -> LoadedSam2:
    files = _files(path)
    tensors: dict[str, Any] = {}
    for file in files:
        tensors.update(_tensors(file))
    described = (path if path.is_dir() else path.parent) / "config.json"
    if described.exists():
        config = config_from_json(read_json(described), str(described))
    elif is_official(tensors):
        config = config_from_official(tensors, str(files[0]))
    else:
        raise ModelUnavailable(f"{path} has weights in transformers' names, but no config.json")
    settings = settings_of(config)
    model = build_sam2(config, tensors, str(files[0])).to(device=device, dtype=dtype)
    return LoadedSam2(model, files, weights_hash(files, settings), device, dtype)


def _files(path: Path) -> list[Path]:
    """The weights at a path: what transformers wrote, else Meta's one `.pt`."""
    if not path.is_dir():
        return [path]
    official = sorted(path.glob("sam2*.pt"))
    if any(path.glob("model*.safetensors*")) or any(path.glob("pytorch_model*.bin*")) or not official:
        return weight_files(path)
    if len(official) > 1:
        names = ", ".join(file.name for file in official)
        raise ModelUnavailable(f"{path} holds several SAM 2 models: {names}; name the file")
    return official


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    """Raises ModelUnavailable when the file holds anything but tensors by name (below `model` in Meta's)."""
    content = read_tensors(file)
    if isinstance(content.get("model"), dict):
        content = content["model"]
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise ModelUnavailable(f"weights {file} hold {name!r}, which is no tensor")
    return content
