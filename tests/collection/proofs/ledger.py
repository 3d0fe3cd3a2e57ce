"""What a writer said it was about to do and had done, and which states that allows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from marked_images import GONE, State


@dataclass
class Ledger:
    """Fed with lines `begin IMAGE MARK TOUCHED` and `done IMAGE MARK TOUCHED` (-1 -1: a deletion), and with
    `begin NAME VALUE`, `done NAME VALUE` for other things that have one value at a time. A last word `@TIME`
    says when, and lines that begin otherwise are for others (sightings.py).

    The writes of one image come one after the other, so that at most one is begun and not done.
    """

    done: dict[str, State] = field(default_factory=dict)
    begun: dict[str, State] = field(default_factory=dict)
    other_done: dict[str, str] = field(default_factory=dict)
    other_begun: dict[str, str] = field(default_factory=dict)
    acknowledged: int = 0

    def read(self, lines: Iterable[str]) -> None:
        for line in lines:
            kind, name, *values = line.partition(" @")[0].split()
            if kind not in ("begin", "done"):
                continue
            if len(values) == 2:
                state = (int(values[0]), int(values[1]))
                if kind == "done":
                    self.done[name] = state
                    self.begun.pop(name, None)
                    self.acknowledged += 1
                else:
                    self.begun[name] = state
            elif kind == "done":
                self.other_done[name] = values[0]
                self.other_begun.pop(name, None)
            else:
                self.other_begun[name] = values[0]

    def allowed(self, image_id: str) -> set[State]:
        """The last that was acknowledged, or what was under way."""
        allowed = {self.done.get(image_id, GONE)}
        if image_id in self.begun:
            allowed.add(self.begun[image_id])
        return allowed

    def allowed_other(self, name: str, before: str) -> set[str]:
        allowed = {self.other_done.get(name, before)}
        if name in self.other_begun:
            allowed.add(self.other_begun[name])
        return allowed

    def settle(self, image_id: str, state: State) -> None:
        """After a crash: what was found is what is so from now on."""
        self.done[image_id] = state
        self.begun.pop(image_id, None)
