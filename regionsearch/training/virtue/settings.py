"""What a training run is told, with the published run's numbers as defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from regionsearch.errors import InvalidRequest
from regionsearch.training.contrastive import TEMPERATURE
from regionsearch.training.virtue.adapters import AdapterSettings

PUBLISHED_WARMUP = 200


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """steps: updates. batch: pairs a step of each process. chunk: pairs encoded at once, which bounds
    the memory and changes no result but by rounding and by which random numbers dropout draws.
    learning_rate: its peak; it rises linearly over `warmup` steps and falls linearly to 0 at the end.
    warmup: None is 200 steps, but a tenth of a short run. weight_decay, largest_gradient (the norm to
    which longer gradients are cut): the defaults of transformers' Trainer, which the published code
    leaves as they are. positions: `later` numbers an image row's text from 256, as almost all of the
    published training did; `first` from 0. boxes_unscaled: boxes reach the segmentation branch in
    pixels of the picture, as in the published training, although it reads them in its own frame of
    1024 × 1024.
    """

    steps: int = 2000
    batch: int = 32
    chunk: int = 2
    learning_rate: float = 2e-5
    warmup: int | None = None
    temperature: float = TEMPERATURE
    weight_decay: float = 0.0
    largest_gradient: float = 1.0
    adapters: AdapterSettings = field(default_factory=AdapterSettings)
    positions: Literal["later", "first"] = "later"
    boxes_unscaled: bool = False
    limit: int = 100_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("--steps", self.steps, 1),
            ("--batch", self.batch, 1),
            ("--chunk", self.chunk, 1),
            ("--rank", self.adapters.rank, 1),
            ("--alpha", self.adapters.alpha, 1),
            ("--limit", self.limit, 1),
            ("--seed", self.seed, 0),
            ("--warmup", self.warmup_steps, 0),
        ):
            if value < least:
                raise InvalidRequest(f"{name} is {value}; it must be {least} or more")
        if self.warmup_steps >= self.steps:
            raise InvalidRequest(f"--warmup is {self.warmup_steps}, of {self.steps} steps in all")
        if not 0 < self.learning_rate < 1:
            raise InvalidRequest(f"--learning-rate is {self.learning_rate:g}; it must lie between 0 and 1")
        if not 0.001 <= self.temperature <= 100:
            raise InvalidRequest(f"--temperature is {self.temperature:g}; it must lie in [0.001, 100]")
        if not 0 <= self.adapters.dropout < 1:
            raise InvalidRequest(f"--dropout is {self.adapters.dropout:g}; it must lie in [0, 1)")

    @property
    def warmup_steps(self) -> int:
        return min(PUBLISHED_WARMUP, self.steps // 10) if self.warmup is None else self.warmup

    def learning_rate_at(self, step: int) -> float:
        """Of the update after `step` updates: 0 for the first one, as in the published run."""
        if step < self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        return self.learning_rate * (self.steps - step) / (self.steps - self.warmup_steps)

    def to_json(self) -> dict[str, object]:
        return asdict(self)
