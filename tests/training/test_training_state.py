"""What a training run leaves on the disk."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
import torch

from regionsearch.errors import RegionSearchError
from regionsearch.training.training_state import TrainingState, load_state, save_state


def test_a_disk_that_is_full_is_said_and_the_state_before_is_kept(tmp_path: Path) -> None:
    small = TrainingState({}, step=1, trained={"part": {"weight": torch.zeros(3)}})
    save_state(tmp_path, small)
    large = TrainingState({}, step=2, trained={"part": {"weight": torch.zeros(300_000)}})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignoring = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(RegionSearchError, match=r"training_state\.pt cannot be written"):
            save_state(tmp_path, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignoring)
    kept = load_state(tmp_path, {})
    assert kept is not None
    assert kept.step == 1
