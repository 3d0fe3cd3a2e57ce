"""`regionsearch bench ann` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regionsearch.cli import main


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(["bench", "ann", *words]))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def report_of(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code, out, _ = asked(capsys, *words, "--queries", "40", "--json")
    assert code == 0
    report: dict[str, Any] = json.loads(out)
    return report


def test_every_kind_is_measured_and_the_chosen_one_is_among_them(capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(
        capsys, "--vectors", "12000", "--dim", "128", "--kinds", "flat-sq8,ivf-sq6", "--curves"
    )
    kinds = {kind["name"]: kind for kind in report["kinds"]}
    assert set(kinds) == {"flat-sq8", "ivf-sq6", "ivf-sq8"}
    assert report["chosen"] == "ivf-sq8"
    for kind in kinds.values():
        assert kind["recall_at_10"] >= 0.9
        assert 0 < kind["p50_ms"] <= kind["p99_ms"]
        assert kind["build_s"] > 0
        assert all(share["full_answers"] == 1 for share in kind["selectivity"])
    assert kinds["flat-sq8"]["bytes_per_vector"] == pytest.approx(128, abs=1)
    recalls = [point["recall_at_10"] for point in kinds["ivf-sq6"]["curve"]]
    assert recalls[0] < recalls[-1]


def test_real_vectors_are_repeated_with_noise(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "real.npy", np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32))
    words = ("--vectors", "500", "--vectors-from", str(tmp_path / "real.npy"), "--kinds", "flat-sq8")
    report = report_of(capsys, *words, "--dim", "16")
    assert report["vectors_from"] == "repeated"
    assert report["kinds"][0]["recall_at_10"] == 1
    code, _, err = asked(capsys, *words, "--dim", "17")
    assert code == 1
    assert "have 16" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--vectors-from", "nowhere.npy"), "nowhere.npy"),
        (("--kinds", "flat-sq8,ball-tree"), "'ball-tree'"),
        (("--recall-target", "1.5"), "1.5"),
        (("--vectors", "0"), "--vectors is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    code, out, err = asked(capsys, "--vectors", "100", "--dim", "8", *words)
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1
