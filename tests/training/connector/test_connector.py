"""The connector, and the learning of it, on vectors alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from regionsearch.errors import InvalidRequest
from regionsearch.models.embedder import SignalBackground
from regionsearch.training.connector.connector import Connector, reached_dimensions
from regionsearch.training.connector.connector_training import ConnectorTraining
from regionsearch.training.connector.demonstration import demonstrate, shuffled
from regionsearch.training.connector.frozen_vectors import CaptionedVectors
from regionsearch.training.connector.moved_background import moved_background
from regionsearch.training.connector.retrieval import caption_ranks, measures
from regionsearch.training.connector.settings import STARTS, ConnectorSettings, Start

DIMENSION, REACHED = 24, 16
CPU = torch.device("cpu")
QUICK = ConnectorSettings(epochs=60, batch=64, hidden=48, learning_rate=3e-3, dropout=0.1)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def described_pictures(count: int, seed: int = 0) -> CaptionedVectors:
    """Pictures of a world where a caption is a fixed rotation of what its picture shows, and noise: an
    embedder's own vectors find few of them, and a map that knows the rotation finds almost all."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(np.random.default_rng(99).normal(size=(REACHED, REACHED)))[0]
    shown = rng.normal(size=(count, REACHED))
    owners = np.repeat(np.arange(count), 3)
    texts = np.zeros((len(owners), DIMENSION))
    texts[:, :REACHED] = shown[owners] @ rotation + 0.2 * rng.normal(size=(len(owners), REACHED))
    pixels = np.concatenate([shown, rng.normal(size=(count, DIMENSION - REACHED))], axis=1)
    return CaptionedVectors(unit(pixels), np.arange(count), unit(texts), owners)


def connector_with_random_weights(start: Start) -> Connector:
    torch.manual_seed(3)
    connector = Connector(DIMENSION, np.arange(2, 2 + REACHED, dtype=np.int64), 32, 0.0, start)
    for weight in connector.parameters():
        torch.nn.init.normal_(weight)
    return connector.eval()


@pytest.mark.parametrize("start", STARTS)
def test_the_map_without_torch_is_the_trained_connector(start: Start) -> None:
    vectors = described_pictures(20).pixels
    connector = connector_with_random_weights(start)
    with torch.no_grad():
        expected = connector(torch.from_numpy(vectors)).numpy()
    mapped = connector.to_map()(vectors)[:, 2 : 2 + REACHED]
    assert np.abs(unit(mapped) - expected).max() < 1e-6


@pytest.mark.parametrize("start", STARTS)
def test_the_map_keeps_lengths_and_what_words_do_not_reach(start: Start) -> None:
    vectors = described_pictures(20).pixels
    mapped = connector_with_random_weights(start).to_map()(vectors)
    reached = np.arange(2, 2 + REACHED)
    others = np.setdiff1d(np.arange(DIMENSION), reached)
    assert np.array_equal(mapped[:, others], vectors[:, others])
    assert np.allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-6)
    assert not np.allclose(mapped[:, reached], vectors[:, reached], atol=0.01)


def test_a_vector_without_a_part_for_words_stays_finite_and_as_it_is() -> None:
    vector = np.zeros((1, DIMENSION), dtype=np.float32)
    vector[0, 0] = 1
    assert np.array_equal(connector_with_random_weights("embedder").to_map()(vector), vector)


def test_an_untrained_connector_on_an_embedder_changes_nothing() -> None:
    vectors = described_pictures(30)
    untrained = ConnectorTraining(vectors, QUICK, CPU).connector_map()
    assert np.abs(untrained(vectors.pixels) - vectors.pixels).max() < 1e-6


def test_words_reach_the_dimensions_that_any_caption_uses() -> None:
    assert reached_dimensions(described_pictures(5).texts).tolist() == list(range(REACHED))


@pytest.mark.parametrize("batch", [64, 7])
def test_training_can_be_taken_up_again_exactly(batch: int) -> None:
    vectors, settings = described_pictures(30), replace(QUICK, batch=batch)
    whole = ConnectorTraining(vectors, settings, CPU)
    for _ in range(6):
        whole.run_epoch()
    first = ConnectorTraining(vectors, settings, CPU)
    for _ in range(2):
        first.run_epoch()
    torch.rand(5)  # what others draw in between must not matter
    second = ConnectorTraining(vectors, settings, CPU)
    second.load(first.state()["trained"], first.state()["optimizer"], first.losses)
    for _ in range(4):
        second.run_epoch()
    assert second.losses == whole.losses
    for name, tensor in whole.state()["trained"].items():
        assert torch.equal(second.state()["trained"][name], tensor), name


def test_training_draws_nothing_from_the_random_numbers_of_others() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    ConnectorTraining(described_pictures(10), QUICK, CPU).run_epoch()
    assert torch.equal(torch.rand(3), expected)


