"""The time of one query here and in other vector indexes, on the same vectors, at the same recall.

    python -m venv peers && peers/bin/pip install -r benchmarks/peers-requirements.txt
    python -m benchmarks.peers --python peers/bin/python --folder FOLDER --json peers.json --plot peers.svg

Every engine runs in a process of its own, asked one query at a time, one thread each where that can be set.
For each target of recall the cheapest of its settings that reaches it on the first half of the queries is
taken; then all are asked the second half, a few queries each in turn, so that a load on the machine meets
them alike. docs/peers.md has the sweep and the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.own_program import WISHES
from benchmarks.peer_programs import PEERS, K
from benchmarks.peers_plot import drawing
from benchmarks.reports import hand_out, machine
from regionsearch.evaluation.vector_generator import hard_vectors, queries, rows

TARGETS = (0.95, 0.99)
IN_TURN = 20
"""Queries that an engine is asked before it is the next one's turn."""
GRAPH = [{"ef": ef} for ef in (10, 20, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960)]
LISTS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
SWEEP: Mapping[str, Mapping[str, Sequence[Mapping[str, int]]]] = {
    "hnswlib": {"hnsw": GRAPH},
    "usearch": {"hnsw": GRAPH},
    "chroma": {"hnsw": GRAPH},
    "lancedb": {
        "IVF_FLAT": [{"nprobes": lists} for lists in LISTS],
        "IVF_SQ": [{"nprobes": lists, "refine": 2} for lists in LISTS],
        "IVF_HNSW_SQ": [{"nprobes": 4, "refine": 2, **each} for each in GRAPH],
    },
    "milvus-lite": {"HNSW": GRAPH, "IVF_FLAT": [{"nprobe": lists} for lists in LISTS]},
    "regionsearch": {variant: [{}] for variant in WISHES},
}
"""By engine and kind of index, what is tried. RegionSearch has no setting of a search: its segments are
tuned when they are sealed, for the recall that the collection wishes for."""
DURABLE = ("chroma", "lancedb", "milvus-lite")
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "LANCE_CPU_THREADS",
    "TOKIO_WORKER_THREADS",
)
"""Variables of the processes' environment that are set to 1, building included. (lancedb 0.40.0 waited for
ever when LANCE_IO_THREADS was 1 too.)"""


class EngineError(Exception):
    """What an engine's process said instead of an answer."""


class Engine:
    """One process."""

    def __init__(self, name: str, python: str, folder: Path) -> None:
        here = Path(__file__).resolve().parent
        program = [python, str(here / "peer_programs.py")]
        if name == "regionsearch":
            program = [sys.executable, "-m", "benchmarks.own_program"]
        self.name = name
        self._log = (folder / f"{name}.log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [*program, name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=here.parent,
            env={**os.environ, **dict.fromkeys(ONE_THREAD, "1")},
        )

    def asked(self, **said: Any) -> dict[str, Any]:
        """Raises EngineError."""
        pipes = self._process.stdin, self._process.stdout
        if pipes[0] is None or pipes[1] is None:
            raise AssertionError("the process was started with pipes")
        try:
            pipes[0].write(json.dumps(said) + "\n")
            pipes[0].flush()
            line = pipes[1].readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EngineError(f"its process ended with {self._process.wait()} ({self._log.name})")
        reply = dict(json.loads(line))
        if "error" in reply:
            raise EngineError(reply["error"])
        return reply

    def end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._log.close()


@dataclass(frozen=True, eq=False)
class Tried:
    """A setting of an engine: on the first half of the queries its recall at 10, and the medians of the time
    by the clock and of the processor time, milliseconds."""

    engine: str
    variant: str
    setting: Mapping[str, int]
    recall: float
    p50_ms: float
    cpu_ms: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--python", required=True, help="the Python that has the peers' packages")
    parser.add_argument(
        "--folder", type=Path, required=True, help="for vectors and indexes; what is there is used again"
    )
    parser.add_argument("--vectors", type=int, default=100_000, metavar="N", help="default: 100000")
    parser.add_argument("--dim", type=int, default=384, metavar="D", help="default: 384")
    parser.add_argument("--queries", type=int, default=1_000, metavar="N", help="half of them to tune with")
    parser.add_argument("--engines", nargs="*", choices=(*PEERS, "regionsearch"), help="default: all")
    parser.add_argument(
        "--only-built", action="store_true", help="leave out indexes that an earlier run did not finish"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes (default: stdout)")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw recall against time")
    said = parser.parse_args(arguments)
    said.folder.mkdir(parents=True, exist_ok=True)
    truth = prepare(said.folder, said.vectors, said.dim, said.queries)
    names = said.engines or [*PEERS, "regionsearch"]
    engines, failed, built = started(names, said.python, said.folder, only_built=said.only_built)
    tried = swept(engines, truth, failed)
    report = {
        "machine": machine(),
        "vectors": said.vectors,
        "dimension": said.dim,
        "queries": said.queries // 2,
        "built": built,
        "failed": failed,
        "sweep": [vars(each) for each in tried],
        "at": {str(target): compared(engines, tried, target, truth) for target in TARGETS},
    }
    for engine in engines.values():
        engine.end()
    if said.plot is not None:
        said.plot.write_text(drawing(report), encoding="utf-8")
    hand_out(report, table_of(report), said.json)


