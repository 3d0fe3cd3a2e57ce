"""Contrastive learning: the loss, and its gradients for batches that memory does not hold at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

TEMPERATURE = 0.02
"""Divides the cosines; fixed, as VIRTUE was trained with."""

Chunk = TypeVar("Chunk")
Other = TypeVar("Other")


def info_nce(queries: torch.Tensor, targets: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """How surprised a query is by its own target among all targets: the mean cross entropy of
    softmax(queries · targetsᵀ / temperature), in nats (van den Oord et al. 2018, eq. 4).

    queries (n, d), targets (m, d), m ≥ n: unit vectors; the i-th target is that of the i-th query, those
    after the n-th belong to no query. One direction only: targets are not asked for their queries.
    """
    logits = queries @ targets.T / temperature
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(queries), device=logits.device))


@dataclass(frozen=True, eq=False)
class Side(Generic[Chunk]):
    """What is encoded on one side of the loss: `encode` turns a chunk into (k, d), one row an item.

    `encode` must give the same rows whenever it is given the same chunk and random state, whatever came
    between (no batch statistics, no memory).
    """

    encode: Callable[[Chunk], torch.Tensor]
    chunks: Sequence[Chunk]


def cached_gradients(
    queries: Side[Chunk],
    targets: Side[Other],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = info_nce,
) -> torch.Tensor:
    """The loss of the whole batch, detached; its gradients are added to the parameters' `.grad`, as
    `loss(all queries, all targets).backward()` would add them, with the activations of one chunk at a time.

    GradCache (Gao et al. 2021, section 3.2): all vectors are computed without a graph, the loss gives the
    gradient by every vector, then each chunk is computed again with a graph and the gradients of its
    vectors go through it. The second pass draws the same random numbers (dropout) as the first. In a
    distributed run `loss` gathers the vectors; a side whose vectors depend on no trained parameter is not
    computed twice.
    """
    sides: tuple[Side[Any], ...] = (queries, targets)
    states: list[list[_RandomState]] = []
    vectors: list[list[torch.Tensor]] = []
    with torch.no_grad():
        for side in sides:
            drawn, rows = [], []
            for chunk in side.chunks:
                drawn.append(_RandomState())
                rows.append(side.encode(chunk))
            states.append(drawn)
            vectors.append(rows)
    leaves = [torch.cat(rows).requires_grad_() for rows in vectors]
    value = loss(*leaves)
    by_vector = torch.autograd.grad(value, leaves, allow_unused=True)
    for side, drawn, rows, gradients in zip(sides, states, vectors, by_vector, strict=True):
        if gradients is None:
            continue
        of_chunks = gradients.split([len(row) for row in rows])
        for chunk, state, gradient in zip(side.chunks, drawn, of_chunks, strict=True):
            with state.restored():
                again = side.encode(chunk)
            if not again.requires_grad:
                break
            again.backward(gradient.to(again.dtype))
    return value.detach()


class _RandomState:
    """torch's random state at the moment of construction, on the CPU and all devices in use."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Inside, numbers are drawn as they were drawn then; outside, as if nothing had been drawn."""
        with torch.random.fork_rng(devices=range(len(self._devices))):
            torch.set_rng_state(self._cpu)
            if self._devices:
                torch.cuda.set_rng_state_all(self._devices)
            yield
