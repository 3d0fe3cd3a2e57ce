"""The embedded default: words, pictures and regions in one space, on a CPU, without a download.

A vector is a product of two spaces, 384 + 256 dimensions. The semantic part is what words can reach:
ConSE (Norouzi et al. 2014, eq. 3), the mean of the ImageNet classes' word vectors, weighted by how
likely the picture shows them. The visual part is the network's own feature, which tells more than its
classes do but has no words. docs/compact.md says how each choice was measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import cast

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.compact.close_ups import DOUBT, LONGEST_SIDE, close_up
from regionsearch.models.compact.network import CompactFeatures, CompactNetwork
from regionsearch.models.compact.region_pooling import pooling_weights
from regionsearch.models.compact.single_thread import single_threaded_products
from regionsearch.models.compact.text import TextEncoder
from regionsearch.models.compact.vocabulary import SHA256, load_vocabulary
from regionsearch.models.compact.weights import IMAGE_NETWORK, TEXT_NETWORK, TEXT_TOKENIZER
from regionsearch.models.embedder import (
    EmbedderInfo,
    EncodableQuery,
    ImageVectors,
    InputRole,
    ModelInput,
    QueryVectors,
    SignalBackground,
    Vector,
    check_visible,
)
from regionsearch.models.features import DenseFeatures
from regionsearch.models.plain_inputs import embed_plain_inputs, plain_query
from regionsearch.regions import Box, Mask

PREPROCESSING = 2
"""Version of everything here and in the network's input; raised when vectors change."""
VISUAL_SHARE = 0.5
"""Of a vector's squared length that is the visual part."""
REGION_CONTEXT = 0.15
"""How much of the whole image's feature is added to a region's: what is around a thing helps to name it
(measured: docs/compact.md)."""
REGION_LENGTH = 12.0
"""Length that a region's feature is brought to before it is classified. Averages over many different
cells are short, which the classifier takes for doubt; without this, the same thing is spread over more
classes the larger its region is. Photos' entities have about 17 on average; with less, a vector holds more
of the likely classes (docs/compact.md: 9 to 22 are within noise of each other)."""
BACKGROUND_FILE = "background.json"


