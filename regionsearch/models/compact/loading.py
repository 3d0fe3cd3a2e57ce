"""One network a process, for the embedder and the segmenter alike."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from regionsearch.models.compact.weights import require_packages
from regionsearch.models.reference import ModelReference
from regionsearch.models.runtime import Runtime

if TYPE_CHECKING:
    from regionsearch.models.compact.embedder import CompactEmbedder
    from regionsearch.models.compact.network import CompactNetwork
    from regionsearch.models.compact.segmenter import CompactSegmenter

_networks: dict[int | None, CompactNetwork] = {}
_lock = threading.Lock()
_ITSELF = ModelReference("compact")
_ANYHOW = Runtime()


def load_embedder(reference: ModelReference = _ITSELF, runtime: Runtime = _ANYHOW) -> CompactEmbedder:
    """The compact embedder. Raises ModelUnavailable when packages or weights are missing."""
    reference.check_bare()
    from regionsearch.models.compact.embedder import CompactEmbedder

    return CompactEmbedder(_network(runtime.threads), runtime.threads)


def load_segmenter(reference: ModelReference = _ITSELF, runtime: Runtime = _ANYHOW) -> CompactSegmenter:
    """The compact segmenter. Raises ModelUnavailable when packages or weights are missing."""
    reference.check_bare()
    network = _network(runtime.threads)
    from regionsearch.models.compact.segmenter import CompactSegmenter

    return CompactSegmenter(network)


def _network(threads: int | None) -> CompactNetwork:
    """The network with this many threads, loaded once: it is the larger part of both models."""
    require_packages()
    from regionsearch.models.compact.network import CompactNetwork

    with _lock:
        if threads not in _networks:
            _networks[threads] = CompactNetwork(threads)
        return _networks[threads]
