"""The training of a connector, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from regionsearch.errors import RegionSearchError
from regionsearch.models.connector.connector_map import ConnectorMap
from regionsearch.training.connector.connector import Connector, reached_dimensions
from regionsearch.training.connector.frozen_vectors import CaptionedVectors
from regionsearch.training.connector.settings import ConnectorSettings
from regionsearch.training.contrastive import info_nce


class ConnectorTraining:
    """AdamW on InfoNCE in both directions: a picture is asked for its caption, and a caption for its
    picture, which is what searches ask.

    In an epoch every example meets others in one batch, with one of its captions, drawn anew. All that is
    random is a function of the seed and the epoch, so that a run taken up again needs no other memory.
    """

    def __init__(self, vectors: CaptionedVectors, settings: ConnectorSettings, device: torch.device) -> None:
        self._settings = settings
        self._device = device
        reached = reached_dimensions(vectors.texts)
        with _drawing(settings.seed, 0):
            connector = Connector(
                vectors.pixels.shape[1], reached, settings.hidden, settings.dropout, settings.start
            )
        self._connector = connector.to(device)
        self._optimizer = torch.optim.AdamW(
            connector.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._pixels = torch.from_numpy(vectors.pixels).to(device)
        texts = torch.from_numpy(vectors.texts[:, reached]).to(device)
        self._texts = torch.nn.functional.normalize(texts, dim=1)
        # Captions by example: those of the i-th are order[first[i] : first[i] + count[i]].
        self._order = np.argsort(vectors.owners, kind="stable")
        self._count = np.bincount(vectors.owners, minlength=len(vectors.pixels))
        self._first = np.cumsum(self._count) - self._count
        self.losses: list[float] = []
        """The mean loss of each epoch done, nats."""

    def run_epoch(self) -> float:
        """Its mean loss over batches, nats."""
        epoch = len(self.losses) + 1
        rng = np.random.default_rng([self._settings.seed, epoch])
        examples = rng.permutation(len(self._pixels))
        captions = self._order[self._first + rng.integers(self._count)]
        self._connector.train()
        losses = []
        # Batches of like size: a last one of few examples would be an easy one.
        batches = np.array_split(examples, -(-len(examples) // self._settings.batch))
        with _drawing(self._settings.seed, epoch):
            for batch in batches:
                losses.append(self._step(torch.from_numpy(batch), torch.from_numpy(captions[batch])))
        self.losses.append(float(np.mean(losses)))
        return self.losses[-1]

    def connector_map(self) -> ConnectorMap:
        learnt: ConnectorMap = self._connector.to_map()
        return learnt

    def state(self) -> dict[str, Any]:
        """`trained` and `optimizer`: torch's own state dicts."""
        return {"trained": self._connector.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load(
        self, trained: Mapping[str, torch.Tensor], optimizer: Mapping[str, Any], losses: list[float]
    ) -> None:
        """Goes on from a state, where one loss an epoch was had."""
        self._connector.load_state_dict(trained)
        self._optimizer.load_state_dict(dict(optimizer))
        self.losses = list(losses)

    def _step(self, batch: torch.Tensor, captions: torch.Tensor) -> float:
        pictures = self._connector(self._pixels[batch.to(self._device)])
        words = self._texts[captions.to(self._device)]
        temperature = self._settings.temperature
        loss = (info_nce(pictures, words, temperature) + info_nce(words, pictures, temperature)) / 2
        self._optimizer.zero_grad()
        if not torch.isfinite(loss):
            raise RegionSearchError(
                f"the loss is {float(loss.detach())} in epoch {len(self.losses) + 1}: the run cannot go on; "
                "a smaller --learning-rate may help (the state of the last epoch is kept)"
            )
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())


@contextmanager
def _drawing(seed: int, epoch: int) -> Iterator[None]:
    """Inside, torch's random numbers are those of this seed and epoch; outside, nothing was drawn."""
    number = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint32)[0])
    with torch.random.fork_rng():
        torch.manual_seed(number)
        yield
