"""English text to vectors: all-MiniLM-L6-v2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import safetensors.numpy
import tokenizers
from numpy.typing import NDArray

from regionsearch.models.compact.onnx_session import open_session
from regionsearch.models.compact.text_graph import BIAS, EMBEDDED, OUTPUT, WIDTH, build_graph
from regionsearch.models.compact.weights import TEXT_NETWORK, TEXT_TOKENIZER, read_verified

MAX_TOKENS = 256
"""What the model was made for, begin and end marks included; the rest of a longer text is not read."""
_BATCH = 32
_PADDING = np.float32(-1e9)


class TextEncoder:
    """Sentences to unit vectors (Reimers and Gurevych 2019: the mean of the last layer's tokens).

    Safe to use from several threads. Raises ModelUnavailable when weights are missing or wrong.

    threads: cores used inside one call; None: all physical ones.
    """

    dimension = WIDTH

    def __init__(self, threads: int | None = None) -> None:
        weights = safetensors.numpy.load(read_verified(TEXT_NETWORK))
        self._words: NDArray[np.float32] = weights["embeddings.word_embeddings.weight"]
        self._places: NDArray[np.float32] = (
            weights["embeddings.position_embeddings.weight"][:MAX_TOKENS]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self._session = open_session(build_graph(weights), threads)
        self._tokenizer = tokenizers.Tokenizer.from_str(read_verified(TEXT_TOKENIZER).decode())
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 384) float32 unit vectors, one a text, whatever the batch it came in."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(tokens), WIDTH), dtype=np.float32)
        # Texts of like length go together, so that little is computed for padding.
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            vectors[batch] = self._encode([tokens[index] for index in batch])
        return vectors

    def _encode(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        longest = max(map(len, tokens))
        ids = np.zeros((len(tokens), longest), dtype=np.int64)
        real = np.zeros((len(tokens), longest), dtype=np.bool_)
        for row, sequence in enumerate(tokens):
            ids[row, : len(sequence)] = sequence
            real[row, : len(sequence)] = True
        embedded = self._words[ids] + self._places[:longest]
        bias = np.where(real, np.float32(0), _PADDING)[:, None, None, :]
        (hidden,) = self._session.run([OUTPUT], {EMBEDDED: embedded, BIAS: bias})
        total = (hidden * real[:, :, None]).sum(axis=1)
        unit: NDArray[np.float32] = total / np.linalg.norm(total, axis=1, keepdims=True)
        return unit
