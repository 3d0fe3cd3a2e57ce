"""VLM2Vec and GME compute what their published programs would, on tiny random checkpoints.

The oracle is written out with transformers' own model, tokenizer and image processor.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image as Pillow
from tiny_abc import write_tiny_qwen2_vl
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest, NotAccepted
from regionsearch.images import Image
from regionsearch.models.crops import crop_with_context
from regionsearch.models.embedder import Embedder, EncodableQuery, ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime
from regionsearch.regions import Box, Mask, Point, RegionPrompt

CPU = Runtime(device="cpu", dtype="fp32")
THING = Box(10, 20, 60, 70)
PAD = "<|image_pad|>"
GME_TEXT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n<|endoftext|>"
)
GME_PICTURE = f"<|vision_start|>{PAD}<|vision_end|>"


def _picture(height: int, width: int, seed: int = 0) -> Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 10), -(-width // 10), 3), np.uint8)
    return Image(blocks.repeat(10, axis=0).repeat(10, axis=1)[:height, :width])


PICTURE = _picture(100, 140)


@pytest.fixture(scope="module")
def vlm2vec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-VLM2Vec"
    write_tiny_qwen2_vl(folder)
    return folder


@pytest.fixture(scope="module")
def vlm2vec(vlm2vec_folder: Path) -> Embedder:
    return ModelRegistry(runtime=CPU).embedder(str(vlm2vec_folder))


@pytest.fixture(scope="module")
def gme(vlm2vec_folder: Path) -> Embedder:
    return ModelRegistry(runtime=CPU).embedder(f"vlm:{vlm2vec_folder},prompts=gme")


@pytest.fixture(scope="module")
def oracle(vlm2vec_folder: Path) -> Oracle:
    return Oracle(vlm2vec_folder)


class Oracle:
    """transformers' model and tokenizer, the last token, positions 0, 1, 2, …"""

    def __init__(self, folder: Path) -> None:
        self.model: Any = transformers.Qwen2VLModel.from_pretrained(folder, attn_implementation="eager")
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)

    def embed(
        self, string: str, image: Image | None = None, least: int = 4, first: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """least: tokens of a picture. first: width and height of a resizing before the processor's own."""
        pixels: dict[str, Any] = {}
        if image is not None:
            picture = Pillow.fromarray(image.pixels)
            if first is not None:
                picture = picture.resize(first)
            processor = Qwen2VLImageProcessorPil(min_pixels=least * 784, max_pixels=1280 * 784)
            pixels = dict(processor(picture, return_tensors="pt"))
            string = string.replace(PAD, PAD * int(pixels["image_grid_thw"].prod() // 4))
        ids = self.tokenizer(string, return_tensors="pt")["input_ids"]
        positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
        with torch.inference_mode():
            hidden = self.model(input_ids=ids, position_ids=positions, **pixels).last_hidden_state[0, -1]
        unit: NDArray[np.float32] = torch.nn.functional.normalize(hidden, dim=0).numpy()
        return unit


def _close(found: NDArray[np.float32] | None, expected: NDArray[np.float32]) -> None:
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_vlm2vec_reads_exact_strings_to_their_last_token(vlm2vec: Embedder, oracle: Oracle) -> None:
    string = f"{PAD}\nRepresent the given image with the following question: What is it?\n"
    found = vlm2vec.embed_inputs([ModelInput(PICTURE, string), ModelInput(text="a dog")])
    _close(found[0], oracle.embed(string, PICTURE))
    _close(found[1], oracle.embed("a dog"))


def test_vlm2vec_stores_and_asks_in_the_words_of_mmeb(vlm2vec: Embedder, oracle: Oracle) -> None:
    entities = Entities.from_masks(
        [Mask.from_box(THING, PICTURE.height, PICTURE.width)], np.ones(1, dtype=np.float32)
    )
    crop = crop_with_context(PICTURE, THING, 0.25)
    stored = vlm2vec.embed_images([PICTURE], [entities])[0]
    represent = f"{PAD}\nRepresent the given image.\n"
    _close(stored.image, oracle.embed(represent, PICTURE))
    _close(stored.entities[0], oracle.embed(represent, crop))
    asked = vlm2vec.embed_query(EncodableQuery(PICTURE, entities.masks[0], text="in red"))
    changed = f"{PAD}\nGiven an image, find a similar everyday image with the described changes: in red\n"
    _close(asked.region, oracle.embed(changed, crop))
    _close(asked.image, oracle.embed(changed, PICTURE))
    _close(asked.text, oracle.embed("Find me an everyday image that matches the given caption: in red\n"))
    alike = vlm2vec.embed_query(EncodableQuery(PICTURE))
    similar = f"{PAD}\nFind a day-to-day image that looks similar to the provided image.\n"
    _close(alike.image, oracle.embed(similar, PICTURE))


def test_gme_reads_its_chat_template_to_the_end_token(gme: Embedder, oracle: Oracle) -> None:
    found = gme.embed_inputs([ModelInput(text="a dog"), ModelInput(PICTURE), ModelInput(PICTURE, "in red")])
    first = (140, 112)  # what Qwen's own loader makes of 140 × 100
    _close(found[0], oracle.embed(GME_TEXT.format("a dog")))
    _close(found[1], oracle.embed(GME_TEXT.format(GME_PICTURE), PICTURE, 256, first))
    _close(found[2], oracle.embed(GME_TEXT.format(GME_PICTURE + "in red"), PICTURE, 256, first))


def test_gme_asks_for_pictures_with_the_instruction_of_its_example(gme: Embedder, oracle: Oracle) -> None:
    string = GME_TEXT.format("a dog").replace(
        "You are a helpful assistant.", "Find an image that matches the given text."
    )
    _close(gme.embed_texts(["a dog"])[0], oracle.embed(string))


def test_strings_of_mmeb_lose_the_place_of_the_picture_before_gme_reads_them(gme: Embedder) -> None:
    found = gme.embed_inputs([ModelInput(PICTURE, f"{PAD}\nin red\n"), ModelInput(PICTURE, "in red\n")])
    np.testing.assert_array_equal(found[0], found[1])


def test_worded_inputs_are_those_of_queries_and_of_the_index(vlm2vec: Embedder) -> None:
    region = RegionPrompt(box=THING)
    mask = Mask.from_box(THING, PICTURE.height, PICTURE.width)
    given = ModelInput(PICTURE, "in red", region)
    asked = vlm2vec.embed_query(EncodableQuery(PICTURE, mask, text="in red"))
    _close(asked.region, vlm2vec.embed_inputs([vlm2vec.worded(given, "query")])[0])
    entities = Entities.from_masks([mask], np.ones(1, dtype=np.float32))
    stored = vlm2vec.embed_images([PICTURE], [entities])[0]
    candidate = vlm2vec.worded(ModelInput(PICTURE, region=region), "candidate")
    _close(stored.entities[0], vlm2vec.embed_inputs([candidate])[0])


def test_vectors_do_not_depend_on_their_company(vlm2vec: Embedder) -> None:
    inputs = [
        ModelInput(text="a dog"),
        ModelInput(text="a cat"),
        ModelInput(text="three dogs"),
        ModelInput(PICTURE),
        ModelInput(_picture(140, 100, seed=1)),  # as many tokens as PICTURE, in another shape
        ModelInput(_picture(20, 200, seed=2)),
    ]
    together = vlm2vec.embed_inputs(inputs)
    alone = np.concatenate([vlm2vec.embed_inputs([one]) for one in inputs])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_folder_that_does_not_say_its_family_is_refused(vlm2vec_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(vlm2vec_folder, tmp_path / "qwen2-vl")
    with pytest.raises(InvalidRequest, match="prompts=vlm2vec or prompts=gme"):
        ModelRegistry(runtime=CPU).embedder(str(folder))
    named = ModelRegistry(runtime=CPU).embedder(f"{folder},prompts=vlm2vec")
    assert named.info.fingerprint.same_model(
        ModelRegistry(runtime=CPU).embedder(str(vlm2vec_folder)).info.fingerprint
    )


def test_the_family_and_the_context_are_part_of_the_fingerprint(
    vlm2vec: Embedder, gme: Embedder, vlm2vec_folder: Path
) -> None:
    tight = ModelRegistry(runtime=CPU).embedder(f"{vlm2vec_folder},context=0")
    assert not vlm2vec.info.fingerprint.same_model(gme.info.fingerprint)
    assert not vlm2vec.info.fingerprint.same_model(tight.info.fingerprint)


@pytest.mark.parametrize("reference", ["vlm", "vlm:x,prompts=bge", "vlm:vlm2vec,size=3"])
def test_references_that_name_nothing_are_refused(reference: str) -> None:
    with pytest.raises(InvalidRequest):
        ModelRegistry(runtime=CPU).embedder(reference)


def test_inputs_that_cannot_be_read_are_refused(vlm2vec: Embedder, gme: Embedder) -> None:
    for bad in (ModelInput(PICTURE, "no place"), ModelInput(PICTURE, PAD + PAD), ModelInput(text=PAD)):
        with pytest.raises(InvalidRequest, match="image_pad"):
            vlm2vec.embed_inputs([bad])
    with pytest.raises(InvalidRequest, match="image_pad"):
        gme.embed_inputs([ModelInput(PICTURE, f"see {PAD}")])
    with pytest.raises(InvalidRequest, match="image_pad"):
        vlm2vec.embed_query(EncodableQuery(PICTURE, text=PAD))
    points = RegionPrompt(points=(Point(30, 40, True),))
    with pytest.raises(NotAccepted, match="not as points"):
        vlm2vec.embed_inputs([ModelInput(PICTURE, region=points)])
