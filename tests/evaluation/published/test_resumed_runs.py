"""A run that was killed goes on: it computes the rest and reports what an uninterrupted one reports."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from drawn_photos import draw_folder
from published_files import write_scar

from regionsearch.cli import main

SCRIPT = Path(__file__).with_name("evaluation_to_kill.py")
PATIENCE_S = 60.0


def kill_when(words: list[str], ready: Callable[[], bool]) -> None:
    """Starts the command in a process of its own and kills it as soon as `ready` is true."""
    command = [sys.executable, str(SCRIPT), *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        started = time.monotonic()
        while not ready():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() - started < PATIENCE_S
            time.sleep(0.005)
        process.kill()


def counts(err: str) -> tuple[int, int]:
    """(embedded, from the cache), as the command says on stderr."""
    found = re.search(r"(\d+) inputs embedded, (\d+) from", err)
    assert found is not None
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("stage", ["embedding", "indexing"])
def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw_folder(tmp_path, 16)
    scar = write_scar(folder, tmp_path / "drawn.parquet")
    words = ["eval", "scar", "--annotations", str(scar), "--images", str(folder.images), "--engine", "--json"]
    words += ["--embedder", "dummy", "--batch", "1"]
    assert main([*words, "--cache", str(tmp_path / "whole")]) == 0
    whole = capsys.readouterr()
    in_all, none = counts(whole.err)
    assert none == 0

    cache = tmp_path / "killed"

    def half_embedded() -> bool:
        return any(file.stat().st_size > 2_000 for file in cache.glob("*.vectors"))

    def half_indexed() -> bool:
        # Nothing is embedded while pictures are indexed, at 300 ms each.
        sizes = [file.stat().st_size for file in cache.glob("*.vectors")]
        time.sleep(0.2)
        return max(sizes, default=0) > 4_000 and sizes == [f.stat().st_size for f in cache.glob("*.vectors")]

    kill_when([*words, "--cache", str(cache)], half_embedded if stage == "embedding" else half_indexed)
    assert main([*words, "--cache", str(cache)]) == 0
    resumed = capsys.readouterr()
    embedded, known = counts(resumed.err)
    assert known > 0
    assert 0 < embedded < in_all
    assert embedded + known == in_all
    assert resumed.out == whole.out

    assert main([*words, "--cache", str(cache)]) == 0
    again = capsys.readouterr()
    assert counts(again.err) == (0, in_all)
    assert again.out == whole.out
