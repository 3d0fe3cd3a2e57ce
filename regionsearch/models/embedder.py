"""What every embedder can do, and what all refuse alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.features import Backbone, DenseFeatures
from regionsearch.regions import Mask, RegionPrompt

Vector = NDArray[np.float32]
Accepted = Literal["text", "image", "point", "box", "mask", "instruction"]
"""`instruction` is text beside an image or region; the region kinds are those taken as they are."""


@dataclass(frozen=True, slots=True)
class SignalBackground:
    """How a signal is distributed over random pairs: raw cosines, both finite, deviation above 0."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    fingerprint: Fingerprint
    accepts: frozenset[Accepted]
    background: Mapping[str, SignalBackground]
    """By part name (`entity`, `global`, `text_entity`, `text_image`): serves collections too small
    to have statistics of their own."""

    @property
    def name(self) -> str:
        return self.fingerprint.name

    @property
    def dimension(self) -> int:
        return self.fingerprint.dimension


@dataclass(frozen=True, eq=False)
class ImageVectors:
    """Unit vectors of one image: image (d,), entities (n, d); float32."""

    image: Vector
    entities: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EncodableQuery:
    """What is asked, with the region already in the form that the embedder accepts.

    image: the query picture. mask: the region in that picture, for embedders that want pixels.
    prompt: the region as the caller gave it, for embedders that take points or boxes themselves.
    features: of `image`, when the segmenter has already paid for them.
    """

    image: Image | None = None
    mask: Mask | None = None
    prompt: RegionPrompt | None = None
    text: str | None = None
    features: DenseFeatures | None = None


@dataclass(frozen=True, eq=False)
class QueryVectors:
    """Unit vectors (d,) float32 of a query; None where the query has no such part.

    region: compared with entities (signal `entity`); the whole frame when an image comes without a
        region. An instruction-aware model has read the instruction into it.
    image: compared with images (signal `global`).
    text: compared with entities and images (signals `text_entity`, `text_image`).
    entity_arm, global_arm: what the two arms of the first phase are asked. For a query with pixels
        and words they hold both.
    """

    entity_arm: Vector
    global_arm: Vector
    region: Vector | None = None
    image: Vector | None = None
    text: Vector | None = None


@dataclass(frozen=True, eq=False)
class ModelInput:
    """One input in a model's own words, as published benchmarks and training state them.

    text: the exact string. For a model whose strings place the picture (VIRTUE, VLM2Vec) it holds
    `<|image_pad|>` once when there is an image and never otherwise; for other models it is the bare
    instruction or caption. region: in pixels of the image.
    """

    image: Image | None = None
    text: str | None = None
    region: RegionPrompt | None = None


InputRole = Literal["query", "candidate"]
"""`query`: what is asked, with its instruction. `candidate`: a stored picture that may be the answer."""


class InputEmbedder(Protocol):
    """What an embedder can do that reads inputs as one: benchmarks, pairwise reranking and training
    speak to it. All embedders here are also this."""

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors, one an input, each independent of the others.

        Raises NotAccepted for an input that the model cannot read, InvalidRequest for an empty one.
        """

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """The same input in the model's own words, ready for `embed_inputs`.

        given: `text` is the bare instruction or None; `region` has the caller's points or box where the
        model takes these as they are, otherwise a mask. A model whose strings place the picture, or name
        the region, makes its string here; one that was trained on boxes makes a box of the mask. For a
        model that reads pixels and bare words it is the input itself.
        """


class Embedder(InputEmbedder, Protocol):
    """Turns images, regions and words into unit vectors of one space."""

    @property
    def info(self) -> EmbedderInfo: ...

    @property
    def backbone(self) -> Backbone | None:
        """What computes the features that `embed_images` can be handed; None if it uses none."""

    def embed_images(
        self,
        images: Sequence[Image],
        entities: Sequence[Entities],
        features: Sequence[DenseFeatures] | None = None,
    ) -> list[ImageVectors]:
        """One image vector and one vector per entity for each image.

        `features` are those of this embedder's own backbone, one an image; None computes them.
        """

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors. Raises NotAccepted if the embedder takes no text."""

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        """Raises NotAccepted if the query has a part that `info.accepts` does not name."""


def check_visible(text: str) -> None:
    """Raises InvalidRequest for a text to embed without a visible character."""
    if not text.strip():
        raise InvalidRequest("a text to embed is empty", field="text")
