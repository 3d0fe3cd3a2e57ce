"""Several processes that train one model: each encodes its part of the batch, and all see all of it.

Started by torch's own launcher (`torchrun`), which says in the environment who each process is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
import torch.distributed as dist

from regionsearch.models.runtime import Runtime
from regionsearch.training.contrastive import info_nce

_PATIENCE = timedelta(hours=1)
"""A process may wait this long for another one: the first reads and writes checkpoints alone."""


@dataclass(frozen=True, slots=True)
class Team:
    """rank: this process among `size`, from 0; the first one speaks and writes for all.
    local_rank: its place on its own machine, which is the number of its GPU."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def announced_team() -> Team:
    """Who this process is by the environment that torchrun sets; without it, a team of one."""
    return Team(
        rank=int(os.environ.get("RANK", "0")),
        size=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
    )


def on_own_device(team: Team, runtime: Runtime) -> Runtime:
    """With GPUs and no GPU named, each process of a machine takes its own."""
    if team.size > 1 and runtime.device in ("auto", "cuda") and torch.cuda.is_available():
        return replace(runtime, device=f"cuda:{team.local_rank}")
    return runtime


@contextmanager
def joined(team: Team, device: torch.device) -> Iterator[Team]:
    """The process group, by NCCL between GPUs and gloo between CPUs; none for a team of one."""
    if team.size == 1:
        yield team
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=team.rank, world_size=team.size, timeout=_PATIENCE)
    try:
        yield team
    finally:
        dist.destroy_process_group()


def team_loss(team: Team, temperature: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """InfoNCE over the vectors of all processes, as a function of this process's (n, d) queries and
    targets, n the same in all. Every process gets the same loss, and its gradient by its own vectors.

    With these, the gradients of the parameters summed over the processes (`sum_gradients`) are those of
    the whole batch in one process. VIRTUE's own code multiplies the loss by the number of processes and
    lets DistributedDataParallel average: the same sum.
    """

    def loss(queries: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return info_nce(_gathered(team, queries), _gathered(team, targets), temperature)

    return loss


def sum_gradients(team: Team, parameters: Iterable[torch.nn.Parameter]) -> None:
    """Adds up the gradients of all processes, in one message; a parameter without one counts as zero."""
    if team.size == 1:
        return
    parameters = list(parameters)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    pieces = flat.split([gradient.numel() for gradient in gradients])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.grad = piece.view_as(parameter).clone()


def any_wishes(team: Team, wish: bool, device: torch.device) -> bool:
    """Whether one process at least wishes it (to stop, for example); all get the same answer."""
    if team.size == 1:
        return wish
    said = torch.tensor([int(wish)], device=device)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return bool(said.item())


def all_say(team: Team, number: int, device: torch.device) -> bool:
    """Whether every process says the same number."""
    if team.size == 1:
        return True
    said = torch.tensor([number, -number], device=device)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return bool((said[0] == -said[1]).item())


def wait_for_all(team: Team) -> None:
    if team.size > 1:
        dist.barrier()


def _gathered(team: Team, vectors: torch.Tensor) -> torch.Tensor:
    """The rows of all processes in order of rank; gradients flow to this process's own alone."""
    if team.size == 1:
        return vectors
    parts = [torch.empty_like(vectors) for _ in range(team.size)]
    dist.all_gather(parts, vectors.detach().contiguous())
    parts[team.rank] = vectors
    return torch.cat(parts)


def share_from_first(team: Team, parameters: Iterable[torch.nn.Parameter]) -> None:
    """Gives every process the parameters of the first one, to the bit."""
    if team.size == 1:
        return
    for parameter in parameters:
        dist.broadcast(parameter.data, 0)