def test_captions_are_ranked_as_a_plain_sort_ranks_them() -> None:
    vectors = described_pictures(12)
    ranks = caption_ranks(vectors)
    for text, owner, rank in zip(vectors.texts, vectors.owners, ranks, strict=True):
        by_cosine = sorted(range(12), key=lambda place: -float(vectors.pixels[place] @ text))
        assert by_cosine.index(owner) + 1 == rank
    assert measures(np.array([1, 2, 6, 11])) == {
        "mrr": pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 11) / 4),
        "r1": 0.25,
        "r5": 0.5,
        "r10": 0.75,
        "median_rank": 4,
    }


def test_a_picture_that_is_equal_to_the_right_one_comes_before_it() -> None:
    same = unit(np.ones((2, 3)))
    vectors = CaptionedVectors(same, np.arange(2), same[:1], np.array([0]))
    assert caption_ranks(vectors).tolist() == [2]


def test_shuffled_captions_belong_to_no_picture_of_their_own() -> None:
    vectors = described_pictures(15)
    for seed in range(20):
        mixed = shuffled(vectors, seed)
        assert not (mixed.pixels == vectors.pixels).all(axis=1).any()
        assert np.array_equal(np.unique(mixed.pixels, axis=0), np.unique(vectors.pixels, axis=0))


def test_pictures_are_taken_out_with_their_captions() -> None:
    vectors = described_pictures(10)
    some = vectors.of_pictures(np.array([7, 2]))
    assert np.array_equal(some.pixels, vectors.pixels[[2, 7]])
    assert np.array_equal(some.texts, vectors.texts[[6, 7, 8, 21, 22, 23]])
    assert some.owners.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("start", STARTS)
def test_true_captions_teach_what_holds_for_unseen_pictures_and_shuffled_ones_do_not(start: Start) -> None:
    others = described_pictures(8, seed=5).pixels
    settings = replace(QUICK, start=start)
    report = demonstrate(described_pictures(60), settings, 3, 3, others, lambda done, of: None)
    gain, nothing = (report["gains"][arm]["mrr"] for arm in ("trained", "shuffled"))
    assert gain["mean"] > 0.2
    assert gain["mean"] > 2 * gain["standard_error"]
    assert nothing["mean"] < max(0.05, 2 * nothing["standard_error"])


def test_too_few_pictures_for_the_folds_are_refused() -> None:
    nobody = np.empty((0, DIMENSION), dtype=np.float32)
    with pytest.raises(InvalidRequest, match="5 pictures"):
        demonstrate(described_pictures(5), QUICK, 2, 3, nobody, lambda done, of: None)


def test_backgrounds_move_as_the_cosines_of_random_pairs_do() -> None:
    vectors = described_pictures(40)
    shipped = {part: SignalBackground(0.3, 0.1) for part in ("entity", "global", "text_entity", "text_image")}
    untrained = ConnectorTraining(vectors, QUICK, CPU).connector_map()
    for part, moments in moved_background(shipped, vectors, untrained).items():
        assert moments.mean == pytest.approx(0.3, abs=1e-5), part
        assert moments.deviation == pytest.approx(0.1, abs=1e-5), part
    # A map that gives every picture the same vector: pictures become alike, whatever they show.
    connector = connector_with_random_weights("nothing")
    with torch.no_grad():
        for name, weight in connector.named_parameters():
            weight.fill_(1.0 if name == "second.bias" else 0.0)
    moved = moved_background(shipped, vectors, connector.to_map())
    assert moved["global"].mean > 0.6


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"batch": 1}, "--batch"),
        ({"dropout": 1.0}, "--dropout"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"weight_decay": float("nan")}, "--weight-decay"),
        ({"temperature": 0.0}, "--temperature"),
    ],
)
def test_settings_out_of_range_are_refused_by_their_option(settings: dict[str, float], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        ConnectorSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.slow
def test_compacts_frozen_networks_learn_real_captions_and_no_shuffled_ones(data_folder: Path) -> None:
    photos = data_folder / "coco_captions"
    given = ["--images", str(photos / "images"), "--annotations", str(photos / "captions.json"), "--json"]
    program = [sys.executable, "-m", "regionsearch.training.connector.demonstration", *given]
    done = subprocess.run(program, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    gains = report["starts"]["nothing"]["gains"]
    assert gains["trained"]["mrr"]["mean"] > 2 * gains["trained"]["mrr"]["standard_error"]
    assert gains["shuffled"]["mrr"]["mean"] < 2 * gains["shuffled"]["mrr"]["standard_error"]
    # On the embedder itself, wrong captions cannot help either.
    assert report["starts"]["embedder"]["gains"]["shuffled"]["mrr"]["mean"] < 0
