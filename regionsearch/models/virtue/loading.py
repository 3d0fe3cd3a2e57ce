"""VIRTUE from its published files, and SAM 2 from its own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from regionsearch.errors import ModelUnavailable
from regionsearch.fingerprint import Fingerprint
from regionsearch.models.checkpoints import locate, read_json, read_tensors, weights_hash
from regionsearch.models.qwen2_vl.loading import HUB_PATTERNS, LoadedQwen2VL, load_qwen2_vl
from regionsearch.models.reference import ModelReference
from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2.image_features import source_of
from regionsearch.models.sam2.loading import DEFAULT_LOCATION as DEFAULT_SAM
from regionsearch.models.sam2.loading import LoadedSam2, load_sam2
from regionsearch.models.virtue.embedder import VirtueEmbedder
from regionsearch.models.virtue.features import VirtueBackbone
from regionsearch.models.virtue.network import VirtueNetwork
from regionsearch.models.virtue.positions import POSITION_MODES, PositionMode
from regionsearch.models.virtue.preprocessing import VERSION
from regionsearch.models.virtue.templates import TEMPLATES

DEFAULT_LOCATION = "Sony/VIRTUE-2B-SCaR"
SAM_FOLDER = "sam2"
"""Within the model's folder; taken before the hub's. The published checkpoints hold no SAM 2 themselves."""
CONNECTOR_FILE = "sam2_reducer_and_vlm_layer.pth"
CONFIG_ENTRY = "virtue_sam"
POINTS_PER_SIDE = 3
"""Of the grid, where the configuration does not say: that of all published checkpoints."""
LICENCE = "CC BY-NC 4.0"
OPTIONS = {
    "as_published": "no (default): pictures at their own aspect, boxes scaled to SAM's frame; "
    "yes: pictures squared to 1344 × 1344 and boxes unscaled, as for the published tables",
    "positions": "later (default) or first: docs/virtue.md",
    "sam": f"where SAM 2's weights are: a folder, a `.pt` file or a hub name "
    f"(default: the folder `{SAM_FOLDER}` within the model's, else {DEFAULT_SAM})",
}

_log = logging.getLogger("regionsearch.models")
_said: set[str] = set()


def load_embedder(reference: ModelReference, runtime: Runtime) -> VirtueEmbedder:
    """`virtue[:LOCATION][,sam=…][,positions=later|first][,as_published=no|yes]`.

    The folder is as published: `config.json` with `virtue_sam`, merged Qwen2-VL weights under any
    version's names, the tokenizer, and `sam2_reducer_and_vlm_layer.pth`.
    Raises InvalidRequest for an option that is not one, ModelUnavailable when files are missing,
    damaged or do not belong together.
    """
    reference.check_options(OPTIONS)
    positions = _position_mode(reference)
    as_published = reference.choice("as_published", ("no", "yes")) == "yes"
    folder = locate(reference.location or DEFAULT_LOCATION, (*HUB_PATTERNS, CONNECTOR_FILE))
    points_per_side = _points_per_side(folder)
    qwen = load_qwen2_vl(folder, runtime)
    sam = _load_sam(reference, folder, runtime)
    network = assemble(qwen, sam, folder / CONNECTOR_FILE, points_per_side, positions)
    settings = {
        "architecture": qwen.architecture,
        "templates": dict(TEMPLATES),
        "positions": positions,
        "as_published": as_published,
        "points_per_side": points_per_side,
        "sam": sam.weights,
    }
    weights = weights_hash([*qwen.files, folder / CONNECTOR_FILE], settings)
    fingerprint = Fingerprint(
        name=str(reference), weights=weights, dimension=qwen.hidden_size, preprocessing=VERSION
    )
    _say_the_licence()
    return VirtueEmbedder(
        network,
        qwen.tokenizer,
        VirtueBackbone(
            network,
            sam,
            source=f"virtue:{weights}",
            sam_source=sam_source(sam, square=as_published),
            square=as_published,
            token_budget=runtime.token_budget,
        ),
        fingerprint,
        as_published=as_published,
        token_budget=runtime.token_budget,
    )


def assemble(
    qwen: LoadedQwen2VL, sam: LoadedSam2, connector: Path, points_per_side: int, positions: PositionMode
) -> VirtueNetwork:
    """The network of loaded parts, in eval mode, no part of it asking for gradients.

    Raises ModelUnavailable when the connector's file lacks weights or has others than these parts need.
    """
    network = VirtueNetwork(qwen.model, sam.model, points_per_side, positions)
    if not connector.exists():
        raise ModelUnavailable(f"{connector.parent} is no VIRTUE model: it has no {connector.name}")
    tensors = read_tensors(connector)
    for module, name in ((network.reducer, "sam2_reducer"), (network.connector, "sam2vlm_layer")):
        try:
            module.load_state_dict(tensors[name])
        except KeyError:
            raise ModelUnavailable(f"{connector} has no {name}") from None
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise ModelUnavailable(f"{name} in {connector} does not fit the model: {reason}") from error
    network.to(qwen.device, qwen.dtype).eval().requires_grad_(False)
    return network


def sam_source(sam: LoadedSam2, *, square: bool) -> str:
    """What SAM's features of doubly normalised pictures are called. Those of squared pictures are others."""
    return source_of(sam, "virtue") + ("-squared" if square else "")


def _position_mode(reference: ModelReference) -> PositionMode:
    chosen = reference.choice("positions", POSITION_MODES)
    return "first" if chosen == "first" else "later"


def _points_per_side(folder: Path) -> int:
    config: dict[str, Any] = read_json(folder / "config.json")
    entry = config.get(CONFIG_ENTRY)
    if not isinstance(entry, dict) or not entry.get("enabled", True):
        raise ModelUnavailable(
            f"{folder} is no VIRTUE model: its config.json has no {CONFIG_ENTRY!r} that is enabled"
        )
    points = entry.get("points_per_side", POINTS_PER_SIDE)
    if not isinstance(points, int) or points < 1:
        raise ModelUnavailable(f"{CONFIG_ENTRY}.points_per_side in {folder}/config.json is {points!r}")
    return points


def _load_sam(reference: ModelReference, folder: Path, runtime: Runtime) -> LoadedSam2:
    own = folder / SAM_FOLDER
    if "sam" in reference.options:
        return load_sam2(reference.options["sam"], runtime)
    if own.exists():
        return load_sam2(str(own), runtime)
    try:
        return load_sam2(DEFAULT_SAM, runtime)
    except ModelUnavailable as error:
        raise ModelUnavailable(
            f"virtue needs SAM 2: put it into {own} or give sam=…; {error.message}"
        ) from error


def _say_the_licence() -> None:
    if "licence" not in _said:
        _said.add("licence")
        _log.warning(
            "event=licence model=virtue message=%r",
            f"the published VIRTUE weights are under {LICENCE}: not for commercial use",
        )
