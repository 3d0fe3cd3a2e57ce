"""What a benchmark asks: inputs in a model's words, and which candidates each query chooses among."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BoxNumbers = tuple[float, float, float, float]
Places = NDArray[np.int64]

DEFAULT_BATCH = 32
"""Inputs handed to the model together, and the most that a killed run loses; the model makes its own
batches within them."""


@dataclass(frozen=True, slots=True)
class BenchmarkInput:
    """One input before its picture is read.

    text: the exact string, None for none. image: path as the benchmark names it. box: x0, y0, x1, y1 in
    pixels of the picture. crop: the model is shown the box's content alone and told of no region.
    """

    text: str | None = None
    image: str | None = None
    box: BoxNumbers | None = None
    crop: bool = False

    def key(self, image_digest: str | None) -> bytes:
        """32 bytes that name what the model sees: the words, the picture's bytes, the region."""
        seen = [self.text, image_digest, None if self.box is None else list(map(float, self.box)), self.crop]
        return hashlib.sha256(json.dumps(seen).encode()).digest()


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Queries and the candidates among which they choose.

    candidates: each once. choices: for each query the places of its candidates, in the benchmark's
    order and with repetitions; None = all candidates for every query. correct: for each query the
    places of the candidates that answer it.
    """

    name: str
    queries: Sequence[BenchmarkInput]
    candidates: Sequence[BenchmarkInput]
    choices: Sequence[Places] | None
    correct: Sequence[Places]

    def choices_of(self, query: int) -> Places:
        if self.choices is None:
            return np.arange(len(self.candidates), dtype=np.int64)
        return self.choices[query]


@dataclass(eq=False)
class CandidateList:
    """Candidates by identity: an input met again under a known identity is the one met first."""

    inputs: list[BenchmarkInput] = field(default_factory=list)
    _places: dict[Hashable, int] = field(default_factory=dict)

    def place(self, identity: Hashable, given: BenchmarkInput) -> int:
        if identity not in self._places:
            self._places[identity] = len(self.inputs)
            self.inputs.append(given)
        return self._places[identity]
