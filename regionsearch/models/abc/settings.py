"""What a reference to ABC can set, and what of it changes vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import cast

from regionsearch.errors import InvalidRequest
from regionsearch.models.abc.templates import TEMPLATES
from regionsearch.models.crops import DEFAULT_CONTEXT, MAX_CONTEXT
from regionsearch.models.qwen2_vl.pictures import LOADER_TOKENS
from regionsearch.models.qwen2_vl.position_modes import POSITION_MODES, Positions
from regionsearch.models.reference import ModelReference

OPTIONS = ("pretrain", "instruct", "positions", "context", "min_tokens", "max_tokens")
MIN_TOKENS = 256
MAX_TOKENS = 1024
"""Of a picture at inference (training had at most 512)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """positions: see `Positions`. context: margin of a crop on each side, a share of the box's sides.
    min_tokens, max_tokens: of a picture, 28 × 28 pixels each."""

    positions: Positions = "later"
    context: float = DEFAULT_CONTEXT
    min_tokens: int = MIN_TOKENS
    max_tokens: int = MAX_TOKENS

    @staticmethod
    def of(reference: ModelReference) -> Settings:
        """Raises InvalidRequest, naming the option, for one that there is not or a value out of range."""
        reference.check_options(dict.fromkeys(OPTIONS))
        settings = Settings(
            positions=cast(Positions, reference.choice("positions", POSITION_MODES)),
            context=reference.number("context", DEFAULT_CONTEXT, 0.0, MAX_CONTEXT),
            min_tokens=reference.whole("min_tokens", MIN_TOKENS, *LOADER_TOKENS),
            max_tokens=reference.whole("max_tokens", MAX_TOKENS, *LOADER_TOKENS),
        )
        if settings.min_tokens > settings.max_tokens:
            raise InvalidRequest(
                f"min_tokens={settings.min_tokens} of model {reference.kind!r} is above "
                f"max_tokens={settings.max_tokens}",
                field="embedder",
            )
        return settings

    def of_outputs(self) -> dict[str, object]:
        """Everything beside the weights that changes vectors, for the fingerprint."""
        return {**asdict(self), "templates": dict(TEMPLATES)}
