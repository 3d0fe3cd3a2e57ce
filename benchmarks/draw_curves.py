"""Draws the curves of a fit's report: mean average precision against the weight of each part.

    python -m regionsearch.evaluation.fit_scoring --folder … --out scoring.json --report report.json
    python -m benchmarks.draw_curves report.json --out docs/images/weight-curves.svg

One panel a part, one line a kind of question; all panels share the vertical axis, which does not begin at 0.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

Curve = Sequence[Mapping[str, float]]
"""Points of one panel, two at least, by ascending `weight`: that and the figure of each kind of question."""

COLOURS = ("#1b6ca8", "#c2571a", "#3f7d3a", "#7a4a9e", "#555555")
"""Dark enough to be read on white; told apart by their order and their labels too."""
PANEL_WIDTH, PANEL_HEIGHT = 250, 230
LEFT, TOP, GAP, BOTTOM, LABELS = 48, 34, 30, 44, 140
NUMBER_WIDTH = 30
STEP = 0.05
"""Between two lines of the vertical axis."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the curves of a fit's report.")
    parser.add_argument("report", type=Path, help="what fit_scoring --report wrote")
    parser.add_argument("--out", type=Path, required=True, help="SVG to write")
    options = parser.parse_args(arguments)
    curves = json.loads(options.report.read_text(encoding="utf-8"))["curves"]
    options.out.write_text(drawing(curves), encoding="utf-8")


def drawing(curves: Mapping[str, Curve]) -> str:
    """An SVG file with one panel for each part, at least one with two points or more."""
    kinds = sorted({kind for points in curves.values() for point in points for kind in point} - {"weight"})
    figures = [point[kind] for points in curves.values() for point in points for kind in kinds]
    low = math.floor(min(figures) / STEP) * STEP
    high = math.ceil(max(figures) / STEP) * STEP
    width = LEFT + len(curves) * (PANEL_WIDTH + GAP) + LABELS
    height = TOP + PANEL_HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, (part, points) in enumerate(curves.items()):
        parts += _panel(part, points, kinds, LEFT + number * (PANEL_WIDTH + GAP), (low, high), number == 0)
    right = LEFT + len(curves) * (PANEL_WIDTH + GAP)
    parts += _legend(kinds, right)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    part: str, points: Curve, kinds: Sequence[str], left: float, limits: tuple[float, float], labelled: bool
) -> list[str]:
    low, high = limits
    weights = [point["weight"] for point in points]

    def x(weight: float) -> float:
        return left + PANEL_WIDTH * (weight - weights[0]) / (weights[-1] - weights[0])

    def y(figure: float) -> float:
        return TOP + PANEL_HEIGHT * (high - figure) / (high - low)

    parts = [
        f'<text x="{left}" y="{TOP - 14}" font-weight="bold">mAP against the weight {escape(part)}</text>'
    ]
    for step in range(round((high - low) / STEP) + 1):
        figure = low + step * STEP
        parts.append(
            f'<line x1="{left}" x2="{left + PANEL_WIDTH}" y1="{y(figure):.1f}" y2="{y(figure):.1f}" '
            'stroke="#dddddd"/>'
        )
        if labelled:
            parts.append(
                f'<text x="{left - 6}" y="{y(figure) + 4:.1f}" text-anchor="end">{figure:.2f}</text>'
            )
    bottom = TOP + PANEL_HEIGHT
    written = -math.inf
    for weight in weights:
        # A number that would run into the one before is left out; its point stands all the same.
        if x(weight) - written >= NUMBER_WIDTH:
            written = x(weight)
            parts.append(
                f'<text x="{written:.1f}" y="{bottom + 18}" text-anchor="middle" font-size="10">'
                f"{weight:g}</text>"
            )
    for kind, colour in zip(kinds, COLOURS, strict=False):
        line = " ".join(f"{x(point['weight']):.1f},{y(point[kind]):.1f}" for point in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(point["weight"]):.1f}" cy="{y(point[kind]):.1f}" r="2.5" fill="{colour}"/>'
            for point in points
        ]
    return parts


def _legend(kinds: Sequence[str], left: float) -> list[str]:
    parts = []
    for number, (kind, colour) in enumerate(zip(kinds, COLOURS, strict=False)):
        y = TOP + 10 + 20 * number
        parts.append(
            f'<line x1="{left}" x2="{left + 18}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(f'<text x="{left + 24}" y="{y + 4}">{escape(kind)}</text>')
    return parts


if __name__ == "__main__":
    main()
