"""`regionsearch bench ann`: kinds of index compared on generated vectors."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionsearch.cli.arguments import finite_number, whole_number
from regionsearch.errors import InvalidRequest

if TYPE_CHECKING:
    from regionsearch.evaluation.vector_generator import VectorSet

KINDS = ("flat-sq8", "ivf-sq8", "ivf-sq6", "ivf-rabitq", "ivf-rabitq-sq8", "hnsw16-sq8", "hnsw32-sq8")
GRAPH_VECTORS = 200_000
"""Above this a graph is built only when it is asked for by name: a million take an hour on one thread."""


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "ann",
        help="recall, latency and size of kinds of index",
        description=(
            "Builds kinds of index over generated vectors and asks them one question after the other on one "
            "thread. Recall is against exact search on the original vectors; the last candidates are scored "
            "exactly, as a collection does."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--vectors", metavar="N", type=whole_number, required=True, help="how many")
    parser.add_argument("--dim", metavar="D", type=whole_number, required=True, help="their dimension")
    parser.add_argument(
        "--vectors-from",
        metavar="SET",
        default="hard",
        help="hard, easy, or an .npy file of real vectors, repeated with noise (default: %(default)s)",
    )
    parser.add_argument(
        "--kinds",
        metavar="NAME,...",
        help=f"of {', '.join(KINDS)} (default: all, but graphs only up to {GRAPH_VECTORS:,} vectors)",
    )
    parser.add_argument(
        "--wish",
        choices=("memory", "speed"),
        default="speed",
        help="what the kind that the engine chooses should spare (default: %(default)s)",
    )
    parser.add_argument(
        "--recall-target", metavar="R", type=finite_number, default=0.95, help="default: %(default)s"
    )
    parser.add_argument(
        "--queries", metavar="Q", type=whole_number, default=300, help="asked (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", metavar="T", type=whole_number, default=1, help="to build with (default: %(default)s)"
    )
    parser.add_argument(
        "--curves", action="store_true", help="also recall against latency, and against the share allowed"
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    for name, least in (("vectors", 1), ("dim", 1), ("queries", 1), ("threads", 1)):
        if getattr(arguments, name) < least:
            raise InvalidRequest(f"--{name} is {getattr(arguments, name)}; it must be {least} or more")
    if not 0.5 <= arguments.recall_target <= 0.999:
        raise InvalidRequest(f"--recall-target is {arguments.recall_target}, outside 0.5 to 0.999")
    report = _measured(arguments)
    print(json.dumps(report, indent=2, allow_nan=False) if arguments.json else table(report))
    return 0


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    from regionsearch.collection.records import IndexWish
    from regionsearch.evaluation.ann_benchmark import (
        SHARES_ALLOWED,
        Questions,
        StoredVectors,
        kinds_to_compare,
        measured,
    )

    vectors = _vector_set(arguments.vectors_from, arguments.dim)
    wish = IndexWish(arguments.recall_target, arguments.wish)
    kinds = kinds_to_compare(_names(arguments), arguments.vectors, wish, arguments.dim)
    reports = []
    with tempfile.TemporaryDirectory(prefix="regionsearch-bench-") as folder:
        _say(f"drawing {arguments.vectors:,} vectors")
        stored = StoredVectors.generated(Path(folder) / "vectors.npy", vectors, arguments.vectors)
        _say("finding the exact answers")
        shares = SHARES_ALLOWED if arguments.curves else ()
        questions = Questions.of(vectors, stored, arguments.queries, shares=shares)
        for kind in kinds:
            _say(f"building and asking {kind.name}")
            path = Path(folder) / "index.faiss"
            reports.append(
                measured(
                    kind,
                    stored,
                    questions,
                    path,
                    recall_target=arguments.recall_target,
                    threads=arguments.threads,
                    curves=arguments.curves,
                )
            )
            path.unlink()
    return {
        "vectors": arguments.vectors,
        "dim": arguments.dim,
        "vectors_from": vectors.name,
        "queries": arguments.queries,
        "build_threads": arguments.threads,
        "recall_target": arguments.recall_target,
        "chosen": kinds_to_compare((), arguments.vectors, wish, arguments.dim)[0].name,
        "kinds": reports,
    }


def _names(arguments: argparse.Namespace) -> list[Any]:
    if arguments.kinds is None:
        small = arguments.vectors <= GRAPH_VECTORS
        return [name for name in KINDS if small or not name.startswith("hnsw")]
    names: list[Any] = arguments.kinds.split(",")
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise InvalidRequest(f"--kinds has {', '.join(map(repr, unknown))}; there are {', '.join(KINDS)}")
    return names


def _vector_set(named: str, dimension: int) -> VectorSet:
    import numpy as np

    from regionsearch.evaluation.vector_generator import easy_vectors, hard_vectors, repeated_with_noise

    if named in ("hard", "easy"):
        return hard_vectors(dimension) if named == "hard" else easy_vectors(dimension)
    try:
        origins = np.load(named, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            f"--vectors-from {named}: neither hard, easy nor an .npy file: {error}"
        ) from None
    vectors = repeated_with_noise(origins)
    if vectors.dimension != dimension:
        raise InvalidRequest(f"--dim is {dimension}; the vectors of {named} have {vectors.dimension}")
    return vectors


def table(report: Mapping[str, Any]) -> str:
    """The report as aligned lines."""
    lines = [
        f"{report['vectors']:,} {report['vectors_from']} vectors of {report['dim']} dimensions, "
        f"{report['queries']} questions",
        f"{'kind':<18}{'recall@10':>10}{'p50 ms':>9}{'p99 ms':>9}{'cpu p50':>9}{'build s':>9}{'bytes':>9}",
    ]
    for kind in report["kinds"]:
        lines.append(
            f"{kind['name']:<18}{kind['recall_at_10']:>10.4f}{kind['p50_ms']:>9.3f}{kind['p99_ms']:>9.3f}"
            f"{kind['cpu_p50_ms']:>9.3f}{kind['build_s']:>9.1f}{kind['bytes_per_vector']:>9.1f}"
            + ("  chosen" if kind["name"] == report["chosen"] else "")
        )
        for point in kind.get("selectivity", ()):
            lines.append(
                f"  {point['allowed']:<16.2%}{point['recall_at_10']:>10.4f}{point['p50_ms']:>9.3f}"
                f"{point['p99_ms']:>9.3f}{point['cpu_p50_ms']:>9.3f}"
                f"  full answers {point['full_answers']:.0%}"
            )
    return "\n".join(lines)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
