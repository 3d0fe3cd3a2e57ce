"""Decoding ahead of a model that computes on a device of its own, so that the device never waits."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier

from indexer.engines.engine import BatchResult, PipelineSettings
from indexer.engines.local import build_pipeline
from regionsearch.collection import ImageRecord
from regionsearch.ingest import (
    STEPS,
    DecodedBatch,
    EncodedImage,
    Failure,
    Pipeline,
    StepClock,
    decoded_batches,
)
from regionsearch.models.registry import ModelRegistry

DECODERS = 4
"""Threads that decode for each device: Pillow lets go of the interpreter while it decodes."""


@dataclass(frozen=True, eq=False)
class ComputedBatch:
    records: list[ImageRecord]
    seconds: Mapping[str, float]


class Prefetching:
    """Decodes in threads of this process; each decoded batch goes to the next free computer.

    The models compute in one thread of this process (`in_this_process`) or in one process for each
    device (`device_processes`). While a batch computes, the next ones are decoded.
    """

    def __init__(
        self,
        settings: PipelineSettings,
        workers: int,
        computers: Executor,
        compute: Callable[[DecodedBatch], ComputedBatch],
        load_seconds: float = 0.0,
    ) -> None:
        self.workers = workers
        self.load_seconds = load_seconds
        self._settings = settings
        self._computers = computers
        self._compute = compute
        self._decoders = ThreadPoolExecutor(DECODERS * workers, "decode")

    @classmethod
    def in_this_process(cls, settings: PipelineSettings, models: ModelRegistry) -> Prefetching:
        """With models that are loaded already."""
        pipeline = build_pipeline(settings, models)

        def compute(batch: DecodedBatch) -> ComputedBatch:
            return _compute(pipeline, batch)

        return cls(settings, 1, ThreadPoolExecutor(1, "compute"), compute)

    def submit(self, images: Sequence[EncodedImage]) -> Future[BatchResult]:
        return self._decoders.submit(self._run, list(images))

    def close(self) -> None:
        self._decoders.shutdown(wait=True, cancel_futures=True)
        self._computers.shutdown(wait=True, cancel_futures=True)

    def _run(self, images: Sequence[EncodedImage]) -> BatchResult:
        clock = StepClock()
        records: list[ImageRecord] = []
        failures: list[Failure] = []
        for batch in decoded_batches(images, self._settings.limits, clock):
            failures.extend(batch.failures)
            if batch.images:
                computed = self._computers.submit(self._compute, batch).result()
                records.extend(computed.records)
                clock.add(computed.seconds)
        return BatchResult(records, failures, clock.seconds)


def device_processes(settings: PipelineSettings, devices: Sequence[str]) -> Prefetching:
    """One process for each device (`cuda:0`, `cuda:1`, …), each with models of its own.

    Returns when all have loaded; raises what kept one from loading. Processes are spawned: neither a
    GPU's context nor LMDB may be carried across a fork.
    """
    started = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    waiting = context.SimpleQueue()
    for device in devices:
        waiting.put(device)
    pool = ProcessPoolExecutor(
        len(devices),
        mp_context=context,
        initializer=_start_worker,
        initargs=(settings, waiting, context.Barrier(len(devices))),
    )
    for loaded in [pool.submit(_is_loaded) for _ in devices]:
        loaded.result()
    return Prefetching(settings, len(devices), pool, _compute_in_worker, time.perf_counter() - started)


_worker_pipeline: Pipeline | None = None


def _start_worker(
    settings: PipelineSettings, devices: multiprocessing.SimpleQueue[str], all_loaded: Barrier
) -> None:
    global _worker_pipeline
    # Ctrl-C reaches the whole process group; the parent decides what is finished and what is not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runtime = replace(settings.runtime, device=devices.get())
    _worker_pipeline = build_pipeline(settings, ModelRegistry(runtime=runtime))
    all_loaded.wait()


def _is_loaded() -> bool:
    return _worker_pipeline is not None


def _compute_in_worker(batch: DecodedBatch) -> ComputedBatch:
    if _worker_pipeline is None:
        raise RuntimeError("the worker was never started")
    return _compute(_worker_pipeline, batch)


def _compute(pipeline: Pipeline, batch: DecodedBatch) -> ComputedBatch:
    before = dict(pipeline.clock.seconds)
    records = pipeline.compute(batch)
    return ComputedBatch(records, {step: pipeline.clock.seconds[step] - before[step] for step in STEPS})
