"""A real writer is killed, at random moments under load and at every named step, and loses nothing; nor do
readers beside it, in its process and in another, see what is not so."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pytest
from crash_runs import PATIENCE_SECONDS, forks, killed_writer
from ledger import Ledger
from sightings import check_sightings
from store_checks import check_after_crash

from regionsearch.collection.steps import STEPS

ELSEWHERE = ("purge", "migrate")
"""Killed in tests of their own: they end what this writer goes on with."""
WORKED = tuple(step for step in STEPS if step.partition(":")[0] not in ELSEWHERE)
LONGEST_SECONDS = 0.6


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """--kills N; otherwise 30, and 60 with --slow."""
    given: int | None = request.config.getoption("--kills")
    return given or (60 if request.config.getoption("--slow") else 30)


def test_a_writer_that_is_killed_loses_nothing(tmp_path: Path, kills: int) -> None:
    seed = 20_251
    print(f"seed {seed}")
    random = np.random.default_rng(seed)
    context = forks()
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tmp_path / "data"
    ledger = Ledger()
    came_to: list[str] = []
    turns = deque(WORKED)
    seen = seen_outside = 0
    for kill in range(kills):
        # Every step in its turn, the other half of the kills at any moment.
        step = turns[0] if kill % 2 else ""
        before = dict(ledger.done)
        sightings = outside / "sightings"
        lines, on_its_own = killed_writer(
            context,
            path,
            seed + kill,
            outside,
            after_seconds=PATIENCE_SECONDS if step else float(random.uniform(0, LONGEST_SECONDS)),
            die_at=step,
            sightings=sightings,
        )
        if on_its_own:
            came_to.append(step)
            turns.rotate(-1)  # one that a busy machine did not come to in time has its turn again
        ledger.read(lines)
        seen += check_sightings(before, lines, lines)
        if sightings.exists():
            seen_outside += check_sightings(before, lines, sightings.read_text().splitlines())
            sightings.unlink()
        check_after_crash(path, ledger)
        for leftover in outside.glob("*.tar*"):
            leftover.unlink()
    print(f"{kills} kills, {ledger.acknowledged} acknowledged writes, {len(came_to)} at named steps")
    print(f"{seen} sightings beside the writers, {seen_outside} in another process")
    assert seen > kills
    assert seen_outside > kills
    assert ledger.acknowledged > kills
    # On a busy machine one in ten may want its turn again.
    assert set(came_to) >= set(WORKED[: kills // 2 * 9 // 10])
