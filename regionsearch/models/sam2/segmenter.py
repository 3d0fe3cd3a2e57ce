"""The sam2 segmenter: automatic and prompted masks from one pass of SAM 2 over a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.checkpoints import weights_hash
from regionsearch.models.features import Backbone, DenseFeatures
from regionsearch.models.reference import ModelReference
from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2.automatic_masks import automatic_masks
from regionsearch.models.sam2.backbone import Sam2Backbone
from regionsearch.models.sam2.image_features import SamImageFeatures
from regionsearch.models.sam2.loading import LoadedSam2, load_sam2
from regionsearch.models.sam2.options import MaskOptions
from regionsearch.models.sam2.prompt_decoder import PromptDecoder
from regionsearch.models.sam2.prompted_masks import needs_features, outline_of, prompted_mask
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT, SegmenterInfo, check_features, check_limit
from regionsearch.regions import Mask, RegionPrompt, validate_within

PREPROCESSING = 2
"""Version of everything besides weights and options that decides what is found; raised when that changes."""


def load_segmenter(reference: ModelReference, runtime: Runtime) -> Sam2Segmenter:
    """Raises InvalidRequest for an option that is not one, ModelUnavailable when the weights are missing or
    not those of a SAM 2."""
    options = MaskOptions.of(reference)
    return Sam2Segmenter(load_sam2(reference.location, runtime), options, runtime, name=str(reference))


class Sam2Segmenter:
    """Safe to use from several threads: nothing changes after construction."""

    def __init__(self, loaded: LoadedSam2, options: MaskOptions, runtime: Runtime, *, name: str) -> None:
        self._options = options
        self._backbone = Sam2Backbone(loaded, options.input, runtime)
        self._decoder = PromptDecoder(loaded)
        both = weights_hash([], {"sam2": loaded.weights, **options.settings()})
        self._info = SegmenterInfo(Fingerprint(name, both, dimension=0, preprocessing=PREPROCESSING))

    @property
    def info(self) -> SegmenterInfo:
        return self._info

    @property
    def backbone(self) -> Backbone:
        return cast(Backbone, self._backbone)

    def propose(
        self,
        images: Sequence[Image],
        features: Sequence[DenseFeatures] | None = None,
        limit: int = DEFAULT_ENTITY_LIMIT,
    ) -> list[Entities]:
        """At most `limit` (1 to 1,024) entities for each image, best first; masks have the size of
        their image. Where nothing is found, the whole frame is the one entity.

        Raises InvalidRequest for another limit, or features that are not one an image.
        """
        check_limit(limit)
        passes = self._passes(images, features)
        return [automatic_masks(self._decoder, own, self._options, limit) for own in passes]

    def prompt(
        self,
        image: Image,
        region: RegionPrompt,
        features: DenseFeatures | None = None,
        *,
        refine: bool = False,
    ) -> Mask:
        """The mask that the region means, of the image's size; see `prompted_masks.prompted_mask`. An
        outline alone means itself, and SAM does not run; with `refine`, or for a segmenter with box=refine
        always, a box means what SAM finds in it, and itself where SAM finds nothing.

        Raises InvalidRegion when the region leaves the image, or nothing lies there.
        """
        region = validate_within(region, image.height, image.width)
        outline = outline_of(region, image.height, image.width)
        refined = refine or self._options.box == "refine"
        if outline is not None and not needs_features(region, refine_boxes=refined):
            return outline
        (own,) = self._passes([image], None if features is None else [features])
        return prompted_mask(self._decoder, own, region, self._options)

    def _passes(
        self, images: Sequence[Image], features: Sequence[DenseFeatures] | None
    ) -> list[SamImageFeatures]:
        if features is None:
            return self._backbone.features(images)
        check_features(images, features, self._backbone.source)
        return cast(list[SamImageFeatures], list(features))