class CompactEmbedder:
    """Embeds with EfficientNet-Lite2 and all-MiniLM-L6-v2. Safe to use from several threads.

    threads: cores that the text encoder uses inside one call; None: all physical ones.
    Raises ModelUnavailable when weights or shipped tables are missing or are not the expected ones.
    """

    def __init__(self, network: CompactNetwork, threads: int | None = None) -> None:
        self._network = network
        self._text = TextEncoder(threads)
        self._vocabulary = load_vocabulary()
        visual = len(self._vocabulary.projection)
        self._no_visual = np.zeros(visual, dtype=np.float32)
        self._info = EmbedderInfo(
            fingerprint=Fingerprint(
                name="compact",
                weights=_weights_hash(),
                dimension=self._text.dimension + visual,
                preprocessing=PREPROCESSING,
            ),
            accepts=frozenset({"text", "image", "mask", "instruction"}),
            background=_shipped_background(),
        )

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    @property
    def backbone(self) -> CompactNetwork:
        return self._network

    def embed_images(
        self,
        images: Sequence[Image],
        entities: Sequence[Entities],
        features: Sequence[DenseFeatures] | None = None,
    ) -> list[ImageVectors]:
        """One vector an image and one an entity: (640,) and (n, 640) float32, unit length."""
        if features is None:
            features = self._network.features(images)
        pooled = [
            _pooled(self._own(dense), found.masks) for dense, found in zip(features, entities, strict=True)
        ]
        if not pooled:
            return []
        # One product with the classifier for the whole batch.
        vectors = self._vectors(np.concatenate(pooled))
        ends = np.cumsum([len(rows) for rows in pooled])
        return [ImageVectors(rows[0], rows[1:]) for rows in np.split(vectors, ends[:-1])]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 640) float32 unit vectors; the visual part is 0. English; the first 256 tokens count.

        Raises InvalidRequest for a text without a single visible character.
        """
        for text in texts:
            check_visible(text)
        if not texts:
            return np.empty((0, self._info.dimension), dtype=np.float32)
        semantic = _unit(self._text.encode(texts) - self._vocabulary.centre)
        return np.concatenate(
            [semantic, np.broadcast_to(self._no_visual, (len(texts), len(self._no_visual)))], 1
        )

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        """For pixels and words together the arms are asked their unit sum; see `plain_query` for what is
        raised."""
        return plain_query(self, query, self._embed_pixels, _unit_sum)

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors; see `embed_plain_inputs` for what is raised."""
        return embed_plain_inputs(self, inputs)

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """The input itself: pixels and bare words need no template."""
        del role
        return given

    def embed_close_ups(self, image: Image, boxes: Sequence[Box]) -> NDArray[np.float32]:
        """(n, 640) float32 unit vectors; see `CloseUpEmbedder`."""
        if not boxes:
            return np.empty((0, self._info.dimension), dtype=np.float32)
        pooled = self._network.pooled([close_up(image, box) for box in boxes], LONGEST_SIDE)
        # A few rows: the second core is busy with another image's.
        with single_threaded_products():
            return self._vectors(pooled, DOUBT)

    def _embed_pixels(
        self, image: Image, mask: Mask | None, features: DenseFeatures | None
    ) -> tuple[Vector, Vector]:
        dense = self._network.features([image])[0] if features is None else self._own(features)
        # Without a region the whole frame is what entities are compared with.
        region = Mask.full(image.height, image.width) if mask is None else mask
        whole, of_region = self._vectors(_pooled(dense, [region]))
        return whole, of_region

    def _own(self, features: DenseFeatures) -> CompactFeatures:
        if features.source != self._network.source:
            raise ValueError(f"features of {features.source} were handed to {self._network.source}")
        return cast(CompactFeatures, features)

    def _vectors(self, pooled: NDArray[np.float32], doubt: float = 1.0) -> NDArray[np.float32]:
        """Pooled features (n, 1280) → (n, 640) unit vectors. doubt: what logits are divided by."""
        probabilities = _softmax(self._network.logits(pooled) / np.float32(doubt))
        semantic = _unit(probabilities @ self._vocabulary.class_vectors - self._vocabulary.centre)
        visual = _unit(pooled @ self._vocabulary.projection.T)
        return np.concatenate(
            [np.sqrt(1 - VISUAL_SHARE) * semantic, np.sqrt(VISUAL_SHARE) * visual], axis=1, dtype=np.float32
        )


def _pooled(features: CompactFeatures, masks: Sequence[Mask]) -> NDArray[np.float32]:
    """(1 + n, 1280): the feature of the whole image, and of each region."""
    channels, rows, columns = features.last.shape
    cells = features.last.reshape(channels, rows * columns).T
    pooled = np.empty((1 + len(masks), channels), dtype=np.float32)
    pooled[0] = cells.mean(axis=0)
    regions = pooling_weights(masks, rows, columns) @ cells + REGION_CONTEXT * pooled[0]
    pooled[1:] = REGION_LENGTH * _unit(regions)
    return pooled


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def _unit_sum(pixels: Vector, text: Vector) -> Vector:
    return _unit(pixels + text)


def _weights_hash() -> str:
    """One sha256 over the hashes of everything that the vectors depend on."""
    networks = [weights.sha256 for weights in (IMAGE_NETWORK, TEXT_NETWORK, TEXT_TOKENIZER)]
    tables = [digest for _, digest in sorted(SHA256.items())]
    return hashlib.sha256("\n".join([*networks, *tables]).encode()).hexdigest()


def _shipped_background() -> Mapping[str, SignalBackground]:
    """What `regionsearch.training.measure_background` wrote beside this module."""
    text = resources.files("regionsearch.models.compact").joinpath(BACKGROUND_FILE).read_text("utf-8")
    return {part: SignalBackground(**moments) for part, moments in json.loads(text)["signals"].items()}
