"""VIRTUE as an embedder: image, entities, regions and words in one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest, NotAccepted
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.batching import run_halving
from regionsearch.models.embedder import (
    EmbedderInfo,
    EncodableQuery,
    ImageVectors,
    ModelInput,
    QueryVectors,
    SignalBackground,
)
from regionsearch.models.features import DenseFeatures
from regionsearch.models.qwen2_vl.preprocessing import MERGE
from regionsearch.models.virtue import templates
from regionsearch.models.virtue.cost import IndexingCost, indexing_cost
from regionsearch.models.virtue.features import VirtueBackbone, VirtueFeatures
from regionsearch.models.virtue.network import VirtueNetwork
from regionsearch.models.virtue.preprocessing import token_count
from regionsearch.models.virtue.prompts import GRID, SamPrompt, sam_prompt
from regionsearch.models.virtue.rows import Row, batches, collate, image_row, text_row
from regionsearch.regions import Box, RegionPrompt, validate_within

BACKGROUND = {
    # Chosen, not measured: the published example has unrelated captions at 0.13 to 0.25 (docs/virtue.md),
    # and pictures share much more with one another than with words.
    "entity": SignalBackground(0.45, 0.12),
    "global": SignalBackground(0.40, 0.12),
    "text_entity": SignalBackground(0.15, 0.06),
    "text_image": SignalBackground(0.15, 0.06),
}


class VirtueEmbedder:
    """Takes points (one, positive), boxes, masks and polygons as they are, with or without words.

    as_published: pictures squared and boxes unscaled, as for the published tables. token_budget: of
    one pass. The vectors have the hidden size of the language model as dimension: 1,536 for VIRTUE-2B,
    3,584 for 7B. Safe to use from several threads.
    """

    def __init__(
        self,
        network: VirtueNetwork,
        tokenizer: Any,
        backbone: VirtueBackbone,
        fingerprint: Fingerprint,
        *,
        as_published: bool,
        token_budget: int,
    ) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._backbone = backbone
        self._as_published = as_published
        self._budget = token_budget
        self._info = EmbedderInfo(
            fingerprint=fingerprint,
            accepts=frozenset({"text", "image", "point", "box", "mask", "instruction"}),
            background=BACKGROUND,
        )

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    @property
    def backbone(self) -> VirtueBackbone:
        return self._backbone

    @property
    def network(self) -> VirtueNetwork:
        """For training, and to look inside."""
        return self._network

    @property
    def tokenizer(self) -> Any:
        return self._tokenizer

    def embed_images(
        self,
        images: Sequence[Image],
        entities: Sequence[Entities],
        features: Sequence[DenseFeatures] | None = None,
    ) -> list[ImageVectors]:
        """One vector an image (nothing pointed at) and one an entity (its box): (d,) and (n, d) float32,
        unit length."""
        if features is None:
            features = self._backbone.features(images)
        rows: list[Row] = []
        ends = []
        for image, found, dense in zip(images, entities, features, strict=True):
            rows.extend(self._indexing_rows(image.height, image.width, found.boxes, self._own(dense)))
            ends.append(len(rows))
        vectors = self._embed(rows)
        return [ImageVectors(part[0], part[1:]) for part in np.split(vectors, ends)[:-1]]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors. Raises InvalidRequest for a text without a visible character, or
        one that holds `<|image_pad|>`."""
        return self._embed([text_row(self._tokenizer, templates.query_text_words(text)) for text in texts])

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        """The instruction is read beside the region and beside the image; `text` is the words alone.

        Without a region, `region` is that of the whole frame. A region is taken as the caller gave it
        (`query.prompt`) and, where he gave none, from `query.mask`.
        Raises NotAccepted for a region without an image, a second or negative point, or points beside
        an outline; InvalidRequest when there is nothing to embed or the text is empty.
        """
        if query.image is None:
            if query.mask is not None or query.prompt is not None:
                raise NotAccepted("a region needs the image that it lies in", field="region")
            if query.text is None:
                raise InvalidRequest("a query needs an image, a text, or both")
            text = self.embed_texts([query.text])[0]
            return QueryVectors(entity_arm=text, global_arm=text, text=text)
        image = query.image
        region = query.prompt
        if region is None:
            whole = Box(0, 0, image.width, image.height)
            region = RegionPrompt(box=whole) if query.mask is None else RegionPrompt(mask=query.mask)
        rows = []
        if query.text is not None:
            # First, so that a text that cannot be read is refused before anything is computed.
            rows.append(text_row(self._tokenizer, templates.query_text_words(query.text)))
        prompt, region = self._prompt(image, region)
        dense = self._backbone.features([image])[0] if query.features is None else self._own(query.features)
        rows.append(self._image_row(image, templates.query_region_words(region, query.text), prompt, dense))
        rows.append(self._image_row(image, templates.query_image_words(query.text), GRID, dense))
        vectors = self._embed(rows)
        return QueryVectors(
            entity_arm=vectors[-2],
            global_arm=vectors[-1],
            region=vectors[-2],
            image=vectors[-1],
            text=None if query.text is None else vectors[0],
        )

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors, one an input. Beside an image the exact string holds
        `<|image_pad|>` once; without a string, an input is read as at indexing. The region goes to SAM;
        whether the string names it too is up to the caller.

        A picture that several inputs hold (the same object) is computed once.
        Raises NotAccepted for a region without an image or one that the model cannot read,
        InvalidRequest for an empty input or a string of the wrong form.
        """
        prompts = [self._prompt_of(given) for given in inputs]
        pictures = {id(given.image): given.image for given in inputs if given.image is not None}
        computed = dict(zip(pictures, self._backbone.features(list(pictures.values())), strict=True))
        rows = []
        for given, (prompt, region) in zip(inputs, prompts, strict=True):
            if given.image is None:
                rows.append(text_row(self._tokenizer, given.text or ""))
                continue
            words = given.text
            if words is None:
                words = (
                    templates.image_words() if region is None else templates.query_region_words(region, None)
                )
            rows.append(self._image_row(given.image, words, prompt, computed[id(given.image)]))
        return self._embed(rows)

    def indexing_cost(self, height: int, width: int, boxes: NDArray[np.float32]) -> IndexingCost:
        """What `backbone.features` and `embed_images` would run for one image of height × width pixels and
        entities with these boxes, (n, 4) pixels. Nothing is computed but the number of tokens."""
        rows = self._indexing_rows(height, width, boxes, None)
        patches = self._tokens(height, width) * MERGE * MERGE
        return indexing_cost(rows, self._network.segment_token_count, self._budget, patches)

    def _prompt_of(self, given: ModelInput) -> tuple[SamPrompt, RegionPrompt | None]:
        """Checks an input, before anything is computed."""
        if given.image is None:
            if given.region is not None:
                raise NotAccepted("a region needs the image that it lies in", field="region")
            if given.text is None:
                raise InvalidRequest("an input needs an image, a text, or both")
            return GRID, None
        return (GRID, None) if given.region is None else self._prompt(given.image, given.region)

    def _prompt(self, image: Image, region: RegionPrompt) -> tuple[SamPrompt, RegionPrompt]:
        """For SAM, and for the words: clipped to the image."""
        region = validate_within(region, image.height, image.width)
        return self._sam_prompt(region, image.height, image.width), region

    def _sam_prompt(self, region: RegionPrompt, height: int, width: int) -> SamPrompt:
        return sam_prompt(region, height, width, boxes_unscaled=self._as_published)

    def _indexing_rows(
        self, height: int, width: int, boxes: NDArray[np.float32], dense: VirtueFeatures | None
    ) -> list[Row]:
        """The image's row, then those of its entities."""
        tokens = self._tokens(height, width)
        rows = [image_row(self._tokenizer, templates.image_words(), tokens, GRID, dense)]
        for corners in boxes:
            box = Box(*(float(corner) for corner in corners))
            prompt = self._sam_prompt(RegionPrompt(box=box), height, width)
            rows.append(image_row(self._tokenizer, templates.entity_words(box), tokens, prompt, dense))
        return rows

    def _image_row(self, image: Image, words: str, prompt: SamPrompt, dense: VirtueFeatures) -> Row:
        return image_row(self._tokenizer, words, self._tokens(image.height, image.width), prompt, dense)

    def _tokens(self, height: int, width: int) -> int:
        return token_count(height, width, square=self._as_published)

    def _own(self, features: DenseFeatures) -> VirtueFeatures:
        """What this backbone computed. Raises ValueError for features of another one."""
        part = features.part(self._backbone.source)
        if not isinstance(part, VirtueFeatures):
            raise ValueError(f"features are of {features.source!r}, not of {self._backbone.source!r}")
        return part

    def _embed(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        vectors = np.empty((len(rows), self._info.dimension), dtype=np.float32)
        for places in batches(rows, self._network.segment_token_count, self._budget):
            vectors[places] = np.stack(run_halving([rows[place] for place in places], self._run))
        return vectors

    def _run(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return list(self._network(collate(rows, self._network.device)).cpu().numpy())
