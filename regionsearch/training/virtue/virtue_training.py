"""A whole training run: data and model in, a folder in the published layout out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regionsearch.errors import InvalidRequest, OutOfMemory
from regionsearch.models.runtime import Runtime
from regionsearch.training.region_caption_data import digest_of, read_sources
from regionsearch.training.training_state import FILE as STATE_FILE
from regionsearch.training.training_state import (
    UNFINISHED_FILE,
    TrainingState,
    by_option,
    check_same_run,
    load_state,
    make_folder,
)
from regionsearch.training.virtue.batch_plan import check_filled
from regionsearch.training.virtue.distribution import Team, joined, on_own_device, wait_for_all
from regionsearch.training.virtue.frozen_features import FeatureMemory
from regionsearch.training.virtue.settings import TrainingSettings
from regionsearch.training.virtue.trainable_virtue import load_trainable
from regionsearch.training.virtue.training_loop import Training

GIBIBYTE = 2**30


@dataclass(frozen=True, slots=True)
class RunPlan:
    """model: a folder or a hub name. sam: likewise, or Meta's file; None is what the model is read with.
    out: a folder that is made. save_every: steps between two states. resume: go on with the run that `out`
    holds, if it holds one. memory: GiB of main memory for what the frozen parts make of pictures.
    readers: threads that read pictures."""

    model: str
    annotations: Sequence[Path]
    images: Sequence[Path]
    out: Path
    settings: TrainingSettings
    sam: str | None = None
    save_every: int = 100
    resume: bool = False
    memory: float = 4.0
    readers: int = 4


def train_virtue(
    plan: RunPlan,
    runtime: Runtime,
    team: Team,
    progress: Callable[[int, float], None] = lambda step, loss: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """The report of the run, the same in every process of the team but for its times.

    Resumed, a run has to have the same data, model and settings; a finished one is only written again.
    Raises InvalidRequest, ModelUnavailable or InvalidImage for what cannot be used,
    OutOfMemory when a chunk does not fit the device.
    """
    for name, value in (("--save-every", plan.save_every), ("--readers", plan.readers)):
        if value < 1:
            raise InvalidRequest(f"{name} is {value}; it must be 1 or more")
    if not 0 <= plan.memory < math.inf:
        raise InvalidRequest(f"--feature-memory is {plan.memory:g}; it must be 0 or more, and finite")
    settings = plan.settings
    _check_out(plan.out, resume=plan.resume)
    started = time.perf_counter()
    sources = read_sources(plan.annotations, plan.images, settings.limit, settings.seed)
    read_seconds = time.perf_counter() - started
    batch = settings.batch * team.size
    check_filled([len(source.pairs) for source in sources], batch)
    options = by_option(settings.to_json())
    del options["--chunk"]  # it changes no more than rounding, and is what one lowers when memory ran out
    del options["--batch"]
    identity = {**options, "--batch times processes": batch, "data": digest_of(sources)}
    earlier = load_state(plan.out)
    if earlier is not None:
        check_same_run(plan.out, earlier, identity, later=["model"])
    make_folder(plan.out)
    runtime = on_own_device(team, runtime)
    with joined(team, runtime.torch_device()):
        started = time.perf_counter()
        memory = FeatureMemory(int(plan.memory * GIBIBYTE))
        model = load_trainable(plan.model, plan.sam, runtime, settings, memory)
        identity["model"] = model.weights
        if earlier is not None:
            check_same_run(plan.out, earlier, identity)
        training = Training(
            model,
            sources,
            settings,
            plan.out,
            state=earlier or TrainingState(identity),
            team=team,
            save_every=plan.save_every,
            readers=plan.readers,
        )
        load_seconds = time.perf_counter() - started
        try:
            done = training.run(progress, stop)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{settings.chunk} pairs at once do not fit the memory of {model.device}: give a smaller "
                "--chunk; the result is the same"
            ) from error
        trained = sum(parameter.numel() for parameter in model.trained_parameters())
        if not done.stopped and team.is_first:
            model.save_published(plan.out)
        wait_for_all(team)
    return {
        "out": str(plan.out),
        "steps": done.steps,
        "of": settings.steps,
        "resumed_from": done.resumed_from,
        "stopped": done.stopped,
        "pairs": sum(len(source.pairs) for source in sources),
        "images": len({pair.image for source in sources for pair in source.pairs}),
        "processes": team.size,
        "batch": batch,
        "trained_parameters": trained,
        "seconds": round(done.seconds, 3),
        "read_seconds": round(read_seconds, 3),
        "load_seconds": round(load_seconds, 3),
        "first_loss": done.history[0]["loss"] if done.history else None,
        "last_loss": done.history[-1]["loss"] if done.history else None,
        "history": done.history,
    }


def _check_out(out: Path, *, resume: bool) -> None:
    """Refuses a folder that holds something else, so that nothing of it is overwritten."""
    if out.exists() and not out.is_dir():
        raise InvalidRequest(f"{out} is not a folder", field="out")
    held = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if STATE_FILE in held and not resume:
        raise InvalidRequest(f"{out} holds a training run: go on with it by --resume, or give another --out")
    if STATE_FILE not in held and held - {UNFINISHED_FILE}:
        raise InvalidRequest(f"{out} holds something that is not a training run; give another --out")
