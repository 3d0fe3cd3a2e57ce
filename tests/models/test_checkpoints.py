"""Where weights are found, what a damaged file is told to be, and what tells models apart."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from regionsearch.errors import ModelUnavailable
from regionsearch.models.checkpoints import (
    iterate_tensors,
    locate,
    read_json,
    read_tensors,
    weight_files,
    weights_hash,
)

WAY_OUT = (
    "where there is a network, `hf download owner/model --local-dir FOLDER`, then give FOLDER, or put it as "
    "'model' below the folder that REGIONSEARCH_MODELS names (not set)"
)
TENSORS = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([1, 2])}


@pytest.fixture(autouse=True)
def no_models_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGIONSEARCH_MODELS", raising=False)


def in_own_process(location: str, **environment: str) -> str:
    """What `locate` gives or says: the hub's library reads its environment once, when it is imported."""
    program = (
        "import sys\n"
        "from regionsearch.errors import ModelUnavailable\n"
        "from regionsearch.models.checkpoints import locate\n"
        "try: print(locate(sys.argv[1]))\n"
        "except ModelUnavailable as error: print('refused:', error.message)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, location],
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ran.stdout.strip()


def cached_model(home: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """A model in the hub's cache, as its library lays it out."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    for file, content in files.items():
        (snapshot / file).write_bytes(content)
    return snapshot


def test_a_path_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "sam.pt").write_bytes(b"")
    assert locate(str(tmp_path / "model")) == tmp_path / "model"
    assert locate(str(tmp_path / "sam.pt")) == tmp_path / "sam.pt"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/model") == tmp_path / "model"


def test_a_model_is_found_in_the_models_folder_by_its_name_or_by_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("clip", "owner/clip-2", "moved"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("REGIONSEARCH_MODELS", str(tmp_path))
    assert locate("clip") == tmp_path / "clip"
    assert locate("owner/clip-2") == tmp_path / "owner" / "clip-2"
    assert locate("owner/moved") == tmp_path / "moved"
    assert locate("/no/such/place/moved") == tmp_path / "moved"
    with pytest.raises(
        ModelUnavailable, match=rf"'/no/such/thing' .*{tmp_path}/no/such/thing.*{tmp_path}/thing"
    ):
        locate("/no/such/thing")


def test_where_a_folder_that_has_moved_can_be_put_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way_out = r"if it has moved, give its new place, or put it as 'thing' below the folder that"
    with pytest.raises(ModelUnavailable, match=rf"{way_out} REGIONSEARCH_MODELS names \(not set\)$"):
        locate("/no/such/thing")
    monkeypatch.setenv("REGIONSEARCH_MODELS", str(tmp_path))
    with pytest.raises(ModelUnavailable, match=f"{way_out} REGIONSEARCH_MODELS names$"):
        locate("/no/such/thing")


@pytest.mark.parametrize(
    "location",
    ["nothing", "a/b/c", "~nobody-of-this-name/x", "x" * 300, "/" + "x" * 300, "a b/c", "a/b..c", "-a/b"],
)
def test_what_is_no_folder_and_no_name_of_the_hub_is_refused(location: str) -> None:
    with pytest.raises(ModelUnavailable, match="there is no model folder"):
        locate(location)


def test_a_name_that_is_not_cached_is_refused_offline_with_the_reason(tmp_path: Path) -> None:
    said = in_own_process("owner/model", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert said.startswith("refused: 'owner/model' is not in the cache of the hub")
    assert "HF_HUB_OFFLINE" in said
    assert said.endswith(WAY_OUT)


def test_a_name_that_cannot_be_fetched_is_refused_with_the_reason(tmp_path: Path) -> None:
    said = in_own_process("owner/model", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
    assert said.startswith("refused: 'owner/model' is neither a folder")
    assert "could not be fetched: ConnectError: " in said
    assert said.endswith(WAY_OUT)


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_cached_model_is_found_without_the_network(tmp_path: Path, offline: str) -> None:
    snapshot = cached_model(tmp_path, "owner/model", {"config.json": b"{}", "model.safetensors": b"x"})
    assert in_own_process("owner/model", HF_HOME=str(tmp_path), HF_HUB_OFFLINE=offline) == str(snapshot)


def test_a_cached_model_without_its_weights_is_given_when_they_cannot_be_fetched(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    files = {"model.safetensors.index.json": index, "model-1.safetensors": b"x"}
    snapshot = cached_model(tmp_path, "owner/model", files)
    assert in_own_process("owner/model", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0") == str(snapshot)
    with pytest.raises(ModelUnavailable, match=r"names files that are missing: model-2\.safetensors"):
        weight_files(snapshot)


def test_the_models_folder_comes_before_the_hub(tmp_path: Path) -> None:
    cached_model(tmp_path / "home", "owner/model", {"model.safetensors": b"x"})
    (tmp_path / "models" / "model").mkdir(parents=True)
    home, models = str(tmp_path / "home"), str(tmp_path / "models")
    said = in_own_process("owner/model", HF_HOME=home, HF_HUB_OFFLINE="1", REGIONSEARCH_MODELS=models)
    assert said == str(tmp_path / "models" / "model")


def test_a_json_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"it has no config\.json"):
        read_json(tmp_path / "config.json")
    for content in (b"{", b"\xff", b"", b"[1]", b"null"):
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(ModelUnavailable, match=r"config\.json (cannot be read|holds no JSON object)"):
            read_json(tmp_path / "config.json")


def test_weights_are_found_whole_and_in_shards_safetensors_first(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="has no weights"):
        weight_files(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert weight_files(tmp_path) == [tmp_path / "pytorch_model.bin"]
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]
    shards = {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ModelUnavailable, match=r"missing: model-1\.safetensors, model-2\.safetensors"):
        weight_files(tmp_path)
    for name in set(shards.values()):
        (tmp_path / name).write_bytes(b"")
    assert weight_files(tmp_path) == [tmp_path / "model-1.safetensors", tmp_path / "model-2.safetensors"]
    for wrong in ({}, {"weight_map": ["a"]}, {"weight_map": {"a": 1}}):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(wrong))
        with pytest.raises(ModelUnavailable, match="weight_map"):
            weight_files(tmp_path)


def write(path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=path.stem == "new")
    return path


FILES = ("x.safetensors", "new.bin", "old.bin")


@pytest.mark.parametrize("name", FILES)
def test_tensors_are_read_as_they_were_written(tmp_path: Path, name: str) -> None:
    read = read_tensors(write(tmp_path / name))
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[key], TENSORS[key]) for key in TENSORS)
    assert all(read[key].dtype == TENSORS[key].dtype for key in TENSORS)


def test_tensors_of_several_files_come_in_turn(tmp_path: Path) -> None:
    files = [write(tmp_path / name) for name in FILES]
    names = [name for name, _ in iterate_tensors(files)]
    assert [sorted(names[start : start + 2]) for start in (0, 2, 4)] == [["a", "b"]] * 3


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_by_name_whatever_the_damage(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused: list[str] = []
    for trial in range(60):
        damaged = bytearray(whole[: int(rng.integers(0, len(whole)))])
        if trial % 3 == 1:
            damaged = bytearray(whole)
            for place in rng.integers(0, min(300, len(whole)), size=3):
                damaged[place] = int(rng.integers(0, 256))
        elif trial % 3 == 2:
            damaged = bytearray(rng.bytes(int(rng.integers(0, 200))))
        path.write_bytes(bytes(damaged))
        try:
            read_tensors(path)
        except ModelUnavailable as error:
            refused.append(error.message)
    # A changed number among the tensors' own cannot be told; a file cut short always is.
    assert len(refused) >= 40
    assert all(f"weights {path} cannot be read: " in message for message in refused)
    path.write_bytes(b"")
    with pytest.raises(ModelUnavailable, match=r"cannot be read: \S"):
        read_tensors(path)
    path.unlink()
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        read_tensors(path)


class _Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_with_code_in_it_is_refused_and_the_code_does_not_run(tmp_path: Path, new: bool) -> None:
    made = tmp_path / "made"
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(2), "b": _Payload(made)}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        read_tensors(path)
    path.write_bytes(pickle.dumps(_Payload(made)))
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        read_tensors(path)
    assert not made.exists()


def test_a_file_with_one_tensor_and_no_name_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "x.bin")
    with pytest.raises(ModelUnavailable, match="no tensors by name"):
        read_tensors(tmp_path / "x.bin")


def test_the_hash_knows_contents_order_and_settings_but_not_names(tmp_path: Path) -> None:
    first, second, copy = (tmp_path / name for name in ("first", "second", "copy"))
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    copy.write_bytes(b"one")
    base = weights_hash([first, second], {"x": 1, "y": 2})
    assert base == weights_hash([copy, second], {"y": 2, "x": 1})
    others = [
        weights_hash([second, first], {"x": 1, "y": 2}),
        weights_hash([first], {"x": 1, "y": 2}),
        weights_hash([first, second], {"x": 1, "y": 3}),
        weights_hash([first, second], {}),
    ]
    assert len({base, *others}) == 5
    # A file that changed is read again, though its name and size are the same.
    second.write_bytes(b"TWO")
    os.utime(second, ns=(1, 1))
    assert weights_hash([first, second], {"x": 1, "y": 2}) != base
