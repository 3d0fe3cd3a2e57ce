"""Vectors to measure indexes with: a hard set, an easy one, and real ones repeated with noise.

Every set is a distribution with a seed. Rows come in blocks, each drawn from its own seed, so that a million
of them can be streamed, twice alike, without being held. Queries are further draws: never a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRequest

BLOCK_ROWS = 4096
_QUERIES = 1
_ROWS = 0


class VectorSet(Protocol):
    """A distribution of unit vectors. name: as reports call it. dimension: of each vector."""

    @property
    def name(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.float32]:
        """(count, d) float32 unit vectors."""


def rows(vectors: VectorSet, count: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """The first `count` rows of a set in blocks (m, d) of 4,096 at most; more rows begin with the same."""
    for number, first in enumerate(range(0, count, BLOCK_ROWS)):
        random = np.random.default_rng([seed, _ROWS, number])
        yield vectors.draw(BLOCK_ROWS, random)[: count - first]


def queries(vectors: VectorSet, count: int, seed: int = 0) -> NDArray[np.float32]:
    """(count, d) draws of the same distribution that are not among its rows."""
    return vectors.draw(count, np.random.default_rng([seed, _QUERIES]))


@dataclass(frozen=True, eq=False)
class ClusteredVectors:
    """A mixture of Gaussians on the sphere.

    centres: (c, d) float32, unit length. shares: (c,) cumulative, ends at 1.
    deviations: (d,) of what is added to a centre, along `axes` (d, d), whose rows are orthonormal.
    """

    name: str
    centres: NDArray[np.float32]
    shares: NDArray[np.float64]
    deviations: NDArray[np.float32]
    axes: NDArray[np.float32] | None

    @property
    def dimension(self) -> int:
        return int(self.centres.shape[1])

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.float32]:
        of = np.searchsorted(self.shares, random.random(count), side="right")
        noise = random.standard_normal((count, self.dimension), np.float32) * self.deviations
        return _unit(self.centres[of] + (noise if self.axes is None else noise @ self.axes))


HARD_CLUSTERS = 1000
HARD_NOISE = 1.5
"""Length of what is added to a unit centre. Of 100,000 rows, a quarter of the ten nearest of a question then
lie in other clusters than its own, and a fifth of the questions are nearer to another cluster's centre."""
EASY_NOISE = 0.6


def hard_vectors(dimension: int, seed: int = 0) -> ClusteredVectors:
    """Overlapping clusters with a decaying spectrum.

    1,000 clusters whose sizes fall with their rank (a power law with exponent 1). Centres and what is added
    to them have variances that fall as 1/i along the same hidden axes: a few directions carry most, as in the
    vectors of trained models, but none of the coordinates does.
    """
    random = np.random.default_rng([seed, 2])
    axes = np.linalg.qr(random.standard_normal((dimension, dimension)))[0].astype(np.float32)
    spectrum = np.sqrt(1 / np.arange(1, dimension + 1)).astype(np.float32)
    spectrum /= np.linalg.norm(spectrum)
    centres = random.standard_normal((HARD_CLUSTERS, dimension), np.float32) * spectrum @ axes
    sizes = 1 / np.arange(1, HARD_CLUSTERS + 1)
    shares = np.cumsum(sizes / sizes.sum())
    shares[-1] = 1.0
    return ClusteredVectors("hard", _unit(centres), shares, HARD_NOISE * spectrum, axes)


def easy_vectors(dimension: int, seed: int = 0) -> ClusteredVectors:
    """Clusters of equal size around random directions, with the same noise in every direction."""
    random = np.random.default_rng([seed, 3])
    centres = _unit(random.standard_normal((HARD_CLUSTERS, dimension), np.float32))
    shares = np.arange(1, HARD_CLUSTERS + 1) / HARD_CLUSTERS
    deviations = np.full(dimension, EASY_NOISE / np.sqrt(dimension), np.float32)
    return ClusteredVectors("easy", centres, shares, deviations, None)


COPY_COSINE = 0.9
"""Of a copy with noise to its origin."""


def repeated_with_noise(origins: NDArray[np.float32], name: str = "repeated") -> ClusteredVectors:
    """Real vectors (n, d), each as likely, with Gaussian noise: copies have cosine 0.9 to their origin.

    Raises InvalidRequest unless the origins are an array (n, d) of finite numbers without rows of length 0.
    """
    usable = origins.ndim == 2 and origins.size and origins.dtype.kind == "f" and np.isfinite(origins).all()
    if not usable or not np.linalg.norm(origins, axis=1).all():
        raise InvalidRequest(
            f"vectors of shape {origins.shape} and type {origins.dtype} are not (n, d) finite numbers "
            "with a length"
        )
    count, dimension = origins.shape
    # Noise of length l, at right angles to the origin in expectation: cosine = 1 / sqrt(1 + l²).
    length = np.sqrt(1 / COPY_COSINE**2 - 1)
    deviations = np.full(dimension, length / np.sqrt(dimension), np.float32)
    shares = np.arange(1, count + 1) / count
    return ClusteredVectors(name, _unit(origins.astype(np.float32)), shares, deviations, None)


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(unit, np.float32)
