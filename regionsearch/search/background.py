"""How the signals of joint scoring are distributed over random pairs of a collection.

Design: a seeded sample of (query, image) pairs of the signal itself. `entity`: a random entity against
the best entity of another image; `objectness`: of that best entity; `placement`: how far it agrees with a
random part of the frame; `global`: image against image; the text signals: one of 500 neutral phrases against
an image. The two signals of entities are measured as the plain cosine of the best entity. Joint scoring's
soft maximum lies below that, so a random pair's standardised value is below 0 in the mean; the weights and
the calibration were fitted on values that were standardised so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Candidate, Candidates, Collection
from regionsearch.models.embedder import Embedder, SignalBackground
from regionsearch.models.precomputed import load_embedder as unknown_space
from regionsearch.regions import FRAME_PARTS
from regionsearch.search.agreement import EntityFacts, agreement
from regionsearch.search.placement import Placement

PAIRS = 10_000
SAMPLED_IMAGES = 500
"""Images that the pairs are drawn from: enough for a mean and a deviation, few enough to be read
into memory at once (500 images of 32 entities at 640 dimensions: 42 MB)."""
LEAST_IMAGES = 50
"""Below this the embedder's shipped background serves."""
LEAST_DEVIATION = 0.01
"""Floor, in cosine: a collection of near-duplicates must not blow noise up to evidence."""
SEED = 0
UNMEASURED = {
    "objectness": SignalBackground(0.5, 0.25),
    "placement": SignalBackground(0.35, 0.3),
}
"""Of the two signals that are no cosines, until a collection has measured its own: what segmenters here say
of photos' entities, and how far an entity's middle agrees with a third or half of the frame."""


@dataclass(frozen=True, slots=True)
class CollectionBackground:
    """signals: by part name. images: how many the collection had when it was measured (0: shipped
    with the embedder). version: what answers name."""

    signals: Mapping[str, SignalBackground]
    images: int
    version: str

    def to_json(self) -> dict[str, Any]:
        return {
            "signals": {name: asdict(signal) for name, signal in self.signals.items()},
            "images": self.images,
            "version": self.version,
        }

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> CollectionBackground:
        signals = {name: SignalBackground(**signal) for name, signal in stored["signals"].items()}
        return CollectionBackground({**UNMEASURED, **signals}, int(stored["images"]), str(stored["version"]))


def shipped_background(embedder: Embedder | None) -> CollectionBackground:
    """What the embedder brings along, for collections too small to have their own. None: a model that is not
    at hand; then what is assumed of a space that nobody has measured."""
    if embedder is None:
        return CollectionBackground({**UNMEASURED, **unknown_space().info.background}, 0, "unknown-space")
    return CollectionBackground(
        {**UNMEASURED, **embedder.info.background}, 0, f"{embedder.info.name}-shipped"
    )


def is_due(stored: CollectionBackground | None, images: int) -> bool:
    """Whether statistics should be measured (again): from 50 images on, and at every doubling."""
    return images >= LEAST_IMAGES and (stored is None or images >= 2 * stored.images)


def neutral_phrases() -> list[str]:
    """The 500 phrases that ship with the package."""
    text = resources.files("regionsearch.search").joinpath("neutral_phrases.txt").read_text("utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


def measure_background(collection: Collection, embedder: Embedder | None) -> CollectionBackground | None:
    """Samples the collection as it is now; the same content gives the same statistics.

    embedder: None when it is not at hand; then the text signals, which no query can have, are not measured.
    Returns None when fewer than 50 of the sampled images can be read, so that there is too little to go by.
    """
    numbers = [int(number) for number in collection.sample_numbers(SAMPLED_IMAGES, SEED)]
    sample = list(collection.candidates(numbers))
    if len(sample) < LEAST_IMAGES:
        return None
    images = collection.stats.images
    generator = np.random.default_rng(SEED)
    first = generator.integers(0, len(sample), PAIRS)
    # A shift by 1 to n - 1 never pairs an image with itself.
    second = (first + generator.integers(1, len(sample), PAIRS)) % len(sample)
    signals = {
        **_entity_signals(sample, first, second, generator),
        "global": _global_signal(sample, first, second),
    }
    if embedder is not None and "text" in embedder.info.accepts:
        signals.update(_text_signals(sample, embedder, second, generator))
    else:
        shipped = shipped_background(embedder).signals
        signals.update({name: shipped[name] for name in ("text_entity", "text_image") if name in shipped})
    return CollectionBackground({**UNMEASURED, **signals}, images, _version(images, signals))


def _entity_signals(
    sample: list[Candidate],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    generator: np.random.Generator,
) -> dict[str, SignalBackground]:
    """Of a random entity with the best entity of another image; how objectlike that one is; and how far it
    agrees with a random part of the frame."""
    cosines, objectness = np.empty(len(first)), np.empty(len(first))
    best = np.empty(len(first), dtype=np.int64)
    for place, (query, other) in enumerate(zip(first, second, strict=True)):
        entities = sample[query].vectors[1:]
        entity = entities[generator.integers(len(entities))]
        likeness = sample[other].vectors[1:] @ entity
        best[place] = likeness.argmax()
        cosines[place], objectness[place] = likeness.max(), sample[other].objectness[best[place]]
    return {
        "entity": _moments(cosines),
        "objectness": _moments(objectness),
        "placement": _placement_signal(sample, second, best),
    }


def _placement_signal(
    sample: list[Candidate], second: NDArray[np.int64], best: NDArray[np.int64]
) -> SignalBackground:
    facts = EntityFacts.of(Candidates.of([replace(each, labels=None) for each in sample]))
    rows = facts.starts[second] + best
    # Its own generator, so that the cosines' sample is the same with and without placements.
    chosen = np.random.default_rng(SEED).integers(0, len(FRAME_PARTS), len(rows))
    agreed = np.stack([agreement(Placement(part=part), facts) for part in FRAME_PARTS], axis=1)
    return _moments(agreed[rows, chosen])


def _global_signal(
    sample: list[Candidate], first: NDArray[np.int64], second: NDArray[np.int64]
) -> SignalBackground:
    images = np.stack([candidate.vectors[0] for candidate in sample])
    return _moments(np.einsum("ij,ij->i", images[first], images[second]))


def _text_signals(
    sample: list[Candidate],
    embedder: Embedder,
    second: NDArray[np.int64],
    generator: np.random.Generator,
) -> dict[str, SignalBackground]:
    phrases = embedder.embed_texts(neutral_phrases())
    chosen = generator.integers(0, len(phrases), len(second))
    of_entity, of_image = np.empty(len(second)), np.empty(len(second))
    for place, (phrase, other) in enumerate(zip(chosen, second, strict=True)):
        cosines = sample[other].vectors @ phrases[phrase]
        of_image[place], of_entity[place] = cosines[0], cosines[1:].max()
    return {"text_entity": _moments(of_entity), "text_image": _moments(of_image)}


def _moments(cosines: NDArray[np.floating[Any]]) -> SignalBackground:
    return SignalBackground(float(cosines.mean()), max(float(cosines.std()), LEAST_DEVIATION))


def _version(images: int, signals: Mapping[str, SignalBackground]) -> str:
    digest = hashlib.sha256(repr(sorted((n, s.mean, s.deviation) for n, s in signals.items())).encode())
    return f"{images}-images-{digest.hexdigest()[:8]}"
