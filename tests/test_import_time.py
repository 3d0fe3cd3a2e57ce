"""Importing the package costs next to nothing, and brings in nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = ["torch", "transformers", "onnxruntime", "onnx", "faiss", "lmdb", "grpc", "skimage", "scipy"]

TIMED_IMPORT = """
import json, sys, time
start = time.perf_counter()
import regionsearch
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules)}))
"""


def run(program: str) -> dict[str, object]:
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(finished.stdout)
    return answer


def test_importing_regionsearch_takes_less_than_a_third_of_a_second_and_nothing_heavy() -> None:
    # The best of several: the test is about our imports, not about what else the machine does.
    runs = [run(TIMED_IMPORT) for _ in range(5)]
    modules = runs[0]["modules"]
    assert isinstance(modules, list)
    assert sorted(set(HEAVY) & set(modules)) == []
    assert min(float(str(answer["seconds"])) for answer in runs) < 0.3


def test_the_values_a_client_uses_need_neither_models_nor_storage() -> None:
    program = (
        "import json, sys; from regionsearch import Client, Box, Mask; print(json.dumps(sorted(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert sorted((set(HEAVY) - {"grpc"}) & set(json.loads(finished.stdout))) == []
