"""From a reference to a loaded model: where the base and its two adapters are, and their settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from regionsearch.errors import ModelUnavailable
from regionsearch.models.abc.settings import Settings
from regionsearch.models.checkpoints import locate, weights_hash
from regionsearch.models.reference import ModelReference
from regionsearch.models.runtime import Runtime

if TYPE_CHECKING:
    from regionsearch.models.abc.embedder import AbcEmbedder
    from regionsearch.models.abc.network import AbcNetwork

BASE = "Qwen/Qwen2-VL-7B-Instruct"
PRETRAIN = "TIGER-Lab/ABC-Qwen2VL-Pretrain"
INSTRUCT = "TIGER-Lab/ABC-Qwen2VL-Instruct"


def load_embedder(reference: ModelReference, runtime: Runtime) -> AbcEmbedder:
    """`abc[:BASE][,pretrain=…][,instruct=…][,positions=later|first][,context=…][,min_tokens=…][,max_tokens=…]`.

    BASE, pretrain and instruct are folders or names on the hub. By default the adapters are those in
    `adapters/pretrain` and `adapters/instruct` below the base, or where it has none, the published ones.
    Raises InvalidRequest for an option that is not one, ModelUnavailable when weights are missing or not
    the expected ones.
    """
    settings = Settings.of(reference)
    network, weights = load_network(reference, settings, runtime)
    from regionsearch.models.abc.embedder import AbcEmbedder

    return AbcEmbedder(network, settings, str(reference), weights)


def load_network(reference: ModelReference, settings: Settings, runtime: Runtime) -> tuple[AbcNetwork, str]:
    """The network with its adapters, and the hash of all that its vectors depend on."""
    from regionsearch.models.abc.network import TEMPERATURE, AbcNetwork, ResidualHead
    from regionsearch.models.low_rank import attach, linear_modules, merge, read_adapter
    from regionsearch.models.qwen2_vl.loading import HUB_PATTERNS, load_qwen2_vl

    folder = locate(reference.location or BASE, HUB_PATTERNS)
    pretrain = read_adapter(_adapter_folder(reference, folder, "pretrain", PRETRAIN))
    instruct = read_adapter(_adapter_folder(reference, folder, "instruct", INSTRUCT))
    if instruct.saved:
        raise ModelUnavailable(
            f"adapter {instruct.file} has saved modules {sorted(instruct.saved)}; ABC's head comes from "
            "the pretrain adapter alone"
        )
    base = load_qwen2_vl(folder, runtime)
    head = ResidualHead.from_adapter(pretrain, base)
    modules = linear_modules(base.model)
    merge(pretrain, modules)
    network = AbcNetwork(
        base,
        head,
        attach(instruct, modules),
        positions=settings.positions,
        budget=runtime.token_budget,
        temperature=float(pretrain.saved[TEMPERATURE]),
    )
    weights = weights_hash(
        [*base.files, pretrain.file, instruct.file],
        {
            **settings.of_outputs(),
            "architecture": dict(base.architecture),
            "scales": [pretrain.scale, instruct.scale],
        },
    )
    return network, weights


def _adapter_folder(reference: ModelReference, base: Path, name: str, published: str) -> Path:
    from regionsearch.models.low_rank import HUB_PATTERNS

    beside = base / "adapters" / name
    if name not in reference.options and beside.is_dir():
        return beside
    return locate(reference.options.get(name, published), HUB_PATTERNS)
