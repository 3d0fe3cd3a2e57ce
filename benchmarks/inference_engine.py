"""Which engine runs the compact network fastest: images a second, every engine in one loop.

    python -m benchmarks.inference_engine [--variant lite0] [--size 224] [--threads 2] [--json FILE]

All engines get the same float32 input and hand out the same maps. They take turns within each round, so
that whatever else the machine does hits all of them alike; the median over the rounds counts. The
agreement is the smallest cosine, over all maps and images, with PyTorch eager.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from benchmarks.eager_network import EagerNetwork
from regionsearch.models.compact.network_graph import INPUT, LAST, LEVELS, build_graph, level_name
from regionsearch.models.compact.network_session import NetworkSession
from regionsearch.models.compact.onnx_session import open_session
from regionsearch.models.compact.torch_file import read_tensors
from regionsearch.models.compact.weights import IMAGE_NETWORKS, VARIANT, read_verified

Array = NDArray[np.float32]
Engine = Callable[[Array], Any]
"""From (n, 3, h, w) to the maps of LEVELS and the last one."""

OUTPUTS = [*map(level_name, LEVELS), LAST]
BASELINE = "PyTorch eager"
CHOSEN = "ONNX Runtime, a picture a core"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compare inference engines on the compact network.")
    parser.add_argument("--variant", choices=sorted(IMAGE_NETWORKS), default=VARIANT)
    parser.add_argument("--size", type=int, default=224, help="side of the input, pixels, a multiple of 32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="also write the table there")
    options = parser.parse_args(arguments)
    engines = load_engines(options.variant, options.threads)
    rows = []
    for batch in options.batches:
        inputs = np.random.default_rng(0).standard_normal((batch, 3, options.size, options.size))
        rows += measure(engines, inputs.astype(np.float32), options.rounds)
    print(
        f"{options.variant}, {options.size} px, {options.threads} threads, median of {options.rounds} rounds"
    )
    print(f"{'engine':36}{'batch':>6}{'images/s':>10}{'× eager':>9}{'cosine':>10}")
    for row in rows:
        print(
            f"{row['engine']:36}{row['batch']:6}{row['images_per_second']:10.1f}"
            f"{row['times_eager']:9.2f}{row['cosine']:10.6f}"
        )
    if options.json:
        options.json.write_text(json.dumps({**_setting(options), "rows": rows}, indent=2))


def load_engines(variant: str, threads: int) -> dict[str, Engine]:
    state = read_tensors(read_verified(IMAGE_NETWORKS[variant]))
    graph = build_graph(state, variant)
    torch.set_num_threads(threads)
    engines: dict[str, Engine] = {
        BASELINE: _eager(EagerNetwork(state, variant), torch.contiguous_format),
        "PyTorch eager, channels last": _eager(
            EagerNetwork(state, variant).to(memory_format=torch.channels_last), torch.channels_last
        ),
        CHOSEN: _shipped(NetworkSession(graph, threads)),
        "ONNX Runtime, one batch on all cores": _onnx(open_session(graph, threads)),
        "ONNX Runtime, spinning": _onnx(_session(graph, threads, spinning=True)),
        "ONNX Runtime, no layout change": _onnx(_session(graph, threads, level="ORT_ENABLE_EXTENDED")),
    }
    if importlib.util.find_spec("openvino") is not None:
        engines["OpenVINO"] = _openvino(graph, threads)
    return engines


def measure(engines: Mapping[str, Engine], inputs: Array, rounds: int) -> list[dict[str, Any]]:
    """One row an engine: images a second, how many times the baseline's, and agreement with it."""
    expected = engines[BASELINE](inputs)
    cosines = {name: _least_cosine(_by_map(engine(inputs)), expected) for name, engine in engines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            started = time.perf_counter()
            engine(inputs)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        {
            "engine": name,
            "batch": len(inputs),
            "images_per_second": len(inputs) / median,
            "times_eager": medians[BASELINE] / median,
            "cosine": cosines[name],
        }
        for name, median in medians.items()
    ]


def _eager(network: EagerNetwork, layout: torch.memory_format) -> Engine:
    def run(inputs: Array) -> list[Array]:
        with torch.inference_mode():
            levels, last = network(torch.from_numpy(inputs).contiguous(memory_format=layout))
        return [*(levels[block].numpy() for block in LEVELS), last.numpy()]

    return run


def _shipped(session: NetworkSession) -> Engine:
    """As the product runs it: a picture on each core. Its maps come picture by picture."""
    return lambda inputs: session.run(list(inputs))


def _onnx(session: Any) -> Engine:
    def run(inputs: Array) -> list[Array]:
        maps: list[Array] = session.run(OUTPUTS, {INPUT: inputs})
        return maps

    return run


def _session(graph: bytes, threads: int, *, spinning: bool = False, level: str = "ORT_ENABLE_ALL") -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _openvino(graph: bytes, threads: int) -> Engine:
    import openvino

    core = openvino.Core()
    # Its default is bfloat16 where the processor has it, which is another computation.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(graph, b""), "CPU", settings)

    def run(inputs: Array) -> list[Array]:
        outputs = model(inputs)
        return [outputs[name] for name in OUTPUTS]

    return run


def _by_map(maps: Sequence[Array] | Sequence[Sequence[Array]]) -> list[Array]:
    """What came picture by picture, as one array a map."""
    if isinstance(maps[0], np.ndarray):
        return [np.asarray(each) for each in maps]
    return [np.stack(pictures) for pictures in zip(*maps, strict=True)]


def _least_cosine(maps: Sequence[Array], expected: Sequence[Array]) -> float:
    """Over all maps and images of the batch."""
    least = 1.0
    for ours, theirs in zip(maps, expected, strict=True):
        a = ours.reshape(len(ours), -1).astype(np.float64)
        b = theirs.reshape(len(theirs), -1).astype(np.float64)
        cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
        least = min(least, float(cosines.min()))
    return least


def _setting(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "variant": options.variant,
        "size": options.size,
        "threads": options.threads,
        "rounds": options.rounds,
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
