"""The text encoder gives the vectors of the published model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from regionsearch.models.compact.text import MAX_TOKENS, TextEncoder
from regionsearch.models.compact.weights import TEXT_NETWORK, locate

TEXTS = [
    "a photo of a dog",
    "dog",
    "A man riding a wave on top of a surfboard, close to the beach.",
    "ünïcödé, 日本 and emoji 🐕",
    "many words " * 400,
]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(threads=1)


def published(texts: list[str]) -> NDArray[np.float32]:
    """transformers' own BertModel and tokenizer, mean pooling, unit length."""
    folder = locate(TEXT_NETWORK).parent
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    unit: NDArray[np.float32] = torch.nn.functional.normalize((hidden * mask).sum(1)).numpy()
    return unit


def test_vectors_agree_with_the_published_model(encoder: TextEncoder) -> None:
    cosines = (encoder.encode(TEXTS) * published(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.9999


def test_a_text_has_the_same_vector_alone_and_in_any_batch(encoder: TextEncoder) -> None:
    texts = [f"{'very ' * (index % 9)}small thing number {index}" for index in range(40)]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert (together * alone).sum(axis=1).min() > 0.99999


def test_a_text_of_100_000_characters_is_read_as_far_as_the_model_reads(encoder: TextEncoder) -> None:
    long = "a boat on the lake " * 5_300
    assert len(long) > 100_000
    same_beginning = long[:4_000] + " and then something else entirely"
    first, second = encoder.encode([long, same_beginning])
    assert first @ second > 0.99999
