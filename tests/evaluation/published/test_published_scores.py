"""The published tables, copied without slips: their means are those of their parts."""

from __future__ import annotations

import numpy as np
import pytest

from regionsearch.evaluation.published import published_scores as published

ROUNDING = 0.11
"""Each figure is rounded to 0.1, and so is their mean."""
AT_ODDS = {"SCaR": {"VIRTUE-2B"}, "MMEB": {"SigLIP so400m", "UniME-7B", "VIRTUE-7B +SCaR"}}
"""Rows whose mean is not that of their parts where they were published. They are shown as they are."""


def test_scar_overall_is_the_mean_of_the_five_subsets() -> None:
    at_odds = {
        model
        for model, (*subsets, overall) in published.SCAR.items()
        if np.mean(subsets) != pytest.approx(overall, abs=ROUNDING)
    }
    assert at_odds == AT_ODDS["SCaR"]


def test_mmeb_means_agree_with_each_other() -> None:
    at_odds = set()
    for model, row in published.MMEB.items():
        scores = dict(zip(published.MMEB_COLUMNS, row, strict=True))
        by_kind = (10 * scores["CLS"] + 10 * scores["VQA"] + 12 * scores["RET"] + 4 * scores["VG"]) / 36
        by_domain = (20 * scores["IND"] + 16 * scores["OOD"]) / 36
        if (by_kind, by_domain) != pytest.approx((scores["all"], scores["all"]), abs=ROUNDING):
            at_odds.add(model)
    assert at_odds == AT_ODDS["MMEB"]


def test_abc_means_over_its_tasks_are_those_that_it_published() -> None:
    classes = list(published.MMEB_TASKS_ABC.values())[:9]
    questions = list(published.MMEB_TASKS_ABC.values())[9:]
    assert np.mean(classes) == pytest.approx(60.0, abs=ROUNDING)
    assert np.mean(questions) == pytest.approx(31.0, abs=ROUNDING)
