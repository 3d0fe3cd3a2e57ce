"""How a model is named: its kind, where its weights are, and its settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from regionsearch.errors import InvalidRequest

_DOTS = (".", "..")


@dataclass(frozen=True, slots=True)
class ModelReference:
    """`KIND[:LOCATION][,OPTION=VALUE]…`, for example `virtue:/models/virtue-2b,positions=first`.

    location: a folder, or a name on the Hugging Face hub (`owner/name`); "" = the kind's own default.
    options: settings of that kind, by name, ordered by name. Neither part can hold a comma.
    """

    kind: str
    location: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Relative folders become absolute, so that a reference means the same wherever it is read; those
        that are not spelt as paths (`models/clip`) if they are there, since hub names look alike.

        Raises InvalidRequest, naming what is wrong, for anything not of the form above.
        """
        head, *settings = text.split(",")
        kind, colon, location = head.partition(":")
        if not kind or (colon and not location):
            raise InvalidRequest(
                f"{text!r} names no model: KIND[:LOCATION][,OPTION=VALUE]…", field="embedder"
            )
        options: dict[str, str] = {}
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not name or not equals or not value:
                raise InvalidRequest(f"{setting!r} in {text!r} is not OPTION=VALUE", field="embedder")
            if name in options:
                raise InvalidRequest(f"{text!r} gives {name!r} twice", field="embedder")
            # A plain value (`positions=later`) means no file that happens to have its name.
            is_place = "/" in value or value.endswith(".pt")
            options[name] = _absolute(value) if is_place or value in _DOTS else value
        return cls(kind, _absolute(location), dict(sorted(options.items())))

    def check_options(self, known: Mapping[str, object]) -> None:
        """Raises InvalidRequest for an option that `known` does not name."""
        for name in self.options:
            if name not in known:
                there_are = f"there are: {', '.join(sorted(known))}" if known else "it has none"
                raise InvalidRequest(
                    f"model {self.kind!r} has no option {name!r}; {there_are}", field="embedder"
                )

    def check_bare(self) -> None:
        """For a kind that is one model: raises InvalidRequest for a location or an option."""
        if self.location:
            raise InvalidRequest(f"model {self.kind!r} takes no location, but {self.location!r} is given")
        self.check_options({})

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """The option's value, by default the first choice. Raises InvalidRequest for another value."""
        value = self.options.get(name, choices[0])
        if value not in choices:
            raise InvalidRequest(
                f"{name}={value} of model {self.kind!r} is not one of {', '.join(choices)}", field="embedder"
            )
        return value

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """The option's value as a number. Raises InvalidRequest outside [least, most]."""
        text = self.options.get(name)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise InvalidRequest(
                f"{name}={text} of model {self.kind!r} is not a number from {least:g} to {most:g}",
                field="embedder",
            )
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """As `number`. Raises InvalidRequest also for one that is not whole."""
        value = self.number(name, default, least, most)
        if value != int(value):
            raise InvalidRequest(
                f"{name}={value:g} of model {self.kind!r} is not a whole number", field="embedder"
            )
        return int(value)

    def __str__(self) -> str:
        head = f"{self.kind}:{self.location}" if self.location else self.kind
        return ",".join([head, *(f"{name}={value}" for name, value in self.options.items())])


def _absolute(location: str) -> str:
    """A path, spelt as one or there as one, made absolute; hub names as they are."""
    if location.startswith(("/", "./", "../", "~")) or location in _DOTS or (location and _exists(location)):
        return str(Path(os.path.expanduser(location)).absolute())  # noqa: PTH111 - see checkpoints.locate
    return location


def _exists(location: str) -> bool:
    try:
        return Path(location).exists()
    except (OSError, ValueError):
        return False  # no name that a file can have
