"""The connector as it is trained; `regionsearch.models.connector` applies it without torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regionsearch.models.connector.connector_map import SHORTEST, ConnectorMap
from regionsearch.training.connector.settings import Start


class Connector(nn.Module):  # type: ignore[misc] # torch is not followed
    """Linear – GELU – linear, VIRTUE's connector, from a vector to the part of it that texts reach.

    start `embedder`: it is added to that part, and a new one changes nothing, since its second layer is
    zero. Training begins with what the embedder can do already, and what few examples do not speak of
    stays as it was. start `nothing`: it stands alone, and a new one is random, as VIRTUE's was.
    """

    def __init__(
        self, dimension: int, reached: NDArray[np.int64], hidden: int, dropout: float, start: Start
    ) -> None:
        """reached: (r,) int64, rising: the dimensions of the embedder's vectors that texts reach."""
        super().__init__()
        self.register_buffer("reached", torch.from_numpy(reached.copy()))
        self.dropout = nn.Dropout(dropout)
        self.first = nn.Linear(dimension, hidden)
        self.second = nn.Linear(hidden, len(reached))
        self.register_buffer("skip", torch.tensor(1.0 if start == "embedder" else 0.0))
        if start == "embedder":
            nn.init.zeros_(self.second.weight)
            nn.init.zeros_(self.second.bias)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(n, d) unit vectors → (n, r) unit vectors: their parts that texts reach, turned."""
        part = nn.functional.normalize(vectors[:, self.reached], dim=1, eps=SHORTEST)
        turned = self.skip * part + self.second(nn.functional.gelu(self.first(self.dropout(vectors))))
        return nn.functional.normalize(turned, dim=1, eps=SHORTEST)

    def to_map(self) -> ConnectorMap:
        tensors = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}
        return ConnectorMap(**{name.replace(".", "_"): tensor for name, tensor in tensors.items()})


def reached_dimensions(texts: NDArray[np.float32]) -> NDArray[np.int64]:
    """(r,) int64: the dimensions in which any of the texts (m, d) is not zero."""
    reached: NDArray[np.int64] = np.flatnonzero(np.any(texts != 0, axis=0)).astype(np.int64)
    return reached
