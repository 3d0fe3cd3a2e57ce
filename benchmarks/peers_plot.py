"""Recall against the time of a query, a curve an engine and kind of index, as an SVG file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLOURS = {
    "regionsearch": "#c2261a",
    "chroma": "#1b6ca8",
    "lancedb": "#3f7d3a",
    "milvus-lite": "#7a4a9e",
    "usearch": "#8a6d1a",
    "hnswlib": "#555555",
}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 420, 60, 20, 190, 46
LEAST_RECALL = 0.8
DASHES = ("none", "6 3", "2 3", "8 3 2 3")
"""Of an engine's kinds of index, in their order."""


def drawing(report: Mapping[str, Any]) -> str:
    """From the report of `benchmarks.peers`; points with a recall below 0.8 are left out."""
    shown = [each for each in report["sweep"] if each["recall"] >= LEAST_RECALL]
    times = [each["p50_ms"] for each in shown] or [1.0]
    low, high = 10 ** math.floor(math.log10(min(times))), 10 ** math.ceil(math.log10(max(times)))

    def at(each: Mapping[str, Any]) -> tuple[float, float]:
        share = math.log(each["p50_ms"] / low) / math.log(high / low)
        x = LEFT + share * (WIDTH - LEFT - RIGHT)
        return x, _y(each["recall"])

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_axes(low, high),
    ]
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for each in shown:
        # Ours are points: every wish is an index of its own.
        curves.setdefault((each["engine"], each["variant"]), []).append(at(each))
    seen: dict[str, int] = {}
    for place, ((engine, variant), points) in enumerate(curves.items()):
        number = seen.setdefault(engine, 0)
        seen[engine] += 1
        parts += _curve(engine, variant, points, DASHES[number % len(DASHES)], TOP + 14 + 17 * place)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _y(recall: float) -> float:
    return TOP + (1 - recall) / (1 - LEAST_RECALL) * (HEIGHT - TOP - BOTTOM)


def _axes(low: float, high: float) -> list[str]:
    parts = []
    for recall in (0.8, 0.85, 0.9, 0.95, 0.99, 1.0):
        y = _y(recall)
        dark = "#999" if recall in (0.95, 0.99) else "#e4e4e4"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{dark}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{recall:g}</text>')
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        share = (power - math.log10(low)) / math.log10(high / low)
        x = LEFT + share * (WIDTH - LEFT - RIGHT)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e4e4e4"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{10**power:g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">milliseconds a query, p50 of the whole '
        "call (logarithmic); recall at 10 upwards</text>"
    )
    return parts


def _curve(
    engine: str, variant: str, points: Sequence[tuple[float, float]], dashes: str, label: float
) -> list[str]:
    colour = COLOURS[engine]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-dasharray="{dashes}"/>']
    radius = 5 if engine == "regionsearch" else 2.5
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>' for x, y in points]
    x = WIDTH - RIGHT + 12
    parts.append(
        f'<line x1="{x}" x2="{x + 20}" y1="{label - 4}" y2="{label - 4}" stroke="{colour}" '
        f'stroke-width="2" stroke-dasharray="{dashes}"/>'
    )
    parts.append(f'<text x="{x + 26}" y="{label}" fill="{colour}">{escape(f"{engine} {variant}")}</text>')
    return parts
