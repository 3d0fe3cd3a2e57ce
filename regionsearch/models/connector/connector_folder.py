"""What a connector's folder says of itself: `config.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regionsearch.errors import InvalidRequest, ModelUnavailable
from regionsearch.fingerprint import Fingerprint
from regionsearch.models.checkpoints import read_json
from regionsearch.models.embedder import SignalBackground
from regionsearch.models.reference import ModelReference

MODEL_TYPE = "regionsearch_connector"
FORMAT = 1
CONFIG_FILE = "config.json"
BASES = ("compact", "dual_encoder", "dummy")
"""Kinds that a connector can stand on: pixels and words are embedded apart, so that pixels' vectors can be
moved alone. A model that reads the two as one (VIRTUE, ABC) is trained as a whole instead."""


@dataclass(frozen=True, slots=True)
class ConnectorConfig:
    """base: the frozen embedder that the map was learnt for; its name is the reference to load.
    background: of the signals after the map. training: what it was trained on and how, for the record."""

    base: Fingerprint
    background: Mapping[str, SignalBackground]
    training: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "model_type": MODEL_TYPE,
            "format": FORMAT,
            "base": asdict(self.base),
            "background": {part: asdict(moments) for part, moments in self.background.items()},
            "training": dict(self.training),
        }

    def write(self, folder: Path) -> None:
        """In one step: a folder has the whole file or the one before."""
        unfinished = folder / f"{CONFIG_FILE}.unfinished"
        unfinished.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        unfinished.replace(folder / CONFIG_FILE)


def read_config(folder: Path) -> ConnectorConfig:
    """Raises ModelUnavailable when the folder holds no connector, or one of another format."""
    content = read_json(folder / CONFIG_FILE)
    if content.get("model_type") != MODEL_TYPE:
        raise ModelUnavailable(
            f"{folder} holds no connector: its model_type is {content.get('model_type')!r}"
        )
    if content.get("format") != FORMAT:
        raise ModelUnavailable(
            f"{folder} holds a connector of format {content.get('format')!r}; {FORMAT} is read here"
        )
    try:
        config = ConnectorConfig(
            base=Fingerprint(**content["base"]),
            background={part: SignalBackground(**each) for part, each in content["background"].items()},
            training=content.get("training", {}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailable(f"{folder / CONFIG_FILE} is no connector's: {error!r}") from error
    for part, moments in config.background.items():
        if not (math.isfinite(moments.mean) and moments.deviation > 0):
            raise ModelUnavailable(f"{folder / CONFIG_FILE}: background of {part!r} is {moments}")
    return config


def check_base(reference: ModelReference) -> None:
    """Raises InvalidRequest for an embedder that no connector can stand on."""
    if reference.kind not in BASES:
        raise InvalidRequest(
            f"a connector stands on an embedder that reads pixels and words apart "
            f"({', '.join(BASES)}), not on {reference.kind!r}",
            field="embedder",
        )
