"""`regionsearch index`: brings a folder of photos into a collection."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from regionsearch.cli.arguments import add_runtime_options, runtime_from, whole_number
from regionsearch.cli.new_collection import embedding_spec
from regionsearch.cli.orderly_stop import OrderlyStop
from regionsearch.config import Limits
from regionsearch.errors import CollectionNotFound, InvalidRequest

WORTH_SEVERAL_PROCESSES = 24
"""Images from which on starting more processes costs less time than it saves."""


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "index",
        help="index a folder of photos",
        description="Cuts every photo below SOURCE into entities and stores their vectors in a "
        "collection. Photos that are unchanged since the last run are skipped; a photo that "
        "cannot be read is reported and the rest goes on. Can be stopped with Ctrl-C and run again.",
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder of photos, read recursively")
    parser.add_argument("--collection", required=True, metavar="NAME", help="made if it does not exist")
    parser.add_argument("--data", required=True, metavar="DIR", type=Path, help="the data directory")
    parser.add_argument(
        "--payloads",
        metavar="FILE",
        type=Path,
        help='payloads of the photos: lines {"image_id": "2024/a.jpg", "payload": {...}}, or one JSON object '
        "by id. Photos that are skipped are given theirs too",
    )
    parser.add_argument("--embedder", metavar="E", help="of a new collection (default: compact)")
    parser.add_argument("--segmenter", metavar="S", help="of a new collection (default: compact)")
    parser.add_argument(
        "--pixels",
        choices=("none", "thumbnail", "original"),
        help="what a new collection keeps of each photo (default: thumbnail, a JPEG of 320 px)",
    )
    parser.add_argument(
        "--entity-limit",
        metavar="N",
        type=whole_number,
        help="most entities for each photo of a new collection, 1 to 1024 (default: 32)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number,
        help="processes that compute (default: one for each core; for models of torch one for each GPU)",
    )
    parser.add_argument(
        "--max-megapixels",
        metavar="M",
        type=float,
        default=Limits().image_megapixels,
        help="larger photos are refused before they are decoded (default: %(default)s)",
    )
    parser.add_argument(
        "--max-image-bytes",
        metavar="N",
        type=whole_number,
        help="larger files are refused before they are read to the end (default: 268435456, 256 MiB)",
    )
    add_runtime_options(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from indexer import IndexJob
    from indexer.engines import PipelineSettings
    from indexer.payloads import read_payloads
    from indexer.progress import ProgressBar
    from indexer.sources import scan_folder
    from regionsearch.collection import DataDirectory
    from regionsearch.images import DEFAULT_MAX_BYTES
    from regionsearch.ingest import Failure
    from regionsearch.models.registry import ModelRegistry
    from regionsearch.search import SearchEngine

    max_bytes = DEFAULT_MAX_BYTES if arguments.max_image_bytes is None else arguments.max_image_bytes
    limits = replace(Limits(), image_megapixels=arguments.max_megapixels, image_bytes=max_bytes)
    if arguments.workers is not None and not 1 <= arguments.workers <= 256:
        raise InvalidRequest(f"--workers is {arguments.workers}; it must be between 1 and 256")
    payloads = {} if arguments.payloads is None else read_payloads(arguments.payloads)
    scan = scan_folder(arguments.source)
    with DataDirectory(arguments.data, "write") as directory:
        started = time.perf_counter()
        runtime = runtime_from(arguments)
        models = ModelRegistry(runtime=runtime)
        collection = _open_or_create(arguments, directory, models)
        spec = collection.spec
        load_seconds = time.perf_counter() - started
        settings = PipelineSettings(
            spec.embedder.name, spec.segmenter.name, spec.pixels, spec.entity_limit, limits, runtime
        )
        engine = _engine(settings, models, arguments.workers, len(scan.images))
        try:
            with OrderlyStop() as stop, ProgressBar(len(scan.images)) as progress:
                job = IndexJob(collection, engine, progress, limits, payloads)
                photos = {image.image_id for image in scan.images}
                job.report.payloads_unknown.extend(each for each in payloads if each not in photos)
                job.report.load_seconds = load_seconds
                job.report.failed.extend(Failure(name, reason) for name, reason in scan.unnamed)
                report = job.run(scan.images, stop.event)
        except KeyboardInterrupt:
            # Asked a second time: closing the engine would wait for the pass that runs, which may take
            # minutes. What is stored is on disk, and the engine's processes end with this one.
            print("regionsearch index: stopped", file=sys.stderr, flush=True)
            os._exit(130)
        finally:
            engine.close()
        if report.images:
            started = time.perf_counter()
            SearchEngine(models, limits).prepare(collection)
            report.steps["store"] += time.perf_counter() - started
            report.seconds += time.perf_counter() - started
    if arguments.json:
        json.dump(report.to_json(), sys.stdout)
        print()
    else:
        print(_summary(report, arguments.collection))
    return 128 + (stop.signal_number or 0) if report.stopped else 0


def _engine(settings: Any, models: Any, workers: int | None, images: int) -> Any:
    """The engine that suits the models: those on the CPU run in several processes, those of torch in
    one for each GPU; `workers` sets how many, by default as the images are worth it."""
    from indexer.engines import InProcess, Prefetching, Processes, device_processes
    from regionsearch.models.checkpoints import locate
    from regionsearch.models.connector.connector_folder import read_config
    from regionsearch.models.registry import PACKAGED, resolve

    worth_several = images >= WORTH_SEVERAL_PROCESSES
    embedder = resolve("embedder", settings.embedder)
    if embedder.kind == "connector":
        # It computes where the embedder does that it stands on.
        embedder = resolve("embedder", read_config(locate(embedder.location)).base.name)
    kinds = {embedder.kind, resolve("segmenter", settings.segmenter).kind}
    if kinds <= PACKAGED:
        count = workers or ((os.cpu_count() or 1) if worth_several else 1)
        return Processes(settings, count) if count > 1 else InProcess(settings, models)
    devices = settings.runtime.devices()
    if workers is not None:
        # More processes than GPUs share them, in turn.
        devices = [devices[place % len(devices)] for place in range(workers)]
    elif not worth_several:
        devices = devices[:1]
    if len(devices) == 1:
        return Prefetching.in_this_process(settings, models)
    # The processes load models of their own: ours would take memory of the first GPU beside them.
    models.forget()
    return device_processes(settings, devices)


def _open_or_create(arguments: argparse.Namespace, directory: Any, models: Any) -> Any:
    """The collection, checked against the options given; options left out are the collection's own."""
    from regionsearch.ingest import check_models

    try:
        collection = directory.collection(arguments.collection)
    except CollectionNotFound:
        return directory.create_collection(embedding_spec(arguments.collection, arguments, models))
    spec = collection.spec
    embedder = models.embedder(arguments.embedder or spec.embedder.name)
    segmenter = models.segmenter(arguments.segmenter or spec.segmenter.name)
    check_models(spec, embedder, segmenter)
    for option, asked, kept in (
        ("--pixels", arguments.pixels, spec.pixels),
        ("--entity-limit", arguments.entity_limit, spec.entity_limit),
    ):
        if asked is not None and asked != kept:
            raise InvalidRequest(
                f"collection {spec.name!r} was made with {option} {kept}; it cannot become {asked}"
            )
    return collection


