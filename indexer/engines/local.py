"""Indexing on this machine: in this process, or in several beside it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.synchronize import Barrier

from indexer.engines.engine import BatchResult, PipelineSettings
from indexer.engines.orphans import end_with_parent
from regionsearch.ingest import EncodedImage, Pipeline
from regionsearch.ingest.pipeline import BATCH_IMAGES
from regionsearch.models.registry import ModelRegistry


def build_pipeline(settings: PipelineSettings, models: ModelRegistry) -> Pipeline:
    return Pipeline(
        models.embedder(settings.embedder),
        models.segmenter(settings.segmenter),
        pixels=settings.pixels,
        entity_limit=settings.entity_limit,
        limits=settings.limits,
    )


class InProcess:
    """Computes each batch at once, in the calling thread, with the models already loaded."""

    workers = 1
    batch_images = BATCH_IMAGES
    load_seconds = 0.0

    def __init__(self, settings: PipelineSettings, models: ModelRegistry) -> None:
        self._pipeline = build_pipeline(settings, models)

    def submit(self, images: Sequence[EncodedImage]) -> Future[BatchResult]:
        future: Future[BatchResult] = Future()
        future.set_result(_run(self._pipeline, images))
        return future

    def close(self) -> None:
        """Nothing is left to wait for."""


class Processes:
    """Computes in `workers` processes, each with models of its own on an equal share of the cores.

    The merge tree of the compact segmenter holds the interpreter's lock, so threads would wait for
    each other. Processes are spawned, never forked: LMDB and the inference engine must not be carried
    across a fork. They start with the first batch, so that a run with nothing to do costs nothing.
    """

    batch_images = BATCH_IMAGES

    def __init__(self, settings: PipelineSettings, workers: int) -> None:
        self.workers = workers
        self.load_seconds = 0.0
        self._settings = settings
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, images: Sequence[EncodedImage]) -> Future[BatchResult]:
        if self._pool is None:
            self._pool = self._start()
        return self._pool.submit(_run_in_worker, list(images))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        """Returns when every worker has loaded its models; raises what kept one from loading."""
        started = time.perf_counter()
        context = multiprocessing.get_context("spawn")
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        pool = ProcessPoolExecutor(
            self.workers,
            mp_context=context,
            initializer=_start_worker,
            initargs=(self._settings, threads, context.Barrier(self.workers)),
        )
        for loaded in [pool.submit(_is_loaded) for _ in range(self.workers)]:
            loaded.result()
        self.load_seconds = time.perf_counter() - started
        return pool


_worker_pipeline: Pipeline | None = None


def _start_worker(settings: PipelineSettings, threads: int, all_loaded: Barrier) -> None:
    global _worker_pipeline
    # Ctrl-C reaches the whole process group; the parent decides what is finished and what is not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    _worker_pipeline = build_pipeline(
        settings, ModelRegistry(runtime=replace(settings.runtime, threads=threads))
    )
    # Nobody starts early: a first worker that computes would slow the loading of the others.
    all_loaded.wait()


def _is_loaded() -> bool:
    return _worker_pipeline is not None


def _run_in_worker(images: Sequence[EncodedImage]) -> BatchResult:
    if _worker_pipeline is None:
        raise RuntimeError("the worker was never started")
    return _run(_worker_pipeline, images)


def _run(pipeline: Pipeline, images: Sequence[EncodedImage]) -> BatchResult:
    before = dict(pipeline.clock.seconds)
    records, failures = pipeline.run(images)
    spent = {step: seconds - before[step] for step, seconds in pipeline.clock.seconds.items()}
    return BatchResult(records, failures, spent)
