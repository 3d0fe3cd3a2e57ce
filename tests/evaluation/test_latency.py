"""The open loop, asked against servers that are slow on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from regionsearch.cli import bench_latency_command
from regionsearch.errors import InvalidRequest, Overloaded
from regionsearch.evaluation.latency import Outcome, open_loop, summary
from regionsearch.evaluation.latency_questions import KINDS, phrases, questions, read_pictures


def outcome(due: float, done: float, *, left: float | None = None, error: str | None = None) -> Outcome:
    stages = {} if error else {"joint": done - due}
    return Outcome(due, due if left is None else left, done, stages, error)


async def test_requests_leave_when_due_although_the_first_is_not_answered() -> None:
    """A server that answers nothing for 0.3 s delays every request that is due meanwhile."""
    woken = asyncio.Event()

    async def stalled() -> Mapping[str, float]:
        await woken.wait()
        return {}

    asyncio.get_running_loop().call_later(0.3, woken.set)
    outcomes = await open_loop([stalled], rate=100, seconds=0.2)
    assert len(outcomes) == 20
    assert outcomes[-1].left - outcomes[0].left == pytest.approx(0.19, abs=0.1)
    assert outcomes[-1].due - outcomes[0].due == pytest.approx(0.19)
    assert outcomes[0].done - outcomes[0].due > outcomes[-1].done - outcomes[-1].due + 0.1


async def test_waiting_for_a_free_slot_counts_as_latency() -> None:
    in_flight = most = 0

    async def slow() -> Mapping[str, float]:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.05)
        in_flight -= 1
        return {}

    outcomes = await open_loop([slow], rate=200, seconds=0.05, max_in_flight=2)
    assert most == 2
    assert len(outcomes) == 10
    assert outcomes[-1].done - outcomes[-1].due >= 5 * 0.05 - 10 / 200


async def test_errors_are_counted_by_status_and_the_load_goes_on() -> None:
    calls = 0

    async def flaky() -> Mapping[str, float]:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise Overloaded("too much")
        return {"joint": 2.0}

    report = summary(await open_loop([flaky], rate=200, seconds=0.1))
    assert (report["sent"], report["ok"], report["errors"]) == (20, 10, 10)
    assert report["errors_by_status"] == {"RESOURCE_EXHAUSTED": 10}
    assert report["stages_ms"] == {"joint": 2.0}


async def test_a_fault_of_the_program_is_not_counted_as_the_servers() -> None:
    async def broken() -> Mapping[str, float]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await open_loop([broken], rate=100, seconds=0.01)


def test_percentiles_are_of_answers_and_counted_from_the_due_time() -> None:
    outcomes = [outcome(n / 10, n / 10 + n / 1000, left=n / 10 + 0.001) for n in range(101)]
    outcomes.append(outcome(10.1, 100.0, error="UNAVAILABLE"))
    report = summary(outcomes)
    assert report["p50_ms"] == pytest.approx(50)
    assert report["p90_ms"] == pytest.approx(90)
    assert report["p99_ms"] == pytest.approx(99)
    assert report["p999_ms"] == pytest.approx(99.9)
    assert report["late_p99_ms"] == pytest.approx(1)
    assert report["achieved_rate"] == pytest.approx(1.01)


def test_a_stage_that_a_query_did_not_need_counts_as_nothing() -> None:
    report = summary(
        [Outcome(0, 0, 1, {"segment": 4.0, "joint": 1.0}, None), Outcome(1, 1, 2, {"joint": 3.0}, None)]
    )
    assert report["stages_ms"] == {"segment": 2.0, "joint": 2.0}


def test_without_answers_there_are_no_latencies() -> None:
    report = summary([outcome(0, 1, error="UNAVAILABLE")])
    assert report["p50_ms"] is None
    assert report["stages_ms"] == {}
    assert report["achieved_rate"] == 0


def test_a_hundred_phrases_ship_and_none_is_a_background_phrase_of_search() -> None:
    neutral = (resources.files("regionsearch.search") / "neutral_phrases.txt").read_text().splitlines()
    assert len(neutral) == len(set(neutral)) == 500
    assert len(phrases()) == len(set(phrases())) == 100
    assert not set(phrases()) & set(neutral)
    assert all(phrase == phrase.strip() and phrase for phrase in [*phrases(), *neutral])


def test_questions_lie_within_their_pictures_and_are_the_same_each_time(tmp_path: Path) -> None:
    for n in range(3):
        pixels = np.full((40 + n, 60, 3), 50 * n, dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"{n}.png")
    pictures = read_pictures(tmp_path)
    by_data = {picture.data: picture for picture in pictures}
    assert {(picture.width, picture.height) for picture in pictures} == {(60, 40), (60, 41), (60, 42)}
    for question in questions("box", pictures):
        picture, (x0, y0, x1, y1) = by_data[question["image"]], question["box"]
        assert 0 <= x0 < x1 <= picture.width
        assert 0 <= y0 < y1 <= picture.height
    for question in questions("point", pictures):
        picture, ((x, y),) = by_data[question["image"]], question["points"]
        assert 0 <= x < picture.width
        assert 0 <= y < picture.height
    for kind in KINDS:
        assert questions(kind, pictures, ["a", "b"]) == questions(kind, pictures, ["a", "b"])
    assert len(questions("mix", pictures, ["a"])) == 4 * len(questions("text"))


def test_nothing_to_ask_with_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no picture"):
        read_pictures(tmp_path)
    with pytest.raises(InvalidRequest, match="no image"):
        questions("similar")


def test_the_command_offers_every_kind_of_question() -> None:
    assert bench_latency_command.KINDS == KINDS
