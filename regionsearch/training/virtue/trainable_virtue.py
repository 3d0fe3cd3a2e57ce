"""VIRTUE as it is trained: reducer and connector in full, the language model by adapters, the rest frozen."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.images import load_image
from regionsearch.models.checkpoints import locate, read_json, weights_hash
from regionsearch.models.qwen2_vl.loading import HUB_PATTERNS, LoadedQwen2VL, load_qwen2_vl
from regionsearch.models.qwen2_vl.preprocessing import QwenPixels
from regionsearch.models.qwen2_vl.vision import vision_features
from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2.image_features import encode_pixels
from regionsearch.models.sam2.loading import DEFAULT_LOCATION as DEFAULT_SAM
from regionsearch.models.sam2.loading import LoadedSam2, load_sam2
from regionsearch.models.virtue.loading import (
    CONFIG_ENTRY,
    CONNECTOR_FILE,
    POINTS_PER_SIDE,
    SAM_FOLDER,
    assemble,
)
from regionsearch.models.virtue.network import VirtueBatch, VirtueNetwork
from regionsearch.models.virtue.preprocessing import qwen_pixels, sam_pixels
from regionsearch.models.virtue.prompts import GRID, SamPrompt, sam_prompt
from regionsearch.models.virtue.rows import image_row, text_row
from regionsearch.regions import Box, RegionPrompt
from regionsearch.training.region_caption_data import RegionCaption
from regionsearch.training.virtue.adapters import ADAPTED, LanguageAdapters
from regionsearch.training.virtue.frozen_features import FeatureMemory, FrozenFeatures
from regionsearch.training.virtue.published_layout import write_published
from regionsearch.training.virtue.settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class ReadPicture:
    """A picture as both of its readers want it. sam: (3, 1024, 1024) float32."""

    qwen: QwenPixels
    sam: torch.Tensor


@dataclass(frozen=True, eq=False)
class ReadyInput:
    """One side of a pair. ids: with the image token once for every token of the picture. prompt, path and
    picture: None for words alone."""

    ids: tuple[int, ...]
    prompt: SamPrompt | None = None
    path: Path | None = None
    picture: ReadPicture | FrozenFeatures | None = None


class TrainableVirtue:
    """The model on its device, with adapters in its language model. A `training_loop.PairEncoder`."""

    def __init__(
        self,
        folder: Path,
        qwen: LoadedQwen2VL,
        sam: LoadedSam2,
        network: VirtueNetwork,
        settings: TrainingSettings,
        memory: FeatureMemory,
        *,
        sam_is_stock: bool,
    ) -> None:
        """folder: what was loaded, from which the saved model takes what was not trained. sam_is_stock:
        SAM is the one that a model without its own is read with, so that it need not be saved."""
        hidden = int(network.language_model.config.hidden_size)
        if settings.adapters.rank > hidden:
            raise InvalidRequest(
                f"--rank is {settings.adapters.rank}; it must be {hidden}, the model's width, or less"
            )
        self._folder = folder
        self._qwen = qwen
        self._sam = sam
        self._network = network
        self._settings = settings
        self._memory = memory
        self._sam_is_stock = sam_is_stock
        # Tokenizers keep settings that a call changes; batches are prepared in several threads.
        self._tokenizing = threading.Lock()
        torch.manual_seed(settings.seed)
        self._adapters = LanguageAdapters(network.language_model, settings.adapters)
        # Small updates of a bf16 number are lost in its rounding: what is trained is kept in fp32.
        for module in (network.reducer, network.connector):
            module.float().requires_grad_(True)
        # For dropout, which only the adapters have.
        network.language_model.train()

    @property
    def device(self) -> torch.device:
        return self._qwen.device

    @property
    def weights(self) -> str:
        """sha256 (hex) of all that training begins from."""
        segment = self._folder / CONNECTOR_FILE
        own = [segment] if segment.exists() else []
        return weights_hash([*self._qwen.files, *own], {"sam": self._sam.weights})

    def ready_query(self, pair: RegionCaption) -> ReadyInput:
        picture: ReadPicture | FrozenFeatures | None = self._memory.get(pair.image)
        image = load_image(pair.image)
        prompt = GRID
        if pair.box is not None:
            box = Box(*pair.box)
            try:
                # Boxes that reach over the border go in as they are, as in the published training.
                box.clip(image.height, image.width)
            except InvalidRegion as error:
                raise InvalidRegion(f"{pair.image}: {error.message}", field="annotations") from error
            prompt = sam_prompt(
                RegionPrompt(box=box),
                image.height,
                image.width,
                boxes_unscaled=self._settings.boxes_unscaled,
            )
        if picture is None:
            pixels = qwen_pixels(image)
            picture = ReadPicture(pixels, sam_pixels(pixels))
        tokens = len(picture.image_tokens) if isinstance(picture, FrozenFeatures) else picture.qwen.tokens
        with self._tokenizing:
            row = image_row(self._qwen.tokenizer, pair.query, tokens, prompt, None)
        return ReadyInput(row.ids, prompt, pair.image, picture)

    def ready_target(self, pair: RegionCaption) -> ReadyInput:
        with self._tokenizing:
            return ReadyInput(text_row(self._qwen.tokenizer, pair.target).ids)

    def shape(self, ready: ReadyInput) -> Hashable:
        return (None if ready.prompt is None else ready.prompt.kind, len(ready.ids))

    def encode(self, chunk: Sequence[ReadyInput]) -> torch.Tensor:
        ids = torch.tensor([ready.ids for ready in chunk], device=self.device)
        batch = VirtueBatch(ids, torch.ones_like(ids))
        pictures = [self._features(ready) for ready in chunk if ready.prompt is not None]
        if pictures:
            batch = VirtueBatch(
                input_ids=ids,
                mask=batch.mask,
                image_tokens=torch.cat([each.image_tokens for each in pictures]).to(self.device),
                sam_embedding=torch.stack([each.sam_embedding for each in pictures]).to(self.device),
                prompts=[ready.prompt for ready in chunk if ready.prompt is not None],
            )
        with self._precision():
            vectors: torch.Tensor = self._network(batch)
        return vectors

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self._network.parameters() if parameter.requires_grad]

    def trained_state(self) -> dict[str, dict[str, torch.Tensor]]:
        return {
            "adapters": self._adapters.state(),
            "reducer": self._network.reducer.state_dict(),
            "connector": self._network.connector.state_dict(),
        }

    def load_trained(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        self._adapters.load(state["adapters"])
        self._network.reducer.load_state_dict(dict(state["reducer"]))
        self._network.connector.load_state_dict(dict(state["connector"]))

    def save_published(self, folder: Path) -> None:
        """Merges the adapters, after which the model cannot be trained further, and writes it."""
        self._adapters.merge()
        merged = {
            name: tensor
            for name, tensor in self._network.language_model.state_dict().items()
            if name.removesuffix(".weight").endswith(ADAPTED)
        }
        config = read_json(self._folder / "config.json").get(CONFIG_ENTRY)
        write_published(
            folder,
            self._folder,
            merged,
            self._network.reducer.state_dict(),
            self._network.connector.state_dict(),
            config
            or {"enabled": True, "points_per_side": self._network.points_per_side, "feature_levels": 2},
            sam=() if self._sam_is_stock else self._sam.files,
        )

    def _features(self, ready: ReadyInput) -> FrozenFeatures:
        if isinstance(ready.picture, FrozenFeatures):
            return ready.picture
        if ready.picture is None:
            raise ValueError("an input with a prompt has a picture")
        known = self._memory.get(ready.path)
        if known is not None:
            return known
        # One picture a pass: in company its last bits would differ, and a run that is taken up again
        # meets it in other company than one that remembers it.
        with torch.no_grad():
            [tokens] = vision_features(self._network.visual, [ready.picture.qwen], 1)
        size = (ready.picture.qwen.rows, ready.picture.qwen.columns)  # of masks, which nobody asks for here
        [seen] = encode_pixels(self._sam, ready.picture.sam[None], [size], "training", keep_high_res=False)
        features = FrozenFeatures(tokens.cpu(), seen.embedding.cpu())
        self._memory.keep(ready.path, features)
        return features

    def _precision(self) -> Any:
        if self._qwen.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self._qwen.dtype)


def load_trainable(
    location: str, sam: str | None, runtime: Runtime, settings: TrainingSettings, memory: FeatureMemory
) -> TrainableVirtue:
    """location: a VIRTUE checkpoint or, to begin anew, any Qwen2-VL checkpoint: its reducer and connector
    are then drawn at random (torch's own initialisation, by the seed). sam: where SAM 2 is; None is the
    folder `sam2` within the model's, else the hub's SAM 2.1 base-plus.

    Raises ModelUnavailable when files are missing, damaged or do not belong together; InvalidRequest for
    fp16, whose gradients vanish without a scaling of the loss, and for adapters wider than the model.
    """
    if runtime.torch_dtype() == torch.float16:
        raise InvalidRequest(
            "training is done in bf16 or fp32, and this device has no bf16: give --dtype fp32",
            field="dtype",
        )
    folder = locate(location, (*HUB_PATTERNS, CONNECTOR_FILE))
    entry = read_json(folder / "config.json").get(CONFIG_ENTRY)
    qwen = load_qwen2_vl(folder, runtime)
    own_sam = folder / SAM_FOLDER
    named_sam = sam or (str(own_sam) if own_sam.exists() else None)
    loaded_sam = load_sam2(named_sam or DEFAULT_SAM, runtime)
    if entry is None:
        torch.manual_seed(settings.seed)
        network = VirtueNetwork(qwen.model, loaded_sam.model, POINTS_PER_SIDE, settings.positions)
        network.to(qwen.device, qwen.dtype).eval().requires_grad_(False)
    else:
        points = int(entry.get("points_per_side", POINTS_PER_SIDE))
        network = assemble(qwen, loaded_sam, folder / CONNECTOR_FILE, points, settings.positions)
    return TrainableVirtue(
        folder, qwen, loaded_sam, network, settings, memory, sam_is_stock=named_sam is None
    )
