"""The reports of `regionsearch eval` as aligned tables, each figure with its 95% interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BLOCKS = {
    "text_to_image": ("text to image", ("entity", "global", "joint"), ("map", "p1")),
    "text_to_image_held_out": (
        "text to image, classes held out of all fitting",
        ("entity", "global", "joint"),
        ("map", "p1"),
    ),
    "region_to_image": (
        "region to image",
        ("whole_image", "entity", "global", "joint"),
        ("map", "p1", "p5"),
    ),
    "composed": ("region and text", ("region_only", "text_only", "z_sum", "joint"), ("map", "p1")),
    "captions": ("captions", ("global", "joint"), ("r1", "r5", "r10")),
}
"""By key of the report: its title, its modes and their measures, in the order in which they are shown."""
MEASURES = {"map": "mAP", "p1": "P@1", "p5": "P@5", "r1": "R@1", "r5": "R@5", "r10": "R@10"}
BASELINES = {
    "text_to_image": "global",
    "text_to_image_held_out": "global",
    "region_to_image": "whole image",
    "composed": "the better of region and text alone",
}


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right, two spaces between."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def figure(value: float | None, interval: Sequence[float] | None = None) -> str:
    """`0.512 (0.470–0.560)`; a dash where it is undefined."""
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else "")


def coco_tables(report: Mapping[str, Any]) -> str:
    """The report of `eval coco`."""
    lines = [f"{report['images']} photos, {report['entities']} entities; 95% intervals in brackets"]
    lines += [f"left out: {one['source']}: {one['reason']}" for one in report["failed"]]
    for key, (title, modes, measures) in BLOCKS.items():
        if key not in report:
            continue
        block = report[key]
        lines += ["", f"{title}: {block['queries']} queries, chance {figure(block['chance'])}"]
        rows = [["", *(MEASURES[measure] for measure in measures)]]
        rows += [[mode.replace("_", " "), *_figures(block[mode], measures)] for mode in modes]
        lines += ["  " + line for line in aligned(rows)]
        if "ratio" in block:
            ratio = block["ratio"]
            lines.append(
                f"  joint over {BASELINES[key]}: mAP × {figure(ratio['map'], ratio['map_ci95'])}, "
                f"P@1 × {figure(ratio['p1'], ratio['p1_ci95'])}"
            )
        if "localized_p1" in block:
            found = figure(block["localized_p1"], block["localized_p1_ci95"])
            lines.append(f"  localized P@1 over {block['localized_classes']} classes: {found}")
        lines.append(f"  calibration error of the scores: {figure(block['ece'])}")
    return "\n".join(lines)


def segmentation_table(report: Mapping[str, Any]) -> str:
    """The report of `eval segmentation` on COCO annotations."""
    rows = [
        [f"box recall at {depth}", figure(value, report["recall_ci95"][depth])]
        for depth, value in report["recall"].items()
    ]
    rows += [
        ["mask recall at 32", figure(report["mask_recall_32"], report["mask_recall_32_ci95"])],
        ["mean best box IoU at 32", figure(report["mean_best_iou"], report["mean_best_iou_ci95"])],
        ["entities a photo", f"{report['entities_per_image']:.1f}"],
        *_times(report),
    ]
    head = (
        f"{report['images']} photos, {report['objects']} objects over 2% of theirs; 95% intervals in brackets"
    )
    left_out = [f"left out: {one['source']}: {one['reason']}" for one in report["failed"]]
    return "\n".join([head, *left_out, *("  " + line for line in aligned(rows))])


def partition_table(report: Mapping[str, Any]) -> str:
    """The report of `eval segmentation --bsds`."""
    best = report["felzenszwalb"]
    rows = [
        ["", "segmenter", "felzenszwalb, best scale"],
        [
            "covering",
            figure(report["covering"], report["covering_ci95"]),
            f"{figure(best['covering'])} (scale {best['covering_scale']})",
        ],
        [
            "boundary F",
            figure(report["boundary_f"], report["boundary_f_ci95"]),
            f"{figure(best['boundary_f'])} (scale {best['boundary_f_scale']})",
        ],
    ]
    head = f"{report['images']} photos; 95% intervals in brackets"
    return "\n".join([head, *("  " + line for line in [*aligned(rows), *aligned(_times(report))])])


def _figures(mode: Mapping[str, Any], measures: Sequence[str]) -> list[str]:
    return [
        figure(mode[measure], mode["ci95" if measure == "map" else f"{measure}_ci95"]) for measure in measures
    ]


def _times(report: Mapping[str, Any]) -> list[list[str]]:
    ours, baseline = report["seconds_per_image"], report["baseline_seconds_per_image"]
    return [
        ["seconds a photo", f"{ours:.3f}"],
        ["three-scale felzenszwalb at 256 px", f"{baseline:.3f} (ours × {ours / baseline:.2f})"],
    ]
