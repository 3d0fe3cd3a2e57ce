"""A connector from a folder of captioned pictures, start to finish, and on again after a stop."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regionsearch.errors import InvalidRequest
from regionsearch.models.connector.connector_folder import CONFIG_FILE, ConnectorConfig, check_base
from regionsearch.models.registry import ModelRegistry, resolve
from regionsearch.models.runtime import Runtime
from regionsearch.training.connector.caption_data import read_captioned
from regionsearch.training.connector.connector_training import ConnectorTraining
from regionsearch.training.connector.frozen_vectors import (
    CaptionedVectors,
    Progress,
    ReadingStoppedError,
    frozen_vectors,
)
from regionsearch.training.connector.moved_background import moved_background
from regionsearch.training.connector.retrieval import caption_ranks, measures
from regionsearch.training.connector.settings import ConnectorSettings
from regionsearch.training.training_state import (
    FILE,
    MODEL_NOT_WRITTEN,
    UNFINISHED_FILE,
    TrainingState,
    by_option,
    check_same_run,
    load_state,
    make_folder,
    not_written,
    save_state,
)

CACHE = "frozen-vectors"


@dataclass(frozen=True, slots=True)
class ConnectorPlan:
    """images, annotations: the data. embedder: the reference of the frozen one. out: the folder that
    becomes the model. resume: go on with the run that lies there."""

    images: Path
    annotations: Path
    embedder: str
    out: Path
    settings: ConnectorSettings
    resume: bool = False


def train_connector(
    plan: ConnectorPlan,
    runtime: Runtime,
    reading: Progress,
    learning: Callable[[int, float], None],
    stopping: Callable[[], bool],
) -> dict[str, Any]:
    """Trains, with a checkpoint after every epoch; the report is the JSON of `regionsearch train connector`.

    reading, learning (epochs done, loss): are told how far it has come. stopping: asked after
    every epoch, and while the pictures are read.
    The data, the folder and the settings are checked before a model is loaded. Raises InvalidRequest for
    what is wrong with them, ModelUnavailable when the embedder or a checkpoint cannot be read.
    """
    check_base(resolve("embedder", plan.embedder))
    _check_folder(plan)
    pictures = read_captioned(plan.images, plan.annotations)
    # More epochs are no other run: none depends on how many there will be.
    identity = by_option(plan.settings.to_json())
    del identity["--epochs"]
    before = load_state(plan.out)
    if before is not None:
        check_same_run(plan.out, before, identity, later=["base", "data"])
    finished_before = (plan.out / CONFIG_FILE).exists()
    started = time.perf_counter()
    embedder = ModelRegistry(runtime=runtime).embedder(plan.embedder)
    load_seconds = time.perf_counter() - started
    base = embedder.info.fingerprint
    make_folder(plan.out)
    started = time.perf_counter()
    out = plan.out.absolute()
    regions = [region for picture in pictures for region in picture.regions]
    report: dict[str, Any] = {
        "out": str(out),
        "embedder": f"connector:{out}",
        "base": base.name,
        "pictures": len(pictures),
        "examples": len(regions),
        "captions": sum(len(region.captions) for region in regions),
        "epochs": 0,
        "resumed_from": 0,
        "stopped": True,
        "replaced": False,
        "first_loss": None,
        "last_loss": None,
        "load_seconds": load_seconds,
        "embed_seconds": 0.0,
        "seconds": 0.0,
        "settings": plan.settings.to_json(),
    }
    try:
        vectors = frozen_vectors(pictures, embedder, plan.out / CACHE, reading, stopping)
    except ReadingStoppedError:
        return report | {"embed_seconds": time.perf_counter() - started}
    report["embed_seconds"] = time.perf_counter() - started

    training = ConnectorTraining(vectors, plan.settings, runtime.torch_device())
    identity["base"] = [base.kind, base.weights, base.dimension, base.preprocessing]
    identity["data"] = _digest(vectors)
    if before is not None:
        check_same_run(plan.out, before, identity)
        training.load(
            before.trained["connector"], before.optimizer, [each["loss"] for each in before.history]
        )
    resumed_from = len(training.losses)
    started = time.perf_counter()
    while len(training.losses) < plan.settings.epochs and not stopping():
        training.run_epoch()
        _save(plan.out, identity, training)
        learning(len(training.losses), training.losses[-1])
    seconds = time.perf_counter() - started

    done = len(training.losses)
    report |= {
        "epochs": done,
        "resumed_from": resumed_from,
        "stopped": done < plan.settings.epochs,
        "first_loss": training.losses[0] if done else None,
        "last_loss": training.losses[-1] if done else None,
        "seconds": seconds,
    }
    if report["stopped"]:
        return report
    connector = training.connector_map()
    report["trained_on"] = {
        "before": measures(caption_ranks(vectors)),
        "after": measures(caption_ranks(vectors.with_pixels(connector(vectors.pixels)))),
    }
    report["replaced"] = finished_before and done > resumed_from
    record = {name: report[name] for name in ("pictures", "examples", "captions", "settings", "last_loss")}
    background = moved_background(embedder.info.background, vectors, connector)
    with not_written(plan.out, MODEL_NOT_WRITTEN):
        connector.save(plan.out)
        # Last: a folder without it is no model, so that a broken one is never loaded.
        ConnectorConfig(base, background, record).write(plan.out)
    return report


def _check_folder(plan: ConnectorPlan) -> None:
    """What lies in --out is a run to go on with, and --resume says so, or there is none."""
    if "," in str(plan.out.absolute()):
        raise InvalidRequest(f"--out {plan.out} has a comma, which no model's name can hold", field="out")
    if plan.out.exists() and not plan.out.is_dir():
        raise InvalidRequest(f"--out {plan.out} is no folder", field="out")
    begun = (plan.out / FILE).exists()
    if (plan.out / CONFIG_FILE).exists() and not begun:
        raise InvalidRequest(f"{plan.out} holds a model and no training; give another --out", field="out")
    if begun and not plan.resume:
        raise InvalidRequest(
            f"{plan.out} holds a training already: go on with it by --resume, or give another --out",
            field="out",
        )
    held = {path.name for path in plan.out.iterdir()} if plan.out.is_dir() else set()
    if not begun and held - {CACHE, UNFINISHED_FILE}:
        raise InvalidRequest(
            f"{plan.out} holds something that is not a training run; give another --out", field="out"
        )
    # A run that was stopped while it read the pictures has left vectors alone.
    if plan.resume and not begun and not (plan.out / CACHE).exists():
        raise InvalidRequest(f"{plan.out} holds no training that could go on", field="out")


def _digest(vectors: CaptionedVectors) -> str:
    digest = hashlib.sha256()
    for array in (vectors.pixels, vectors.pictures, vectors.texts, vectors.owners):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _save(out: Path, identity: dict[str, Any], training: ConnectorTraining) -> None:
    state = training.state()
    save_state(
        out,
        TrainingState(
            identity=identity,
            step=len(training.losses),
            trained={"connector": state["trained"]},
            optimizer=state["optimizer"],
            history=[{"loss": loss} for loss in training.losses],
        ),
    )
