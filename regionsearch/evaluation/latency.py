"""Latency under an open loop: requests leave when they are due, however the server feels.

A closed loop stops asking a server that stalls, and so hides the stall from its own figures. Here request
n is due n/rate seconds after the first, and its latency counts from that moment.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regionsearch.errors import RegionSearchError

MAX_IN_FLIGHT = 256
"""A request that is due while so many are unanswered waits, and its waiting counts: what a client
would see, without this process running out of memory first."""
WARM_UP_REQUESTS = 8
LEAD_SECONDS = 0.05
"""Between the decision to start and the first due time, so that the first request is not late."""

Ask = Callable[[], Awaitable[Mapping[str, float]]]
"""Asks one question and returns the milliseconds by stage that the server reports."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one request. Seconds, on the event loop's clock.

    stages: milliseconds by stage; empty after an error. error: gRPC status, None when it was answered.
    """

    due: float
    left: float
    done: float
    stages: Mapping[str, float]
    error: str | None


async def warm_up(asks: Sequence[Ask]) -> None:
    """Asks the first few questions one after the other; errors come out here, before anything counts."""
    for number in range(WARM_UP_REQUESTS):
        await asks[number % len(asks)]()


async def open_loop(
    asks: Sequence[Ask], rate: float, seconds: float, max_in_flight: int = MAX_IN_FLIGHT
) -> list[Outcome]:
    """Asks the questions in turn at `rate` a second for `seconds`, and waits for the last answer.

    Returns one outcome for each request, in the order in which they were due; one request at least.
    """
    loop = asyncio.get_running_loop()
    slots = asyncio.Semaphore(max_in_flight)
    count = max(1, round(rate * seconds))
    start = loop.time() + LEAD_SECONDS
    running: list[asyncio.Task[Outcome]] = []
    for number in range(count):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        await slots.acquire()
        running.append(asyncio.create_task(_one(asks[number % len(asks)], due, slots)))
    return list(await asyncio.gather(*running))


async def _one(ask: Ask, due: float, slots: asyncio.Semaphore) -> Outcome:
    loop = asyncio.get_running_loop()
    left = loop.time()
    stages: Mapping[str, float] = {}
    error: str | None = None
    try:
        stages = await ask()
    except RegionSearchError as failure:
        # Counted, not hidden: a load test goes on when one request fails.
        error = failure.grpc_status
    finally:
        slots.release()
    return Outcome(due, left, loop.time(), stages, error)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The report that `docs/evaluation.md` describes, as JSON-ready values; latencies are None when
    nothing was answered."""
    answered = [outcome for outcome in outcomes if outcome.error is None]
    latencies = np.array([outcome.done - outcome.due for outcome in answered]) * 1000
    elapsed = max(outcome.done for outcome in outcomes) - min(outcome.due for outcome in outcomes)
    late = np.array([outcome.left - outcome.due for outcome in outcomes]) * 1000
    failed = Counter(outcome.error for outcome in outcomes if outcome.error is not None)
    stages = sorted({stage for outcome in answered for stage in outcome.stages})
    percentiles = {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "p999_ms": 99.9}
    return {
        "sent": len(outcomes),
        "ok": len(answered),
        "errors": len(outcomes) - len(answered),
        "errors_by_status": dict(sorted(failed.items())),
        **{
            name: float(np.percentile(latencies, percentile)) if answered else None
            for name, percentile in percentiles.items()
        },
        "achieved_rate": len(answered) / elapsed,
        "stages_ms": {
            stage: float(np.mean([outcome.stages.get(stage, 0.0) for outcome in answered]))
            for stage in stages
        },
        "late_p99_ms": float(np.percentile(late, 99)),
    }
