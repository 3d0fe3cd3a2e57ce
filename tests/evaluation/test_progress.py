"""What an evaluation says on stderr while it runs."""

from __future__ import annotations

import time

import pytest

from regionsearch.evaluation import progress
from regionsearch.evaluation.progress import ShownProgress, progress_bar


def test_a_long_step_says_how_far_it_is_where_nobody_watches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.05)
    with progress_bar("reading", 4) as step:
        for _ in range(4):
            time.sleep(0.06)
            step()
    show = ShownProgress()
    for done in range(3):
        show("indexing", done, 2)
        time.sleep(0.06)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading" in err
    assert "4/4" in err
    assert "indexing: 100%" in err
    assert err.count("\n") == 2


def test_a_short_step_says_nothing_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    show = ShownProgress()
    for what in ("indexing", "asking"):
        for done in range(4):
            show(what, done, 3)
    with progress_bar("reading", 2) as step:
        step()
    assert capsys.readouterr() == ("", "")
