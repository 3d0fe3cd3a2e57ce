"""The shared network computes what its weights mean, whatever it is batched with."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.eager_network import EagerNetwork
from regionsearch.images import Image
from regionsearch.models.compact.network import (
    LONGEST_SIDE,
    CompactFeatures,
    CompactNetwork,
    input_size,
    network_input,
)
from regionsearch.models.compact.network_graph import LEVELS
from regionsearch.models.compact.torch_file import read_tensors
from regionsearch.models.compact.weights import IMAGE_NETWORKS, read_verified

CHANNELS = {
    "lite0": {2: 24, 4: 40, 7: 80, 10: 112, 14: 192, 15: 320},
    "lite2": {2: 24, 4: 48, 7: 88, 10: 120, 14: 208, 15: 352},
}
STRIDES = {2: 4, 4: 8, 7: 16, 10: 16, 14: 32, 15: 32}


@pytest.fixture(scope="module")
def network() -> CompactNetwork:
    return CompactNetwork(threads=1)


@pytest.fixture(scope="module", params=sorted(IMAGE_NETWORKS))
def variant(request: pytest.FixtureRequest) -> str:
    weights = IMAGE_NETWORKS[request.param]
    if importlib.util.find_spec(weights.module) is None:
        pytest.skip(f"{weights.package} is not installed")
    return str(request.param)


def noise(height: int, width: int, seed: int = 0) -> Image:
    """A picture with structure at several sizes: plain noise would excite nothing."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3))
    for cells in (2, 5, 16):
        coarse = random.random((cells, cells, 3)) * 255
        rows = np.arange(height) * cells // height
        columns = np.arange(width) * cells // width
        pixels += coarse[np.ix_(rows, columns)] / 3
    return Image(pixels.astype(np.uint8))


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def least_agreement(a: CompactFeatures, b: CompactFeatures) -> float:
    return min(cosine(a.last, b.last), *(cosine(a.levels[block], b.levels[block]) for block in LEVELS))


def test_every_map_agrees_with_plain_pytorch(variant: str) -> None:
    image = noise(300, 400)
    (features,) = CompactNetwork(1, variant).features([image])
    eager = EagerNetwork(read_tensors(read_verified(IMAGE_NETWORKS[variant])), variant)
    with torch.inference_mode():
        levels, last = eager(torch.from_numpy(network_input(image)[None]))
    assert cosine(features.last, last[0].numpy()) > 0.9999
    for block in LEVELS:
        assert cosine(features.levels[block], levels[block][0].numpy()) > 0.9999


def test_maps_have_the_sizes_that_their_strides_say(variant: str) -> None:
    (features,) = CompactNetwork(1, variant).features([noise(333, 512)])
    assert features.input_size == (320, 512)
    assert (features.height, features.width) == (333, 512)
    for block in LEVELS:
        stride = STRIDES[block]
        assert features.levels[block].shape == (CHANNELS[variant][block], 320 // stride, 512 // stride)
    assert features.last.shape == (1280, 10, 16)
    assert features.last.dtype == np.float32


def test_a_batch_of_mixed_sizes_gives_each_image_its_own_features_in_order(network: CompactNetwork) -> None:
    images = [noise(64 + 97 * (seed % 3), 300, seed) for seed in range(7)]
    together = network.features(images)
    for image, features in zip(images, together, strict=True):
        (alone,) = network.features([image])
        assert features.input_size == alone.input_size
        assert least_agreement(features, alone) > 0.99999


def test_a_picture_alone_on_two_cores_and_one_among_others_have_the_same_features() -> None:
    images = [noise(200, 300, seed) for seed in range(3)]
    together = CompactNetwork(threads=2).features(images)
    for image, features in zip(images, together, strict=True):
        assert least_agreement(features, CompactNetwork(threads=2).features([image])[0]) > 0.99999


def test_the_thinnest_picture_goes_through(network: CompactNetwork) -> None:
    for height, width in ((1, 1), (1, 3000), (3000, 1)):
        (features,) = network.features([noise(height, width)])
        assert np.isfinite(features.last).all()


def test_no_images_are_no_features(network: CompactNetwork) -> None:
    assert network.features([]) == []


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_inputs_are_bounded_and_keep_the_aspect(height: int, width: int) -> None:
    h, w = input_size(height, width)
    assert h % 32 == 0
    assert w % 32 == 0
    assert 256 <= max(h, w) <= LONGEST_SIDE
    exact = min(height, width) * max(h, w) / max(height, width)
    assert min(h, w) == 32 or abs(min(h, w) - exact) <= 32