def prepare(folder: Path, count: int, dimension: int, asked: int) -> np.ndarray:
    """Writes vectors.npy and queries.npy; returns (asked, K) int64, the exact nearest rows of each query."""
    named = folder / "of.json"
    of = {"vectors": count, "dimension": dimension, "queries": asked, "generator": "hard"}
    if not named.is_file():
        made = hard_vectors(dimension)
        np.save(folder / "vectors.npy", np.concatenate(list(rows(made, count))))
        np.save(folder / "queries.npy", queries(made, asked))
        named.write_text(json.dumps(of), encoding="utf-8")
    if json.loads(named.read_text("utf-8")) != of:
        raise SystemExit(f"{folder} holds other vectors: {named.read_text('utf-8')}")
    vectors, wanted = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    nearest = []
    for first in range(0, asked, 100):
        similarities = wanted[first : first + 100] @ vectors.T
        nearest.append(np.argpartition(-similarities, K, axis=1)[:, :K])
    return np.concatenate(nearest)


def started(
    names: Sequence[str], python: str, folder: Path, *, only_built: bool
) -> tuple[dict[str, Engine], dict[str, str], dict[str, Any]]:
    """The engines whose indexes are there now; why others are not; and what building took."""
    engines: dict[str, Engine] = {}
    failed: dict[str, str] = {}
    built: dict[str, Any] = {}
    for name in names:
        engine = Engine(name, python, folder)
        try:
            built[name] = engine.asked(do="build", only_built=only_built)
        except EngineError as error:
            failed[name] = str(error)
            continue
        for variant, found in built[name]["built"].items():
            if "error" in found:
                failed[f"{name} {variant}"] = found["error"]
        print(f"{name}: {built[name]}", file=sys.stderr, flush=True)
        engines[name] = engine
    return engines, failed, built


def swept(engines: Mapping[str, Engine], truth: np.ndarray, failed: dict[str, str]) -> list[Tried]:
    """Every setting on the first half of the queries. A kind that fails is left out, and said to."""
    tried = []
    half = len(truth) // 2
    for name, engine in engines.items():
        for variant, settings in SWEEP[name].items():
            if f"{name} {variant}" in failed:
                continue
            for setting in settings:
                try:
                    reply = engine.asked(do="ask", variant=variant, setting=setting, first=0, last=half)
                except EngineError as error:
                    failed[f"{name} {variant}"] = str(error)
                    break
                recall = recall_of(reply["rows"], truth[:half])
                times = float(np.median(reply["ms"])), float(np.median(reply["cpu_ms"]))
                tried.append(Tried(name, variant, setting, recall, *times))
                print(tried[-1], file=sys.stderr, flush=True)
                if recall > 0.998:
                    break
    return tried


def compared(
    engines: Mapping[str, Engine], tried: Sequence[Tried], target: float, truth: np.ndarray
) -> dict[str, Any]:
    """Of each engine the setting that reached the target in the least processor time, which a load on the
    machine disturbs less than the clock; asked the second half of the queries."""
    best: dict[str, Tried] = {}
    for each in tried:
        if each.recall >= target and (each.engine not in best or each.cpu_ms < best[each.engine].cpu_ms):
            best[each.engine] = each
    half = len(truth) // 2
    times: dict[str, list[float]] = {name: [] for name in best}
    processor: dict[str, list[float]] = {name: [] for name in best}
    found: dict[str, list[list[int]]] = {name: [] for name in best}
    for first in range(half, len(truth), IN_TURN):
        last = min(first + IN_TURN, len(truth))
        for name, each in best.items():
            reply = engines[name].asked(
                do="ask", variant=each.variant, setting=each.setting, first=first, last=last
            )
            times[name] += reply["ms"]
            processor[name] += reply["cpu_ms"]
            found[name] += reply["rows"]
    return {
        name: {
            "variant": each.variant,
            "setting": dict(each.setting),
            "recall": recall_of(found[name], truth[half:]),
            "p50_ms": float(np.median(times[name])),
            "p90_ms": float(np.percentile(times[name], 90)),
            "p99_ms": float(np.percentile(times[name], 99)),
            "cpu_ms": float(np.median(processor[name])),
        }
        for name, each in best.items()
    }


def recall_of(found: Sequence[Sequence[int]], truth: np.ndarray) -> float:
    hits = [len(set(own) & set(true)) for own, true in zip(found, truth.tolist(), strict=True)]
    return sum(hits) / truth.size


def table_of(report: Mapping[str, Any]) -> str:
    lines = [
        "| recall, at least | engine | index | setting | recall | p50 ms | p90 ms | p99 ms | processor ms "
        "| p50 / ours | processor / ours |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for target, engines in report["at"].items():
        ours = engines.get("regionsearch", {"p50_ms": float("nan"), "cpu_ms": float("nan")})
        for name, each in sorted(engines.items(), key=lambda item: item[1]["p50_ms"]):
            setting = ", ".join(f"{key} {value}" for key, value in each["setting"].items())
            durable = " (durable)" if name in (*DURABLE, "regionsearch") else ""
            lines.append(
                f"| {target} | {name}{durable} | {each['variant']} | {setting} | {each['recall']:.4f} | "
                f"{each['p50_ms']:.3f} | {each['p90_ms']:.3f} | {each['p99_ms']:.3f} | "
                f"{each['cpu_ms']:.3f} | {each['p50_ms'] / ours['p50_ms']:.2f} | "
                f"{each['cpu_ms'] / ours['cpu_ms']:.2f} |"
            )
    lines += [f"failed: {name}: {why}" for name, why in report["failed"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
