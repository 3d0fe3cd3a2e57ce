"""What the training of a connector is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from regionsearch.errors import InvalidRequest

Start = Literal["embedder", "nothing"]
STARTS: tuple[Start, ...] = ("embedder", "nothing")


@dataclass(frozen=True, slots=True)
class ConnectorSettings:
    """start: the connector is added to the embedder's vectors, or stands alone and knows nothing.
    epochs: times that every example is seen. batch: examples told from one another at once, at most.
    hidden: width of the connector's middle layer. dropout: share of the numbers that go in which is left
    out. temperature: divides the cosines.

    The defaults were chosen on photos and words that no reported figure is from (docs/training.md).
    """

    start: Start = "embedder"
    epochs: int = 100
    batch: int = 512
    hidden: int = 128
    dropout: float = 0.2
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    temperature: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise InvalidRequest(f"--start {self.start} is not one of {', '.join(STARTS)}")
        for option, value, least in (
            ("--epochs", self.epochs, 1),
            ("--batch", self.batch, 2),
            ("--hidden", self.hidden, 1),
            ("--seed", self.seed, 0),
        ):
            if value < least:
                raise InvalidRequest(f"{option} is {value}; it must be {least} or more")
        if not 0 <= self.dropout < 1:
            raise InvalidRequest(f"--dropout is {self.dropout:g}; it must lie in [0, 1)")
        if not 0 < self.learning_rate < 1:
            raise InvalidRequest(f"--learning-rate is {self.learning_rate:g}; it must lie between 0 and 1")
        if not 0 <= self.weight_decay <= 1000:
            raise InvalidRequest(f"--weight-decay is {self.weight_decay:g}; it must lie in [0, 1000]")
        if not 0.001 <= self.temperature <= 100:
            raise InvalidRequest(f"--temperature is {self.temperature:g}; it must lie in [0.001, 100]")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
