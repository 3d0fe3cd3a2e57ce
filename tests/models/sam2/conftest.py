"""A tiny SAM 2, a drawn photo, and what the one makes of the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from asked_of_sam2 import CPU, EVERYTHING, SEED
from tiny_sam2 import write_tiny_sam2

from regionsearch.images import Image
from regionsearch.models.sam2.automatic_masks import Candidates, candidates
from regionsearch.models.sam2.backbone import Sam2Backbone
from regionsearch.models.sam2.image_features import SamImageFeatures
from regionsearch.models.sam2.loading import LoadedSam2, load_sam2
from regionsearch.models.sam2.pixels import sam_pixels
from regionsearch.models.sam2.prompt_decoder import PromptDecoder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sam2(tmp_path_factory.mktemp("sam2"), seed=SEED)


@pytest.fixture(scope="session")
def loaded(folder: Path) -> LoadedSam2:
    return load_sam2(str(folder), CPU)


@pytest.fixture(scope="session")
def decoder(loaded: LoadedSam2) -> PromptDecoder:
    return PromptDecoder(loaded)


@pytest.fixture(scope="session")
def photo() -> Image:
    """A drawn scene with a little noise, wider than high."""
    random = np.random.default_rng(5)
    pixels = np.full((90, 120, 3), 200, dtype=np.uint8)
    pixels[10:50, 15:60] = (220, 30, 40)
    pixels[40:85, 70:115] = (20, 60, 200)
    noise = random.integers(-20, 20, pixels.shape)
    return Image(np.clip(pixels + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def features(loaded: LoadedSam2, photo: Image) -> SamImageFeatures:
    return Sam2Backbone(loaded, "sam", CPU).features([photo])[0]


@pytest.fixture(scope="session")
def embeddings(loaded: LoadedSam2, photo: Image) -> list[torch.Tensor]:
    """The photo's features as transformers' model makes them by itself."""
    found: list[torch.Tensor] = loaded.model.get_image_embeddings(sam_pixels([photo], torch.device("cpu")))
    return found


@pytest.fixture(scope="session")
def everything(decoder: PromptDecoder, features: SamImageFeatures) -> Candidates:
    return candidates(decoder, features, EVERYTHING)
