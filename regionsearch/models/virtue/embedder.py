"""VIRTUE as an embedder: image, entities, regions and words in one space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
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
    InputRole,
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
PICTURES_TOGETHER = 16
"""Different pictures whose features `embed_inputs` holds at once: about 8 MB each in bf16, and enough to
fill the passes of the language model."""


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
            features = self._features(images)
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
        prompt, region = self._prompt(image, region)
        # Refused before anything is computed, if they cannot be read.
        words = (
            [] if query.text is None else [text_row(self._tokenizer, templates.query_text_words(query.text))]
        )
        dense = self._features([image])[0] if query.features is None else self._own(query.features)
        rows = [
            *words,
            self._image_row(image, templates.query_region_words(region, query.text), prompt, dense),
            self._image_row(image, templates.query_image_words(query.text), GRID, dense),
        ]
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

        A picture that inputs near one another share (the same object) is computed once.
        Raises NotAccepted for a region without an image or one that the model cannot read,
        InvalidRequest for an empty input or a string of the wrong form.
        """
        # All of them, before anything is computed for the first.
        rows = [self._input_row(given) for given in inputs]
        vectors = np.empty((len(inputs), self._info.dimension), dtype=np.float32)
        for places in _few_pictures(inputs):
            pictures = {id(image): image for place in places if (image := inputs[place].image) is not None}
            computed = dict(zip(pictures, self._features(list(pictures.values())), strict=True))
            vectors[list(places)] = self._embed(
                [replace(rows[place], features=computed.get(id(inputs[place].image))) for place in places]
            )
        return vectors

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """A candidate without words as it is read at indexing, all else with its instruction; a mask becomes
        its box."""
        if given.image is None:
            return ModelInput(text=None if given.text is None else templates.query_text_words(given.text))
        region = given.region
        if region is not None and region.mask is not None:
            region = replace(region, mask=None, box=region.mask.box())
        if region is not None:
            words = templates.query_region_words(region, given.text)
        elif role == "query" or given.text is not None:
            words = templates.query_image_words(given.text)
        else:
            words = templates.image_words()
        return ModelInput(given.image, words, region)

    def indexing_cost(self, height: int, width: int, boxes: NDArray[np.float32]) -> IndexingCost:
        """What `backbone.features` and `embed_images` would run for one image of height × width pixels and
        entities with these boxes, (n, 4) pixels. Nothing is computed but the number of tokens."""
        rows = self._indexing_rows(height, width, boxes, None)
        patches = self._tokens(height, width) * MERGE * MERGE
        return indexing_cost(rows, self._network.segment_token_count, self._budget, patches)

    def _input_row(self, given: ModelInput) -> Row:
        """Without features yet."""
        if given.image is None:
            if given.region is not None:
                raise NotAccepted("a region needs the image that it lies in", field="region")
            if given.text is None:
                raise InvalidRequest("an input needs an image, a text, or both")
            return text_row(self._tokenizer, given.text)
        prompt = GRID if given.region is None else self._prompt(given.image, given.region)[0]
        words = self.worded(given, "candidate").text if given.text is None else given.text
        return self._image_row(given.image, words or "", prompt, None)

    def _features(self, images: Sequence[Image]) -> list[VirtueFeatures]:
        """For this embedder alone: without what only a segmenter needs."""
        with torch.inference_mode():
            return self._backbone.compute(images, keep_high_res=False)

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

    def _image_row(self, image: Image, words: str, prompt: SamPrompt, dense: VirtueFeatures | None) -> Row:
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


def _few_pictures(inputs: Sequence[ModelInput]) -> Iterator[range]:
    """The inputs in their order, in parts with at most PICTURES_TOGETHER different pictures."""
    start = 0
    pictures: set[int] = set()
    for place, given in enumerate(inputs):
        if given.image is None:
            continue
        if id(given.image) not in pictures and len(pictures) == PICTURES_TOGETHER:
            yield range(start, place)
            start, pictures = place, set()
        pictures.add(id(given.image))
    if start < len(inputs):
        yield range(start, len(inputs))
