"""`index`, asked to stop and asked again, does not wait for a model that takes its time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import PIL.Image

SLOW = """
import sys, time
from regionsearch.cli import main
from regionsearch.models import dummy, registry

registry.PACKAGED = frozenset()  # the dummy models as if they were some of torch
ready = dummy.load_embedder
probed = []

def slow(reference, runtime):
    embedder = ready(reference, runtime)
    embed = type(embedder).embed_images
    def embed_images(*given):
        if probed:
            print("computing", flush=True)
            time.sleep(300)
        probed.append(True)  # the collection's probe picture
        return embed(embedder, *given)
    embedder.embed_images = embed_images
    return embedder

dummy.load_embedder = slow
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def test_the_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    words = ["index", str(tmp_path), "--collection", "c", "--data", str(tmp_path / "data")]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words, "--embedder", "dummy", "--segmenter", "dummy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "computing\n"
        process.send_signal(signal.SIGINT)
        while "once more to leave at once" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read().endswith("regionsearch index: stopped\n")
    finally:
        process.kill()
        process.communicate()
