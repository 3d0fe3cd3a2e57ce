"""What a stopped run needs to go on: one file, replaced as a whole.

The random state, the place in the data and the learning rate are no part of it: each is a function of
the seed and the number of steps done.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from regionsearch.errors import InvalidRequest, ModelUnavailable, RegionSearchError

FILE = "training_state.pt"
UNFINISHED_FILE = f"{FILE}.unfinished"
MODEL_NOT_WRITTEN = ". What was learnt is kept: --resume writes the model again"
"""Advice when the disk refuses the files of the finished model."""
_FORMAT = 1


@dataclass(eq=False)
class TrainingState:
    """identity: what must be the same when the run goes on, by name. step: updates done.
    trained: the trained tensors by part. optimizer: torch's own state. history: one entry a step."""

    identity: Mapping[str, Any]
    step: int = 0
    trained: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def save_state(folder: Path, state: TrainingState) -> None:
    """Written beside, brought to the disk, then renamed: a crash leaves the old file or the new one."""
    content = {
        "format": _FORMAT,
        "identity": dict(state.identity),
        "step": state.step,
        "trained": {part: dict(tensors) for part, tensors in state.trained.items()},
        "optimizer": dict(state.optimizer),
        "history": state.history,
    }
    unfinished = folder / UNFINISHED_FILE
    with not_written(folder / FILE):
        with unfinished.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / FILE)
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextmanager
def not_written(path: Path, advice: str = "") -> Iterator[None]:
    """What the disk refuses inside becomes a RegionSearchError that names the file or folder, and then
    gives the advice."""
    try:
        yield
    except OSError as error:
        raise RegionSearchError(f"{path} cannot be written: {error.strerror or error}{advice}") from error
    except (RuntimeError, SafetensorError) as error:  # of the writers, when the disk took less than all
        raise RegionSearchError(
            f"{path} cannot be written; is the disk full? {str(error).splitlines()[0]}{advice}"
        ) from error


def make_folder(folder: Path) -> None:
    """With those above it, unless it is there. Raises RegionSearchError where none can be made."""
    with not_written(folder):
        folder.mkdir(parents=True, exist_ok=True)


def load_state(folder: Path) -> TrainingState | None:
    """The state in the folder, None when there is none. Raises ModelUnavailable when the file is damaged."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content["format"]
        state = TrainingState(**{name: value for name, value in content.items() if name != "format"})
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise ModelUnavailable(
            f"{path} cannot be read: {str(error).splitlines()[0]}; without it a run begins anew"
        ) from error
    if found != _FORMAT:
        raise ModelUnavailable(f"{path} has format {found}; this version reads {_FORMAT}")
    return state


def by_option(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the options that give them (`--learning-rate`), for a run's identity; those of a part of
    the settings (an adapter's) are among the others."""
    named: dict[str, Any] = {}
    for name, value in settings.items():
        named |= by_option(value) if isinstance(value, Mapping) else {f"--{name.replace('_', '-')}": value}
    return named


def check_same_run(
    folder: Path, state: TrainingState, identity: Mapping[str, Any], later: Collection[str] = ()
) -> None:
    """Raises InvalidRequest, naming what differs, when the folder's state is that of another run. later:
    names that are not compared yet, since their values cost more than the rest."""
    differing = [
        f"{name} was {state.identity.get(name)!r} and is {identity.get(name)!r}"
        for name in sorted({*state.identity, *identity} - set(later))
        if state.identity.get(name) != identity.get(name)
    ]
    if differing:
        raise InvalidRequest(
            f"{folder} holds a run that was begun otherwise: {'; '.join(differing)}. Give the same options "
            "to go on with it, or another --out",
            field="out",
        )
