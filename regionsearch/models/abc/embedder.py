"""The embedder: pictures, regions, words, and pictures with an instruction, in one space.

What is stored is read without the instruct adapter, what is asked with an instruction is read with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from regionsearch.fingerprint import Fingerprint
from regionsearch.models.abc.network import AbcNetwork
from regionsearch.models.abc.settings import Settings
from regionsearch.models.abc.templates import AbcWords
from regionsearch.models.embedder import EmbedderInfo, SignalBackground
from regionsearch.models.qwen2_vl.crop_embedder import CropEmbedder
from regionsearch.models.qwen2_vl.pictures import PixelBounds

PREPROCESSING = 1
"""Version of everything between pixels or words and the network; raised when vectors change."""
BACKGROUND: Mapping[str, SignalBackground] = {
    # Chosen, not measured: the published weights were not at hand.
    "entity": SignalBackground(0.45, 0.15),
    "global": SignalBackground(0.35, 0.15),
    "text_entity": SignalBackground(0.15, 0.1),
    "text_image": SignalBackground(0.15, 0.1),
}


class AbcEmbedder(CropEmbedder):
    """network: for a look inside."""

    def __init__(self, network: AbcNetwork, settings: Settings, name: str, weights: str) -> None:
        info = EmbedderInfo(
            fingerprint=Fingerprint(name, weights, network.base.hidden_size, PREPROCESSING),
            accepts=frozenset({"text", "image", "box", "mask", "instruction"}),
            background=BACKGROUND,
        )
        bounds = PixelBounds(settings.min_tokens, settings.max_tokens)
        super().__init__(network, AbcWords(), bounds, settings.context, info)
        self.network = network