def _summary(report: Any, collection: str) -> str:
    lines = [
        f"{'stopped; ' if report.stopped else ''}collection {collection!r}: {report.images} images with "
        f"{report.entities} entities indexed in {report.seconds:.1f} s "
        f"({report.images_per_second:.2f} images/s, {report.workers} "
        f"worker{'s' if report.workers > 1 else ''}; models loaded in {report.load_seconds:.1f} s)"
    ]
    if report.copied:
        lines.append(f"{report.copied} of them have the bytes of another image and were copied")
    lines.append(f"{report.skipped} unchanged, skipped; {len(report.failed)} failed")
    if report.payloads_updated:
        lines.append(f"{report.payloads_updated} of those skipped were given another payload")
    total = sum(report.steps.values())
    if report.images:
        lines.append(f"{'step':<10}{'seconds':>9}{'ms/image':>10}{'share':>8}   (summed over workers)")
        for step, seconds in report.steps.items():
            per_image = 1000 * seconds / report.images
            lines.append(f"{step:<10}{seconds:>9.2f}{per_image:>10.1f}{seconds / total:>8.0%}")
    lines.extend(_printable(f"failed: {failure.source}: {failure.reason}") for failure in report.failed)
    lines.extend(
        _printable(f"payload lost: {image_id}: its record was damaged; give the payload again if it had one")
        for image_id in report.payloads_lost
    )
    lines.extend(
        _printable(f"payload of no photo: {image_id}: there is none of this id below SOURCE")
        for image_id in report.payloads_unknown
    )
    if report.stopped:
        lines.append("run the same command again to go on")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """The text in one line of a terminal: a file's name can hold line breaks and control characters."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
