"""Where the computing of an indexing run happens."""

from indexer.engines.engine import BatchResult, IndexingEngine, PipelineSettings
from indexer.engines.local import InProcess, Processes, build_pipeline
from indexer.engines.prefetching import Prefetching, device_processes

__all__ = [
    "BatchResult",
    "InProcess",
    "IndexingEngine",
    "PipelineSettings",
    "Prefetching",
    "Processes",
    "build_pipeline",
    "device_processes",
]
