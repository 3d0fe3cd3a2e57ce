"""What a training run leaves on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from full_disk import files_end_at

from regionsearch.errors import InvalidRequest, RegionSearchError
from regionsearch.training.training_state import (
    TrainingState,
    by_option,
    check_same_run,
    load_state,
    save_state,
)


def test_a_disk_that_is_full_is_said_and_the_state_before_is_kept(tmp_path: Path) -> None:
    small = TrainingState({}, step=1, trained={"part": {"weight": torch.zeros(3)}})
    save_state(tmp_path, small)
    large = TrainingState({}, step=2, trained={"part": {"weight": torch.zeros(300_000)}})
    with (
        files_end_at(100_000),
        pytest.raises(RegionSearchError, match=r"training_state\.pt cannot be written"),
    ):
        save_state(tmp_path, large)
    kept = load_state(tmp_path)
    assert kept is not None
    assert kept.step == 1


def test_only_the_settings_that_differ_are_named(tmp_path: Path) -> None:
    begun = {"steps": 4, "learning_rate": 0.1, "adapters": {"rank": 8, "alpha": 64}}
    now = begun | {"steps": 6, "adapters": {"rank": 4, "alpha": 64}}
    state = TrainingState(by_option(begun) | {"data": "a"})
    with pytest.raises(InvalidRequest) as caught:
        check_same_run(tmp_path, state, by_option(now) | {"data": "b"}, later=["data"])
    assert "otherwise: --rank was 8 and is 4; --steps was 4 and is 6. Give" in caught.value.message
    with pytest.raises(InvalidRequest, match="otherwise: data was 'a' and is 'b'"):
        check_same_run(tmp_path, state, by_option(begun) | {"data": "b"})
    check_same_run(tmp_path, state, by_option(begun) | {"data": "a"})
