"""An indexing run: read, leave out what is unchanged, compute the rest, store."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any, Protocol

from indexer.engines import BatchResult, IndexingEngine
from indexer.payloads import Payloads
from indexer.report import IndexReport
from indexer.sources import SourceImage
from regionsearch.collection import Collection, ImageRecord
from regionsearch.config import Limits
from regionsearch.errors import DataLoss, ImageNotFound, InvalidImage, InvalidRecord, RegionSearchError
from regionsearch.images import content_hash, read_image_file
from regionsearch.ingest import EncodedImage, Failure, StepClock, copies_for_twins, copy_of_known

BATCH_BYTES = 32 * 1024 * 1024
"""Encoded bytes that travel to a worker together, unless a single image is larger."""
BATCHES_AHEAD = 2
"""Batches waiting for each worker: enough that none stands idle, few enough to stop soon."""
LOOK_SECONDS = 0.2
"""While a batch is waited for, the wish to stop is looked at this often: the next one then never begins."""


class Progress(Protocol):
    """Told of every image that is done with, whether stored, skipped or failed."""

    def advance(self, images: int) -> None: ...


class IndexJob:
    """Brings the images of a source into a collection. One use; `report` says what it did.

    Images of equal bytes are computed once: later ones are copies of the first. An image that is replaced
    keeps its payload, as far as its record can still be read, unless `payloads` has another for it; one that
    is skipped is given that too, and no model runs.
    """

    def __init__(
        self,
        collection: Collection,
        engine: IndexingEngine,
        progress: Progress,
        limits: Limits | None = None,
        payloads: Payloads | None = None,
    ) -> None:
        self._collection = collection
        self._engine = engine
        self._progress = progress
        self._limits = limits or Limits()
        self._payloads = payloads or {}
        self._clock = StepClock()
        self._stop = threading.Event()
        self._batch: list[EncodedImage] = []
        self._running: deque[tuple[Future[BatchResult], list[str]]] = deque()
        # Content hash of what is being computed → later images of the same bytes.
        self._twins: dict[str, list[EncodedImage]] = {}
        self.report = IndexReport(workers=engine.workers)

    def run(self, images: Iterable[SourceImage], stop: threading.Event | None = None) -> IndexReport:
        """Returns when everything is stored, or, once `stop` is set before the computing of the last
        image has begun, when what was being computed is: then `report.stopped` is true. Errors of a model
        or of the storage are raised; what had been stored stays stored."""
        started = time.perf_counter()
        self._stop = stop or threading.Event()
        try:
            for image in images:
                if self._stop.is_set():
                    self.report.stopped = True
                    break
                self._take(image)
            else:
                self._send()
            while self._running or self._batch:
                if self._stop.is_set():
                    self._drop_waiting()
                if self._running:
                    self._finish_oldest()
            if self.report.payloads_updated:
                self._collection.flush()
        finally:
            loading = self._engine.load_seconds
            self.report.load_seconds += loading
            self.report.seconds = time.perf_counter() - started - loading
            self.report.steps = dict(self._clock.seconds)
        return self.report

    def _take(self, source: SourceImage) -> None:
        with self._clock.step("decode"):
            try:
                data = read_image_file(source.path, max_bytes=self._limits.image_bytes)
            except InvalidImage as error:
                self._fail(source.image_id, error.message)
                return
            digest = content_hash(data)
        image = EncodedImage(source.image_id, data)
        with self._clock.step("store"):
            unchanged = self._collection.is_stored(source.image_id, digest)
            copy = None if unchanged else copy_of_known(self._collection, image, digest)
        if unchanged:
            self._update_payload(source.image_id)
            self.report.skipped += 1
            self._progress.advance(1)
        elif copy is not None:
            self._store([copy], copied=True)
        elif digest in self._twins:
            self._twins[digest].append(EncodedImage(source.image_id, b""))  # its bytes are not needed again
        else:
            self._twins[digest] = []
            self._batch.append(image)
            size = sum(len(each.data) for each in self._batch)
            if len(self._batch) == self._engine.batch_images or size > BATCH_BYTES:
                self._send()

    def _send(self) -> None:
        if not self._batch:
            return
        while len(self._running) >= BATCHES_AHEAD * self._engine.workers:
            self._finish_oldest()
            if self._stop.is_set():
                return  # `run` drops it
        batch, self._batch = self._batch, []
        digests = [content_hash(image.data) for image in batch]
        self._running.append((self._engine.submit(batch), digests))

    def _finish_oldest(self) -> None:
        self._wait_for_oldest()
        if not self._running:
            return
        future, digests = self._running[0]
        try:
            result = future.result()
        except BrokenProcessPool as error:
            raise RegionSearchError(
                "an indexing process ended unexpectedly, perhaps for want of memory; what was stored "
                "stays, and running the command again goes on from there (try fewer --workers)"
            ) from error
        self._running.popleft()
        self._clock.add(result.seconds)
        for failure in result.failures:
            self._fail(failure.source, failure.reason)
        self._store(result.records)
        twins = {digest: self._twins.pop(digest) for digest in digests}
        copies, failures = copies_for_twins(result.records, twins)
        self._store(copies, copied=True)
        for failure in failures:
            self._fail(failure.source, failure.reason)

    def _wait_for_oldest(self) -> None:
        """Also until none is left: those that have not begun are dropped once the run is told to stop."""
        while self._running and not self._running[0][0].done():
            if self._stop.is_set():
                self._drop_waiting()
            if self._running:
                wait([self._running[0][0]], LOOK_SECONDS)

    def _store(self, records: Sequence[ImageRecord], *, copied: bool = False) -> None:
        with self._clock.step("store"):
            fitting = []
            for record in records:
                try:
                    self._collection.check(record)
                except InvalidRecord as error:
                    self._fail(record.image_id, error.message)
                else:
                    fitting.append(replace(record, payload=self._payload_of(record.image_id)))
            if fitting:
                self._collection.upsert(fitting)
        self.report.images += len(fitting)
        self.report.entities += sum(len(record.entities) for record in fitting)
        self.report.copied += len(fitting) if copied else 0
        self._progress.advance(len(fitting))

    def _update_payload(self, image_id: str) -> None:
        """Of an image that stays as it is. Buffered: a commit for each would take as long as an upload;
        `run` waits for the last."""
        given = self._payloads.get(image_id)
        if given is None:
            return
        with self._clock.step("store"):
            if _coded(self._collection.get(image_id).payload) != _coded(given):
                self._collection.update_payload(image_id, given, durability="buffered")
                self.report.payloads_updated += 1

    def _payload_of(self, image_id: str) -> Mapping[str, Any]:
        """What was given for the image that is about to be stored, or else what it had."""
        if image_id in self._payloads:
            return self._payloads[image_id]
        try:
            return self._collection.get(image_id).payload
        except ImageNotFound:
            return {}
        except DataLoss:
            self.report.payloads_lost.append(image_id)
            return {}

    def _fail(self, source: str, reason: str) -> None:
        self.report.failed.append(Failure(source, reason))
        self._progress.advance(1)

    def _drop_waiting(self) -> None:
        """When told to stop: keeps what is being computed, forgets what has not begun."""
        cancelled = [entry for entry in self._running if entry[0].cancel()]
        for entry in cancelled:
            self._running.remove(entry)
        if cancelled or self._batch:
            self.report.stopped = True
        self._batch = []


def _coded(payload: Mapping[str, Any]) -> str:
    """Equal for equal JSON alone: in Python `1 == True`."""
    return json.dumps(payload, sort_keys=True)
