"""Reports on published benchmarks as aligned tables, in percent, ours above what others published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regionsearch.evaluation.report_tables import aligned

NOT_MEASURED_HERE = "published by their authors, not measured here"
ASSUMED = "what was assumed"
NAMED_FEWER = 6


def percent(value: float | None, interval: Sequence[float] | None = None) -> str:
    """`51.2 (47.0–56.0)`; a dash where it is undefined."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + (f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})" if interval else "")


def scar_table(report: Mapping[str, Any]) -> str:
    """The report of `eval scar`."""
    names = [*report["subsets"], "overall"]
    rows = [["hit@1, percent", *names]]
    for column in report["overall"]:
        scores = [report["subsets"][name]["accuracy"][column] for name in report["subsets"]]
        scores.append(report["overall"][column])
        rows.append([column.replace("_", " "), *(percent(one["hit1"], one["ci95"]) for one in scores)])
    chance = [percent(subset["chance"]) for subset in report["subsets"].values()]
    rows.append(["chance", *chance, ""])
    rows.append(["queries", *(str(subset["queries"]) for subset in report["subsets"].values()), ""])
    lines = [*_head(report), *("  " + line for line in aligned(rows))]
    for name, gain in report["gain"].items():
        lines.append(f"  {name.replace('_', ' ')}: {percent(gain['hit1'], gain['ci95'])}")
    for name, subset in report["subsets"].items():
        if beyond := subset["boxes"]["beyond_picture"]:
            lines.append(f"  {name}: {beyond} of {subset['queries']} boxes leave their picture")
    return "\n".join([*lines, *_published(report), f"{ASSUMED}, and how far boxes reach in pictures: --json"])


def mmeb_table(report: Mapping[str, Any]) -> str:
    """The report of `eval mmeb`."""
    abc = report["published"]["tasks"]["ABC"]
    rows = [["task", "kind", "", "queries", "candidates", "hit@1, percent", "ABC, published"]]
    for name, task in report["tasks"].items():
        rows.append(
            [
                name,
                task["kind"],
                task["domain"],
                str(task["queries"]),
                str(task["candidates"]),
                percent(task["hit1"], task["ci95"]),
                f"{abc[name]:.1f}" if name in abc else "",
            ]
        )
    lines = [*_head(report), *("  " + line for line in aligned(rows)), ""]
    means = report["means"]
    ours = [["mean over tasks", *means], ["this run", *(percent(one["hit1"]) for one in means.values())]]
    ours.append(["tasks judged", *(f"{one['tasks']} of {one['of']}" for one in means.values())])
    lines += ["  " + line for line in aligned(ours)]
    return "\n".join([*lines, *_published(report), f"{ASSUMED}: --json"])


def ctrlbench_table(report: Mapping[str, Any]) -> str:
    """The report of `eval ctrlbench`."""
    rows = [["percent", "R@1", "R@5", "R@10"], ["this run", *_recalls(report)]]
    about = f"{report['queries']} queries on {report['images']} pictures, {report['candidates']} captions"
    lines = [*_head(report), about, *("  " + line for line in aligned(rows))]
    return "\n".join([*lines, *_published(report), f"{ASSUMED}: --json"])


def captions_table(report: Mapping[str, Any]) -> str:
    """The report of `eval flickr30k` and `eval coco --karpathy`."""
    rows = [["percent", "queries", "candidates", "R@1", "R@5", "R@10"]]
    for key, title in (("i2t", "picture to caption"), ("t2i", "caption to picture")):
        one = report[key]
        rows.append([title, str(one["queries"]), str(one["candidates"]), *_recalls(one)])
    lines = [*_head(report), *("  " + line for line in aligned(rows))]
    if report["split"] != "test":
        lines.append(f"the split {report['split']}: published scores are of the split test")
    return "\n".join([*lines, *_published(report), f"{ASSUMED}: --json"])


def _recalls(one: Mapping[str, Any]) -> list[str]:
    return [percent(one[f"r{k}"], one[f"r{k}_ci95"]) for k in (1, 5, 10)]


def _head(report: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{report['benchmark']}: {report['embedder']['name']}, wording {report['wording']}; 95% intervals in "
        "brackets"
    ]
    if report["limit"] is not None:
        lines.append(f"limited to {report['limit']} of each subset: not comparable with published scores")
    lost = report["left_out"]
    if lost["images"]:
        lines.append(
            f"left out, because {lost['images']} pictures cannot be read (first: "
            f"{', '.join(lost['first'])}): {lost['queries']} queries, {lost['candidates']} candidates"
        )
    return lines


def _published(report: Mapping[str, Any]) -> list[str]:
    published = report["published"]
    columns = published["columns"]
    if not columns:
        return ["", "no published scores: these are not the published subsets"]
    rows = [["", *columns]]
    for model, scores in published["rows"].items():
        values = [scores[column] for column in columns]
        rows.append([model, *("–" if value is None else f"{value:g}" for value in values)])
    lines = ["", f"{NOT_MEASURED_HERE}, percent", *("  " + line for line in aligned(rows))]
    if fewer := published["fewer"]:
        parts = [f"{name} {count['here']:,} of {count['published']:,}" for name, count in fewer.items()]
        more = f", and {len(parts) - NAMED_FEWER} more" if len(parts) > NAMED_FEWER else ""
        lines.append(f"not comparable, this run is over fewer: {', '.join(parts[:NAMED_FEWER])}{more}")
    return lines
