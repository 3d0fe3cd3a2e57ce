"""Moves FAISS indexes to a GPU and back, where faiss-gpu and a device are there.

The only place that knows FAISS's GPU functions. They have not run on a device here: the tests hold that
they are called, and that everything works without them.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Any

from regionsearch.collection.inner_products import load_faiss

SETTING = "REGIONSEARCH_GPU"
_log = logging.getLogger(__name__)


def gpu_wished() -> bool:
    """What the environment says: REGIONSEARCH_GPU is 1 for yes; 0, empty or not set for no.

    Raises ValueError for anything else.
    """
    said = os.environ.get(SETTING, "")
    if said not in ("", "0", "1"):
        raise ValueError(f"{SETTING} is {said!r}; it must be 0 or 1")
    return said == "1"


def to_gpu(index: Any) -> Any:
    """A copy of a FAISS index on the first GPU, which must be present."""
    return load_faiss().index_cpu_to_gpu(_resources(), 0, index)


def from_gpu(index: Any) -> Any:
    """A copy in main memory of an index that `to_gpu` returned."""
    return load_faiss().index_gpu_to_cpu(index)


def gpu_present() -> bool:
    """Whether faiss-gpu is what is installed, and sees a device."""
    faiss = load_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        _say_once("this FAISS has no GPU functions (pip install 'regionsearch[faiss-gpu]')")
        return False
    if faiss.get_num_gpus() < 1:
        _say_once("FAISS sees no GPU")
        return False
    return True


@cache
def _say_once(reason: str) -> None:
    _log.warning("a GPU was asked for and is not used: %s", reason)


@cache
def _resources() -> Any:
    """Its memory on the device is taken once and kept."""
    return load_faiss().StandardGpuResources()
