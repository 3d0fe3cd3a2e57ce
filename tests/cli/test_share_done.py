"""Progress goes to stderr: in place on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys

import pytest

from regionsearch.cli.share_done import ShareDone


@pytest.mark.parametrize(
    ("terminal", "seconds", "expected"),
    [(True, 0.3, "\rcopying: 50%\n"), (False, 0.3, ""), (False, 11.0, "copying: 50%\n")],
)
def test_a_share_is_shown_once_some_time_has_passed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
    seconds: float,
    expected: str,
) -> None:
    now = [100.0]
    monkeypatch.setattr("regionsearch.cli.share_done.time.monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with ShareDone("copying") as share_done:
        share_done(0.2)  # within the first moments
        now[0] += seconds
        share_done(0.5)
        share_done(0.6)  # too soon after the last
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", expected)
