"""What memory `regionsearch train virtue` takes, computed from the shapes of the published models.

    python -m benchmarks.training_memory [--tokens N] [--json]

One layer of the language model is built in its published width, with random weights and the adapters of
training, and run on the CPU in bf16; what autograd then keeps for the backward pass is counted, for each
token, and multiplied by the number of layers. Nothing is downloaded. Weights of the parts that are not
trained are those of `benchmarks.model_memory`.
"""

from __future__ import annotations

import argparse
import json
import sys
import weakref
from dataclasses import asdict, dataclass

import torch
from transformers import Qwen2VLTextConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLTextModel

from regionsearch.models.qwen2_vl.language import run_language_model
from regionsearch.training.virtue.adapters import AdapterSettings, LanguageAdapters

GIB = 1024**3
OPTIMIZER_BYTES = 16
"""Of a trained number: itself, its gradient and AdamW's two moments, in fp32."""
SAM_CHANNELS = 256
REDUCTION = 4


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    layers: int = 28


SHAPES = (Shape("VIRTUE-2B", 1536, 8960, 12, 2), Shape("VIRTUE-7B", 3584, 18944, 28, 4))


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """trained: numbers that are trained. trained_gib: what they take with gradients and optimizer.
    kept_kib_per_token: what the backward pass needs, over all layers."""

    name: str
    trained: int
    trained_gib: float
    kept_kib_per_token: float


class _Kept:
    """A tensor that autograd keeps, as long as autograd keeps it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def memory_of(shape: Shape, tokens: int) -> TrainingMemory:
    config = Qwen2VLTextConfig(
        vocab_size=8,  # the vocabulary plays no part in a layer
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=1,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        rope_parameters={"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
        bos_token_id=0,
        eos_token_id=0,
    )
    config._attn_implementation = "sdpa"
    model = Qwen2VLTextModel(config).bfloat16().requires_grad_(False)
    LanguageAdapters(model, AdapterSettings())
    model.train()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) * shape.layers
    trained += SAM_CHANNELS * SAM_CHANNELS * REDUCTION**2 + SAM_CHANNELS  # reducer
    trained += SAM_CHANNELS * (SAM_CHANNELS + 1) + (SAM_CHANNELS + 1) * shape.hidden  # connector
    embeds = torch.randn(1, tokens, shape.hidden, dtype=torch.bfloat16, requires_grad=True)
    positions = torch.arange(tokens).expand(3, 1, tokens)
    kept: list[weakref.ReferenceType[_Kept]] = []

    def keep(tensor: torch.Tensor) -> _Kept:
        holder = _Kept(tensor)
        kept.append(weakref.ref(holder))
        return holder

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder.tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        output = run_language_model(model, embeds, positions)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages: dict[int, int] = {}
    for reference in kept:
        holder = reference()
        # Casts of weights are kept once a pass, whatever the number of tokens: only what grows is counted.
        if holder is not None and tokens in holder.tensor.shape:
            storage = holder.tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
    del output  # until here: what it keeps goes with it
    per_token = sum(storages.values()) / tokens
    return TrainingMemory(
        shape.name, trained, trained * OPTIMIZER_BYTES / GIB, per_token * shape.layers / 1024
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=200, help="of the pass that is counted")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [memory_of(shape, arguments.tokens) for shape in SHAPES]
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    print(f"{'model':<12}{'trained':>12}{'with AdamW':>13}{'kept for backward':>24}")
    for row in rows:
        print(
            f"{row.name:<12}{row.trained / 1e6:>10.1f} M{row.trained_gib:>9.2f} GiB"
            f"{row.kept_kib_per_token:>14.0f} KiB a token"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
