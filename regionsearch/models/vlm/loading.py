"""From a reference to a loaded model: which of the families it is, and its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from regionsearch.errors import InvalidRequest
from regionsearch.fingerprint import Fingerprint
from regionsearch.models.checkpoints import locate, weights_hash
from regionsearch.models.crops import DEFAULT_CONTEXT, MAX_CONTEXT
from regionsearch.models.embedder import EmbedderInfo, SignalBackground
from regionsearch.models.qwen2_vl.pictures import PixelBounds
from regionsearch.models.reference import ModelReference
from regionsearch.models.runtime import Runtime
from regionsearch.models.vlm.templates import STYLES, TEMPLATES, WORDS, Style

if TYPE_CHECKING:
    from regionsearch.models.qwen2_vl.crop_embedder import CropEmbedder

OPTIONS = ("prompts", "context")
PREPROCESSING = 1
"""Version of everything between pixels or words and the network; raised when vectors change."""
BOUNDS = {
    "vlm2vec": PixelBounds(4, 1280, twice=False),
    "gme": PixelBounds(256, 1280),
}
"""Of the published programs."""
BACKGROUND = {
    # Chosen, not measured: the published weights were not at hand.
    "entity": SignalBackground(0.5, 0.15),
    "global": SignalBackground(0.4, 0.15),
    "text_entity": SignalBackground(0.2, 0.1),
    "text_image": SignalBackground(0.2, 0.1),
}


def load_embedder(reference: ModelReference, runtime: Runtime) -> CropEmbedder:
    """`vlm:LOCATION[,prompts=vlm2vec|gme][,context=…]`.

    Checkpoints do not say what they were trained to read. Without `prompts`, the family is the one whose
    name is in the last part of the location, and where neither is, the model is refused: a chat model
    would answer too, with vectors that mean nothing.
    Raises InvalidRequest for that or an option that is not one, ModelUnavailable when weights are missing
    or not the expected ones.
    """
    reference.check_options(dict.fromkeys(OPTIONS))
    style = _style(reference)
    context = reference.number("context", DEFAULT_CONTEXT, 0.0, MAX_CONTEXT)
    from regionsearch.models.qwen2_vl.crop_embedder import CropEmbedder
    from regionsearch.models.qwen2_vl.loading import HUB_PATTERNS, load_qwen2_vl
    from regionsearch.models.vlm.network import LastTokenNetwork

    base = load_qwen2_vl(locate(reference.location, HUB_PATTERNS), runtime)
    bounds = BOUNDS[style]
    settings = {
        "context": context,
        "templates": dict(TEMPLATES[style]),
        "tokens": [bounds.min_tokens, bounds.max_tokens],
        "architecture": dict(base.architecture),
    }
    fingerprint = Fingerprint(
        str(reference), weights_hash(base.files, settings), base.hidden_size, PREPROCESSING
    )
    info = EmbedderInfo(fingerprint, frozenset({"text", "image", "box", "mask", "instruction"}), BACKGROUND)
    network = LastTokenNetwork(base, runtime.token_budget)
    return CropEmbedder(network, WORDS[style], bounds, context, info)


def _style(reference: ModelReference) -> Style:
    if not reference.location:
        raise InvalidRequest("model 'vlm' needs a location: vlm:FOLDER or vlm:OWNER/NAME", field="embedder")
    if "prompts" in reference.options:
        return cast(Style, reference.choice("prompts", STYLES))
    name = reference.location.rstrip("/").rpartition("/")[2].lower()
    named = [style for style in STYLES if style in name]
    if len(named) != 1:
        raise InvalidRequest(
            f"{reference} does not say what the model was trained to read: add prompts=vlm2vec or "
            "prompts=gme (docs/vlm.md)",
            field="embedder",
        )
    return named[0]
