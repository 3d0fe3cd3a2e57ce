"""The compact segmenter: superpixels, one learned merge tree, a learned ranking of its nodes.

How it came about, and what was measured: docs/compact-segmenter.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.compact.merge_tree import (
    Array,
    DescribedSuperpixels,
    MergeTree,
    build_merge_tree,
    describe,
)
from regionsearch.models.compact.network import CompactFeatures, CompactNetwork
from regionsearch.models.compact.perceptron import mean_logit, sigmoid
from regionsearch.models.compact.pointing import PointedTree, region_meant
from regionsearch.models.compact.proposal_features import (
    MIN_AREA,
    MIN_BOX_AREA,
    Candidates,
    find_candidates,
)
from regionsearch.models.compact.proposal_ranking import select, worth
from regionsearch.models.compact.region_masks import RegionMasks
from regionsearch.models.compact.segmenter_weights import SegmenterWeights, read_weights
from regionsearch.models.compact.single_thread import single_threaded_products
from regionsearch.models.compact.superpixels import cut_superpixels
from regionsearch.models.features import Backbone, DenseFeatures
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT, SegmenterInfo, check_features, check_limit
from regionsearch.regions import Mask, RegionPrompt, validate_within

PREPROCESSING = 2
"""Version of everything besides the weights that decides what is found; raised when outputs change."""

POINTED_MIN_BOX_AREA = 0.001
"""Share of the picture from which a region can be pointed at: less than an entity of its own needs,
since whoever clicks on a small thing has already found it."""
POINTED_MIN_AREA = 0.0003


@dataclass(frozen=True, eq=False)
class _Candidates:
    """A picture's tree, the nodes that may be things, and how likely each is, (c,) 0 to 1."""

    described: DescribedSuperpixels
    tree: MergeTree
    candidates: Candidates
    scores: Array


class CompactSegmenter:
    """Cuts pictures into entities on a CPU, class-agnostic, from one pass of the compact network.

    Safe to use from several threads: nothing changes after construction.
    Raises ModelUnavailable when the weights are missing or not the shipped ones.

    weights: another file of fitted weights, instead of the shipped one.
    """

    def __init__(self, network: CompactNetwork, weights: Path | None = None) -> None:
        self._network = network
        self._weights, digest = read_weights(weights)
        both = hashlib.sha256(f"{network.source}\n{digest}".encode()).hexdigest()
        self._info = SegmenterInfo(Fingerprint("compact", both, dimension=0, preprocessing=PREPROCESSING))

    @property
    def info(self) -> SegmenterInfo:
        return self._info

    @property
    def backbone(self) -> Backbone:
        return cast(Backbone, self._network)

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
        with single_threaded_products():
            return [self._propose(image, own, limit) for image, own in zip(images, passes, strict=True)]

    def prompt(
        self,
        image: Image,
        region: RegionPrompt,
        features: DenseFeatures | None = None,
        *,
        refine: bool = False,
    ) -> Mask:
        """The mask that the region means, of the image's size; see `pointing.region_meant`.

        Raises InvalidRegion when the region leaves the image, or nothing of its own lies at a point.
        """
        region = validate_within(region, image.height, image.width)

        def pointed_tree() -> PointedTree:
            (own,) = self._passes([image], None if features is None else [features])
            with single_threaded_products():
                found = candidates(
                    self._weights, image, own, min_box_area=POINTED_MIN_BOX_AREA, min_area=POINTED_MIN_AREA
                )
            superpixels = found.described.superpixels
            masks = RegionMasks(superpixels)
            return PointedTree(masks, found.tree, found.candidates, found.scores, superpixels.labels.size)

        return region_meant(region, image.height, image.width, pointed_tree, refine)

    def _passes(
        self, images: Sequence[Image], features: Sequence[DenseFeatures] | None
    ) -> list[CompactFeatures]:
        if features is None:
            return self._network.features(images)
        check_features(images, features, self._network.source)
        return cast(list[CompactFeatures], list(features))

    def _propose(self, image: Image, features: CompactFeatures, limit: int) -> Entities:
        # Small pieces of the background are worth nothing as things, but complete the picture.
        found = candidates(self._weights, image, features, min_box_area=MIN_AREA)
        members, boxes = found.candidates.members, found.candidates.boxes
        superpixels = found.described.superpixels
        shared = np.asarray((members * superpixels.sizes) @ members.T, dtype=np.float32)
        box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        worths = worth(found.scores, found.candidates.swallowed)
        worths[box_areas < MIN_BOX_AREA * superpixels.labels.size] = 0
        chosen = select(worths, boxes, shared, limit, found.candidates.pieces)
        if len(chosen) == 0:
            return Entities.whole_frame(image.height, image.width)
        masks = RegionMasks(superpixels)
        return Entities.from_masks([masks.mask(members[index] > 0) for index in chosen], found.scores[chosen])


def candidates(
    weights: SegmenterWeights, image: Image, features: CompactFeatures, **least: float
) -> _Candidates:
    """Everything that the picture's merge tree offers, scored. `least`: see `find_candidates`."""
    superpixels = cut_superpixels(image, features.levels)
    described = describe(superpixels, weights.scale, weights.thing)
    tree = build_merge_tree(described, weights.affinity.negated())
    found = find_candidates(described, tree, **least)
    scores: NDArray[np.float32] = sigmoid(mean_logit(weights.rankers, found.features))
    return _Candidates(described, tree, found, scores)
