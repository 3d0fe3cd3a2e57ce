"""Decoding ahead of a model that computes on a device of its own, so that the device never waits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier

from indexer.engines.engine import BatchResult, PipelineSettings
from indexer.engines.local import build_pipeline
from indexer.engines.orphans import end_with_parent
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
from regionsearch.ingest.pipeline import BATCH_IMAGES
from regionsearch.models.registry import ModelRegistry

DECODERS = 4
"""Threads that decode for each device: Pillow lets go of the interpreter while it decodes."""

BATCH_IMAGES_ON_CPU = 2
"""One photo can take a minute there, and so long nothing moves. A CLIP of the size of ViT-B/32 took 4 %
longer a photo than with 8 at once (and 12 % by ones); slower models lose less."""


@dataclass(frozen=True, eq=False)
class ComputedBatch:
    records: list[ImageRecord]
    seconds: Mapping[str, float]


class Prefetching:
    """Decodes in threads of this process; each decoded batch goes to the next free computer.

    The models compute in one thread of this process (`in_this_process`) or in one process for each
    device (`device_processes`). While a batch computes, the next ones are decoded; they can be cancelled
    until it is their turn to be computed, since computing may take minutes.
    """

    def __init__(
        self,
        settings: PipelineSettings,
        workers: int,
        start: Callable[[], Executor],
        compute: Callable[[DecodedBatch], ComputedBatch],
        *,
        turns: int,
    ) -> None:
        """start: makes the computers when the first batch comes, so that a run with nothing to do costs
        nothing. turns: batches handed to the computers at once."""
        self.workers = workers
        on_cpu = settings.runtime.torch_device().type == "cpu"
        self.batch_images = BATCH_IMAGES_ON_CPU if on_cpu else BATCH_IMAGES
        self.load_seconds = 0.0
        self._settings = settings
        self._start = start
        self._computers: Executor | None = None
        self._compute = compute
        self._turns = threading.Semaphore(turns)
        self._closed = False
        self._decoders = ThreadPoolExecutor(DECODERS * workers, "decode")

    @classmethod
    def in_this_process(cls, settings: PipelineSettings, models: ModelRegistry) -> Prefetching:
        """With models that are loaded already."""
        pipeline = build_pipeline(settings, models)

        def compute(batch: DecodedBatch) -> ComputedBatch:
            return _compute(pipeline, batch)

        return cls(settings, 1, lambda: ThreadPoolExecutor(1, "compute"), compute, turns=1)

    def submit(self, images: Sequence[EncodedImage]) -> Future[BatchResult]:
        if self._computers is None:
            started = time.perf_counter()
            self._computers = self._start()
            self.load_seconds = time.perf_counter() - started
        future: Future[BatchResult] = Future()
        decoding = self._decoders.submit(self._run, self._computers, list(images), future)
        # Closed before a thread was free for it.
        decoding.add_done_callback(lambda done: future.cancel() if done.cancelled() else None)
        return future

    def close(self) -> None:
        self._closed = True
        self._decoders.shutdown(wait=True, cancel_futures=True)
        if self._computers is not None:
            self._computers.shutdown(wait=True, cancel_futures=True)

    def _run(self, computers: Executor, images: Sequence[EncodedImage], future: Future[BatchResult]) -> None:
        try:
            result = self._computed(computers, images, future)
        except BaseException as error:
            if future.cancelled():
                return
            # Of a model, or of a process that ended: raised again where the result is asked for.
            future.set_exception(error)
        else:
            if result is not None:
                future.set_result(result)

    def _computed(
        self, computers: Executor, images: Sequence[EncodedImage], future: Future[BatchResult]
    ) -> BatchResult | None:
        """None when the future was cancelled before its turn came."""
        clock = StepClock()
        records: list[ImageRecord] = []
        failures: list[Failure] = []
        for batch in decoded_batches(images, self._settings.limits, clock):
            failures.extend(batch.failures)
            with self._turns:
                if self._closed:
                    future.cancel()
                    raise CancelledError
                if not future.running() and not future.set_running_or_notify_cancel():
                    return None
                if batch.images:
                    computed = computers.submit(self._compute, batch).result()
                    records.extend(computed.records)
                    clock.add(computed.seconds)
        return BatchResult(records, failures, clock.seconds)


def device_processes(settings: PipelineSettings, devices: Sequence[str]) -> Prefetching:
    """One process for each device (`cuda:0`, `cuda:1`, …), each with models of its own.

    They start with the first batch; submitting it returns when all have loaded, and raises what kept one
    from loading.
    """
    # One more than there are processes, so that a batch has travelled to them when one is free.
    turns = len(devices) + 1
    return Prefetching(
        settings, len(devices), lambda: _start(settings, devices), _compute_in_worker, turns=turns
    )


def _start(settings: PipelineSettings, devices: Sequence[str]) -> Executor:
    """Processes are spawned: neither a GPU's context nor LMDB may be carried across a fork."""
    context = multiprocessing.get_context("spawn")
    waiting = context.SimpleQueue()
    for device in devices:
        waiting.put(device)
    pool = ProcessPoolExecutor(
        len(devices),
        mp_context=context,
        initializer=_start_worker,
        initargs=(_sharing_cores(settings, devices), waiting, context.Barrier(len(devices))),
    )
    for loaded in [pool.submit(_is_loaded) for _ in devices]:
        loaded.result()
    return pool


def _sharing_cores(settings: PipelineSettings, devices: Sequence[str]) -> PipelineSettings:
    """With an equal share of the cores for each process, unless it was said or GPUs compute: torch would
    start a thread for each core in each of them."""
    runtime = settings.runtime
    if runtime.threads is not None or runtime.torch_device().type != "cpu":
        return settings
    threads = max(1, (os.cpu_count() or 1) // len(devices))
    return replace(settings, runtime=replace(runtime, threads=threads))


_worker_pipeline: Pipeline | None = None


def _start_worker(
    settings: PipelineSettings, devices: multiprocessing.SimpleQueue[str], all_loaded: Barrier
) -> None:
    global _worker_pipeline
    # Ctrl-C reaches the whole process group; the parent decides what is finished and what is not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
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
