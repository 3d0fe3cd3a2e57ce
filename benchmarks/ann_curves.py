"""Draws what `regionsearch bench ann --curves --json` reported.

    regionsearch bench ann --vectors 1000000 --dim 384 --curves --json > hard-1m.json
    python -m benchmarks.ann_curves hard-100k.json hard-1m.json --out docs/images

Three drawings: recall against latency (of the largest report), latency at recall 0.95 against the number of
vectors (all reports), recall against the share of rows that is allowed (of the largest report). Latencies are
medians of the thread's processor time, since other work on a machine adds to the time that passes.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

Points = Sequence[tuple[float, float]]

COLOURS = ("#1b6ca8", "#c2571a", "#3f7d3a", "#7a4a9e", "#555555", "#a8851b")
"""Dark enough to be read on white; told apart by their order and their labels too."""
WIDTH, HEIGHT = 520, 320
LEFT, TOP, BOTTOM, LEGEND = 62, 40, 52, 150
RECALL = 0.95
"""At which latencies of several sizes are compared."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the curves of kinds of index.")
    parser.add_argument("reports", type=Path, nargs="+", help="what bench ann --curves --json printed")
    parser.add_argument("--out", type=Path, required=True, help="folder for the SVG files")
    parser.add_argument("--prefix", default="ann", help="of their names (default: %(default)s)")
    options = parser.parse_args(arguments)
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in options.reports]
    for name, drawing in drawings(reports).items():
        (options.out / f"{options.prefix}-{name}.svg").write_text(drawing, encoding="utf-8")


def drawings(reports: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """SVG files by name, of one report or more about the same kind of vectors."""
    largest = max(reports, key=lambda report: int(report["vectors"]))
    what = f"{largest['vectors']:,} {largest['vectors_from']} vectors of {largest['dim']} dimensions"
    curves = {kind["name"]: kind["curve"] for kind in largest["kinds"] if "curve" in kind}
    shares = {kind["name"]: kind["selectivity"] for kind in largest["kinds"] if "selectivity" in kind}
    sizes: dict[str, list[tuple[float, float]]] = {}
    for report in sorted(reports, key=lambda report: int(report["vectors"])):
        for kind in report["kinds"]:
            if (latency := latency_at_recall(kind, RECALL)) is not None:
                sizes.setdefault(kind["name"], []).append((report["vectors"], latency))
    return {
        "recall-latency": drawn(
            Chart(f"Recall against latency: {what}", "median processor time, ms", "recall at 10"),
            {
                name: [(point["cpu_p50_ms"], point["recall_at_10"]) for point in curve]
                for name, curve in curves.items()
            },
        ),
        "latency-size": drawn(
            Chart(f"Latency at recall {RECALL} against size", "vectors", "median processor time, ms"), sizes
        ),
        "recall-selectivity": drawn(
            Chart(f"Recall with a filter: {what}", "share of rows allowed", "recall at 10"),
            {
                name: [(point["allowed"], point["recall_at_10"]) for point in reversed(points)]
                for name, points in shares.items()
            },
        ),
    }


def latency_at_recall(kind: Mapping[str, Any], recall: float) -> float | None:
    """Milliseconds, between the two points of a kind's curve around this recall; of a kind without a curve
    its own, when it finds as much. None when it never does."""
    curve = kind.get("curve") or [kind]
    before: Mapping[str, float] | None = None
    for point in curve:
        if point["recall_at_10"] >= recall:
            if before is None:
                return float(point["cpu_p50_ms"])
            along = (recall - before["recall_at_10"]) / (point["recall_at_10"] - before["recall_at_10"])
            return float(before["cpu_p50_ms"] + along * (point["cpu_p50_ms"] - before["cpu_p50_ms"]))
        before = point
    return None


@dataclass(frozen=True, slots=True)
class Chart:
    """The horizontal axis is logarithmic, the vertical one is not."""

    title: str
    x_label: str
    y_label: str


def drawn(chart: Chart, lines: Mapping[str, Points]) -> str:
    """An SVG file with a line a name; each has a point at least, and x above 0."""
    points = [point for line in lines.values() for point in line]
    x_low, x_high = (math.log10(edge(x for x, _ in points)) for edge in (min, max))
    x_high = max(x_high, x_low + 0.1)
    step = _step(max(y for _, y in points) - min(y for _, y in points))
    y_low = math.floor(min(y for _, y in points) / step) * step
    y_high = max(math.ceil(max(y for _, y in points) / step) * step, y_low + step)

    def x(value: float) -> float:
        return LEFT + WIDTH * (math.log10(value) - x_low) / (x_high - x_low)

    def y(value: float) -> float:
        return TOP + HEIGHT * (y_high - value) / (y_high - y_low)

    width, height = LEFT + WIDTH + LEGEND, TOP + HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="{TOP - 16}" font-weight="bold">{escape(chart.title)}</text>',
        f'<text x="{LEFT + WIDTH / 2}" y="{height - 10}" text-anchor="middle">{escape(chart.x_label)}</text>',
        f'<text transform="translate(14 {TOP + HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y_label)}</text>",
    ]
    for number in range(round((y_high - y_low) / step) + 1):
        value = y_low + number * step
        parts.append(
            f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            'stroke="#dddddd"/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    for value in _ticks(10**x_low, 10**x_high):
        parts.append(
            f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP}" y2="{TOP + HEIGHT}" stroke="#eeeeee"/>'
            f'<text x="{x(value):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{value:,.10g}</text>'
        )
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(each[0]):.1f},{y(each[1]):.1f}" for each in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(each[0]):.1f}" cy="{y(each[1]):.1f}" r="3" fill="{colour}"/>' for each in line
        ]
        level = TOP + 10 + 20 * number
        right = LEFT + WIDTH + 14
        parts.append(
            f'<line x1="{right}" x2="{right + 18}" y1="{level}" y2="{level}" stroke="{colour}" '
            f'stroke-width="2"/><text x="{right + 24}" y="{level + 4}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten, some five of which cover the span."""
    rough = max(span, 1e-3) / 5
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= rough)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, or the powers alone where these are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    times = (1, 2, 5) if len(powers) <= 4 else (1,)
    ticks = [time * 10.0**power for power in powers for time in times]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


if __name__ == "__main__":
    main()
