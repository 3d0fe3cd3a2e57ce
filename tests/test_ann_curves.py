"""The drawings of `benchmarks.ann_curves`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ann_curves


def kind(name: str, scale: float) -> dict[str, Any]:
    return {
        "name": name,
        "recall_at_10": 0.96,
        "cpu_p50_ms": 2 * scale,
        "curve": [
            {"recall_at_10": recall, "cpu_p50_ms": ms * scale} for recall, ms in ((0.8, 1), (0.9, 2), (1, 4))
        ],
        "selectivity": [{"allowed": 0.5, "recall_at_10": 0.97}, {"allowed": 0.001, "recall_at_10": 1.0}],
    }


def report(vectors: int, scale: float) -> dict[str, Any]:
    kinds = [kind("one-bit", scale), kind("one-byte", 2 * scale)]
    return {"vectors": vectors, "vectors_from": "hard", "dim": 8, "kinds": kinds}


def test_latency_is_read_off_between_the_points_around_a_recall() -> None:
    assert ann_curves.latency_at_recall(kind("x", 1), 0.95) == pytest.approx(3)
    assert ann_curves.latency_at_recall(kind("x", 1), 0.7) == 1
    assert ann_curves.latency_at_recall(kind("x", 1), 1.01) is None
    assert ann_curves.latency_at_recall({"recall_at_10": 1.0, "cpu_p50_ms": 5.0}, 0.95) == 5


def test_reports_become_three_drawings_with_a_line_for_each_kind(tmp_path: Path) -> None:
    paths = []
    for vectors, scale in ((1_000, 1.0), (100_000, 3.0)):
        paths.append(tmp_path / f"{vectors}.json")
        paths[-1].write_text(json.dumps(report(vectors, scale)))
    ann_curves.main([*map(str, paths), "--out", str(tmp_path)])
    drawn = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert drawn == ["ann-latency-size.svg", "ann-recall-latency.svg", "ann-recall-selectivity.svg"]
    points = {"ann-latency-size.svg": 2, "ann-recall-latency.svg": 3, "ann-recall-selectivity.svg": 2}
    for name in drawn:
        tree = ElementTree.parse(tmp_path / name)
        lines = tree.findall(".//{http://www.w3.org/2000/svg}polyline")
        assert [len(line.attrib["points"].split()) for line in lines] == [points[name]] * 2
        words = [text.text for text in tree.findall(".//{http://www.w3.org/2000/svg}text")]
        assert {"one-bit", "one-byte"} <= set(words)


def test_points_lie_where_their_figures_say(tmp_path: Path) -> None:
    chart = ann_curves.Chart("title", "x", "y")
    tree = ElementTree.fromstring(ann_curves.drawn(chart, {"line": [(1, 0.0), (10, 0.5), (100, 1.0)]}))
    circles = tree.findall(".//{http://www.w3.org/2000/svg}circle")
    places = [(float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in circles]
    assert places[1][0] - places[0][0] == pytest.approx(places[2][0] - places[1][0], abs=0.11)
    assert places[0][1] - places[1][1] == pytest.approx(places[1][1] - places[2][1], abs=0.11)
    assert places[0][1] > places[2][1]
