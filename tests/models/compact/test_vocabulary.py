"""The shipped tables are the derived ones, and belong to the network's classes."""

from __future__ import annotations

import numpy as np
import pytest

from regionsearch.errors import ModelUnavailable
from regionsearch.models.compact import vocabulary
from regionsearch.models.compact.network import CompactNetwork
from regionsearch.models.compact.text import TextEncoder
from regionsearch.models.compact.vocabulary import load_classes, load_vocabulary
from regionsearch.training.derive_vocabulary import class_vectors, visual_projection


def test_class_vectors_are_derived_from_the_shipped_names() -> None:
    some = slice(0, 1000, 50)
    derived = class_vectors(load_classes()[some], TextEncoder(threads=1))
    shipped = load_vocabulary().class_vectors[some]
    assert (derived * shipped).sum(axis=1).min() > 0.9999


def test_the_projection_keeps_the_directions_in_which_the_classes_differ() -> None:
    shipped = load_vocabulary().projection
    derived = visual_projection(CompactNetwork(threads=1).classifier_weight)
    assert np.allclose(shipped @ shipped.T, np.eye(len(shipped)), atol=2e-3)
    # The order of directions of nearly equal strength is rounding's; the space that they span is not.
    overlap = np.linalg.svd(shipped @ derived.T, compute_uv=False)
    assert overlap[:-4].min() > 0.99


def test_every_class_has_a_name_and_a_gloss() -> None:
    classes = load_classes()
    assert len(classes) == len(load_vocabulary().class_vectors) == 1000
    assert all(entry.names[0] and entry.gloss and entry.synset.startswith("n") for entry in classes)
    assert len({entry.synset for entry in classes}) == 1000


def test_an_altered_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vocabulary.SHA256, vocabulary.PROJECTION_FILE, "0" * 64)
    with pytest.raises(ModelUnavailable, match=r"visual_projection\.npz has sha256 .* was shipped"):
        load_vocabulary()
