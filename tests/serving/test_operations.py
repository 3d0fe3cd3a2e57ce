"""Operations wait for each other, run, fail and are cancelled; what is told of them is bounded."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.errors import Cancelled, OperationNotFound, Overloaded, StorageFull, Unavailable
from regionsearch.serving.operations import Operation, Operations, Outcome, Steps, Work

PATIENCE = 10.0
"""Seconds until a test that waits gives up."""


@pytest.fixture
def operations() -> Iterator[Operations]:
    made = Operations()
    yield made
    assert made.stop(PATIENCE)


def until_ended(operations: Operations, operation: Operation) -> Operation:
    while not operation.ended:
        operation = operations.wait_for_change(operation, PATIENCE)
    return operation


def until(operations: Operations, operation: Operation, so: Callable[[Operation], bool]) -> Operation:
    while not so(operation):
        assert not operation.ended, operation
        operation = operations.wait_for_change(operation, PATIENCE)
    return operation


class Gate:
    """Work that runs until it is let through, or cancelled."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()

    def __call__(self, steps: Steps) -> Outcome:
        self.entered.set()
        while not self.opened.wait(0.01):
            steps.check()
        return Outcome(images=3)


def nothing(steps: Steps) -> Outcome:
    return Outcome()


def failing(error: Exception) -> Work:
    def work(steps: Steps) -> Outcome:
        raise error

    return work


def test_an_operation_tells_how_far_it_is_and_what_it_came_to(operations: Operations) -> None:
    gate = Gate()

    def work(steps: Steps) -> Outcome:
        steps.progress(0.5)
        return gate(steps)

    begun = operations.begin("compact", "photos", work)
    assert (begun.kind, begun.collection, begun.outcome) == ("compact", "photos", None)
    halfway = until(operations, begun, lambda seen: seen.progress == 0.5)
    assert halfway.state == "running"
    gate.opened.set()
    ended = until_ended(operations, halfway)
    assert (ended.state, ended.progress, ended.outcome) == ("succeeded", 1.0, Outcome(images=3))
    assert ended.started is not None
    assert ended.finished is not None
    assert ended.created <= ended.started <= ended.finished
    assert operations.get(begun.id) == ended


@given(st.lists(st.floats(-1, 2), max_size=30))
def test_progress_never_goes_back_and_stays_between_0_and_1(reported: list[float]) -> None:
    operations, seen = Operations(), []

    def work(steps: Steps) -> Outcome:
        for done in reported:
            steps.progress(done)
            seen.append(operations.listed()[0].progress)
        return Outcome()

    assert until_ended(operations, operations.begin("seal", "photos", work)).progress == 1.0
    assert seen == sorted(seen)
    assert all(0 <= done <= 1 for done in seen)


def test_operations_of_one_collection_run_one_after_the_other_and_others_beside(
    operations: Operations,
) -> None:
    first, second, other = Gate(), Gate(), Gate()
    running = operations.begin("seal", "a", first)
    waiting = operations.begin("compact", "a", second)
    beside = operations.begin("seal", "b", other)
    assert first.entered.wait(PATIENCE)
    assert other.entered.wait(PATIENCE)
    assert operations.get(waiting.id).state == "waiting"
    assert not second.entered.is_set()
    first.opened.set()
    until_ended(operations, running)
    assert second.entered.wait(PATIENCE)
    second.opened.set()
    other.opened.set()
    for operation in (waiting, beside):
        assert until_ended(operations, operation).state == "succeeded"


def test_a_running_operation_is_cancelled_at_its_next_look_and_a_waiting_one_at_once(
    operations: Operations,
) -> None:
    gate, never = Gate(), Gate()
    running = operations.begin("seal", "photos", gate)
    waiting = operations.begin("compact", "photos", never)
    assert gate.entered.wait(PATIENCE)
    cancelled = operations.cancel(waiting.id)
    assert (cancelled.state, cancelled.started) == ("cancelled", None)
    operations.cancel(running.id)
    ended = until_ended(operations, running)
    assert (ended.state, ended.error, ended.outcome) == ("cancelled", None, None)
    assert not never.entered.is_set()
    assert operations.cancel(running.id) == ended


def test_a_failed_operation_keeps_its_error_and_the_next_one_runs(operations: Operations) -> None:
    full = StorageFull("no room")
    failed = until_ended(operations, operations.begin("snapshot", "photos", failing(full)))
    assert (failed.state, failed.error, failed.outcome) == ("failed", full, None)
    fault = until_ended(operations, operations.begin("snapshot", "photos", failing(ValueError("secret"))))
    assert fault.error is not None
    assert (fault.error.reason, "secret" in fault.error.message) == ("INTERNAL", False)
    uncalled = until_ended(operations, operations.begin("seal", "photos", failing(Cancelled("by itself"))))
    assert uncalled.state == "failed"
    assert until_ended(operations, operations.begin("seal", "photos", nothing)).state == "succeeded"


def test_the_last_ones_that_ended_are_told_of_and_all_that_have_not() -> None:
    operations = Operations(ended_kept=2)
    gate = Gate()
    held = operations.begin("seal", "held", gate)
    ended = [until_ended(operations, operations.begin("seal", "photos", nothing)) for _ in range(4)]
    assert operations.listed() == [ended[3], ended[2], operations.get(held.id)]
    with pytest.raises(OperationNotFound, match=ended[0].id):
        operations.get(ended[0].id)
    assert operations.stop(PATIENCE)


def test_a_stop_cancels_what_runs_and_waits_and_begins_nothing_more() -> None:
    operations, gate = Operations(), Gate()
    running = operations.begin("seal", "photos", gate)
    waiting = operations.begin("compact", "photos", nothing)
    assert gate.entered.wait(PATIENCE)
    assert operations.stop(PATIENCE)
    assert [operations.get(each.id).state for each in (running, waiting)] == ["cancelled", "cancelled"]
    with pytest.raises(Unavailable):
        operations.begin("seal", "photos", nothing)


def test_a_stop_does_not_wait_for_ever() -> None:
    operations, release, entered = Operations(), threading.Event(), threading.Event()

    def deaf(steps: Steps) -> Outcome:
        entered.set()
        release.wait(PATIENCE)
        return Outcome()

    operations.begin("seal", "photos", deaf)
    assert entered.wait(PATIENCE)
    assert not operations.stop(0.05)
    release.set()
    assert operations.stop(PATIENCE)


def test_an_operation_that_gets_no_thread_fails_and_holds_up_nobody(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        failed = operations.begin("seal", "c", nothing)
    assert failed.state == "failed"
    assert isinstance(failed.error, Overloaded)
    assert until_ended(operations, operations.begin("seal", "c", nothing)).state == "succeeded"


def test_a_failed_operation_holds_on_to_nothing_that_it_worked_with(operations: Operations) -> None:
    held: list[weakref.ref[Gate]] = []

    def work(steps: Steps) -> Outcome:
        collection = Gate()
        held.append(weakref.ref(collection))
        try:
            raise OSError("no room")
        except OSError as error:
            raise StorageFull("no room") from error

    failed = until_ended(operations, operations.begin("seal", "c", work))
    assert isinstance(failed.error, StorageFull)
    gc.collect()
    assert held[0]() is None
