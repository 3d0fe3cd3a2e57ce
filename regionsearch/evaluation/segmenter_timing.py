"""How long a segmenter takes, beside the yardstick, on the same photos in the same loop."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from regionsearch.entities import Entities
from regionsearch.evaluation.felzenszwalb import three_scale_segments
from regionsearch.images import Image
from regionsearch.models.features import DenseFeatures
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT, Segmenter


@dataclass(frozen=True, eq=False)
class Proposed:
    """What a segmenter makes of an image at the default limit, and the features it was made from."""

    entities: Entities
    features: Sequence[DenseFeatures] | None
    seconds: float


def propose_timed(segmenter: Segmenter, image: Image) -> Proposed:
    """Proposals at the default limit. The network's pass is part of the time, decoding is not."""
    started = time.perf_counter()
    features = None if segmenter.backbone is None else segmenter.backbone.features([image])
    (entities,) = segmenter.propose([image], features, limit=DEFAULT_ENTITY_LIMIT)
    return Proposed(entities, features, time.perf_counter() - started)


def baseline_seconds(image: Image) -> float:
    """Seconds of three-scale felzenszwalb at 256 px, shrinking the image and making masks and boxes."""
    started = time.perf_counter()
    three_scale_segments(image)
    return time.perf_counter() - started


def warm_up(segmenter: Segmenter, image: Image) -> None:
    """First calls load libraries and set up sessions; they are nobody's time an image."""
    propose_timed(segmenter, image)
    baseline_seconds(image)
