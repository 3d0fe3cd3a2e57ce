"""ONNX Runtime as the compact models use it."""

from __future__ import annotations

from typing import Any

import onnxruntime


def open_session(model: bytes, threads: int | None) -> Any:
    """An inference session on the CPU; `threads` inside one call, None: one per physical core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Idle workers that spin take the core from whoever else works on the machine: the indexer's
    # decoding and segmenting, the server's other requests (figures in docs/compact.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
