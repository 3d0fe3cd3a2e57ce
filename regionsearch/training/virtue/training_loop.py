"""The loop: batches in, updates out, a state on disk every so often."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from regionsearch.errors import InvalidRequest, RegionSearchError
from regionsearch.training.contrastive import Side, cached_gradients
from regionsearch.training.region_caption_data import CaptionSource, RegionCaption
from regionsearch.training.training_state import TrainingState, save_state
from regionsearch.training.virtue.batch_plan import BatchPlan
from regionsearch.training.virtue.batches_ahead import BatchesAhead
from regionsearch.training.virtue.distribution import (
    Team,
    all_say,
    any_wishes,
    share_from_first,
    sum_gradients,
    team_loss,
    wait_for_all,
)
from regionsearch.training.virtue.settings import TrainingSettings

Ready = TypeVar("Ready")


class PairEncoder(Protocol[Ready]):
    """A model that turns the two sides of a pair into unit vectors, and what of it is trained."""

    @property
    def device(self) -> torch.device: ...

    def ready_query(self, pair: RegionCaption) -> Ready:
        """Reads and prepares what needs no device; may run in another thread."""

    def ready_target(self, pair: RegionCaption) -> Ready: ...

    def shape(self, ready: Ready) -> Hashable:
        """Equal for inputs that can be encoded together: nothing is padded, so these have one length."""

    def encode(self, chunk: Sequence[Ready]) -> torch.Tensor:
        """(n, d) float32 unit vectors, with a graph to the trained parameters."""

    def trained_parameters(self) -> Sequence[torch.nn.Parameter]: ...

    def trained_state(self) -> dict[str, dict[str, torch.Tensor]]: ...

    def load_trained(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None: ...


@dataclass(eq=False)
class TrainingReport:
    """history: `{step, loss, learning_rate}` of every update since the run began, in nats and per
    update. steps: updates done in all; resumed_from: how many of them earlier runs did. seconds: of this
    run. stopped: it was asked to stop before the last step."""

    steps: int = 0
    resumed_from: int = 0
    seconds: float = 0.0
    stopped: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


class Training(Generic[Ready]):
    """One run over the pairs of some sources, into a folder that holds its state."""

    def __init__(
        self,
        encoder: PairEncoder[Ready],
        sources: Sequence[CaptionSource],
        settings: TrainingSettings,
        folder: Path,
        *,
        state: TrainingState,
        team: Team,
        save_every: int,
        readers: int = 1,
    ) -> None:
        """state: a new one, or that of the folder, from which the run goes on. save_every: steps between
        two states. readers: threads that read and prepare the next batch meanwhile.

        Raises InvalidRequest when the pairs do not fill a batch or the processes have different states.
        """
        self._encoder = encoder
        self._sources = sources
        self._settings = settings
        self._folder = folder
        self._team = team
        self._save_every = save_every
        self._readers = readers
        sizes = [len(source.pairs) for source in sources]
        self._plan = BatchPlan(sizes, settings.batch * team.size, settings.steps, settings.seed)
        self._parameters = list(encoder.trained_parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._state = state
        if state.step:
            encoder.load_trained(state.trained)
            self._optimizer.load_state_dict(dict(state.optimizer))
        if not all_say(team, self._state.step, encoder.device):
            raise InvalidRequest(
                f"the processes see different states in {folder}: all of them have to share it"
            )
        share_from_first(team, self._parameters)

    @property
    def steps_done(self) -> int:
        return self._state.step

    def run(
        self,
        progress: Callable[[int, float], None] = lambda step, loss: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> TrainingReport:
        """Updates until the last step or until `stop` says so in one process; the state is on disk then.

        progress: told the steps done and the loss of the last one.
        """
        begun = self._state.step
        report = TrainingReport(steps=begun, resumed_from=begun, history=self._state.history)
        started = time.perf_counter()
        with BatchesAhead(self._read, self._settings.steps, begun, self._readers) as batches:
            for step, (queries, targets) in batches:
                loss = self._update(step, queries, targets)
                progress(step + 1, loss)
                report.stopped = step + 1 < self._settings.steps and any_wishes(
                    self._team, stop(), self._encoder.device
                )
                last = report.stopped or step + 1 == self._settings.steps
                if last or (step + 1) % self._save_every == 0:
                    self._save()
                if report.stopped:
                    break
        report.steps = self._state.step
        report.seconds = time.perf_counter() - started
        return report

    def _read(self, step: int, each: Callable[..., Any]) -> tuple[list[Ready], list[Ready]]:
        """Both sides of this process's part of the batch; `each` maps over items, in threads."""
        places = self._plan.batch(step)
        first = self._team.rank * self._settings.batch
        pairs = [self._sources[s].pairs[p] for s, p in places[first : first + self._settings.batch]]
        return (
            list(each(self._encoder.ready_query, pairs)),
            list(each(self._encoder.ready_target, pairs)),
        )

    def _update(self, step: int, queries: Sequence[Ready], targets: Sequence[Ready]) -> float:
        settings = self._settings
        # Dropout depends on nothing but the seed, the step and the process.
        key = np.random.SeedSequence([settings.seed, step, self._team.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(key[0] >> np.uint64(1)))
        query_chunks, query_order = self._chunks(queries)
        target_chunks, target_order = self._chunks(targets)
        over_the_team = team_loss(self._team, settings.temperature)
        self._optimizer.zero_grad(set_to_none=True)
        loss = cached_gradients(
            Side(self._encoder.encode, query_chunks),
            Side(self._encoder.encode, target_chunks),
            # Chunks are by length: the rows come back in the order of the pairs here.
            lambda q, t: over_the_team(q[query_order], t[target_order]),
        )
        value = float(loss)
        if not np.isfinite(value):
            raise _not_finite(f"the loss of step {step}", value)
        sum_gradients(self._team, self._parameters)
        length = float(torch.nn.utils.clip_grad_norm_(self._parameters, settings.largest_gradient))
        # Before the update: it would put what is not finite into all that is trained, and on the disk.
        if not np.isfinite(length):
            raise _not_finite(f"the gradient of step {step}", length)
        rate = settings.learning_rate_at(step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._state.step = step + 1
        self._state.history.append({"step": step + 1, "loss": value, "learning_rate": rate})
        return value

    def _chunks(self, side: Sequence[Ready]) -> tuple[list[list[Ready]], torch.Tensor]:
        """Chunks of one shape each, and for each item the row at which its vector will come."""
        by_shape: dict[Hashable, list[int]] = {}
        for place, ready in enumerate(side):
            by_shape.setdefault(self._encoder.shape(ready), []).append(place)
        size = self._settings.chunk
        chunks = [
            places[start : start + size]
            for places in by_shape.values()
            for start in range(0, len(places), size)
        ]
        rows = torch.empty(len(side), dtype=torch.long)
        rows[torch.tensor([place for chunk in chunks for place in chunk])] = torch.arange(len(side))
        return [[side[place] for place in chunk] for chunk in chunks], rows.to(self._encoder.device)

    def _save(self) -> None:
        if self._team.is_first:
            self._state.trained = self._encoder.trained_state()
            self._state.optimizer = self._optimizer.state_dict()
            save_state(self._folder, self._state)
        wait_for_all(self._team)


def _not_finite(what: str, value: float) -> RegionSearchError:
    return RegionSearchError(
        f"{what} is {value}: the run cannot go on; a smaller --learning-rate may help (the state of the last "
        "saved step is kept)"
    )
