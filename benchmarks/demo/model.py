"""The checkpoint of the tour: the tensors of a real transformer, filled with random bits.

Shapes: Qwen2.5-0.5B (24 layers, hidden 896, MLP 4864, 14 heads, 2 KV heads, vocabulary 151,936),
with an untied output layer, in 16 bits: 291 tensors, 1.26 GB. Random bits, so that nothing
compresses and no two blocks are alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.uint16]]

LAYER_COUNT = 24
HIDDEN = 896
MLP = 4864
KV_WIDTH = 128
VOCABULARY = 151_936

LAYER_SHAPES: dict[str, tuple[int, ...]] = {
    "input_layernorm.weight": (HIDDEN,),
    "mlp.down_proj.weight": (HIDDEN, MLP),
    "mlp.gate_proj.weight": (MLP, HIDDEN),
    "mlp.up_proj.weight": (MLP, HIDDEN),
    "post_attention_layernorm.weight": (HIDDEN,),
    "self_attn.k_proj.bias": (KV_WIDTH,),
    "self_attn.k_proj.weight": (KV_WIDTH, HIDDEN),
    "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
    "self_attn.q_proj.bias": (HIDDEN,),
    "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    "self_attn.v_proj.bias": (KV_WIDTH,),
    "self_attn.v_proj.weight": (KV_WIDTH, HIDDEN),
}


def checkpoint_shapes(layer_count: int = LAYER_COUNT) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors, in the order of the file."""
    shapes: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (VOCABULARY, HIDDEN),
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
    }
    for layer in range(layer_count):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in LAYER_SHAPES.items()}
    return shapes | {"model.norm.weight": (HIDDEN,)}


def make_checkpoint(seed: int = 1) -> Tensors:
    """The tensors; 16-bit patterns stand for bfloat16, which NumPy lacks."""
    generator = np.random.default_rng(seed)
    return {
        name: np.frombuffer(generator.bytes(2 * int(np.prod(shape))), dtype=np.uint16).reshape(
            shape
        )
        for name, shape in checkpoint_shapes().items()
    }


def size_bytes(tensors: Tensors) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in tensors.values())


def first_difference(expected: Tensors, found: Tensors) -> str | None:
    """The name of the first tensor that is missing, extra or different."""
    for name in expected.keys() | found.keys():
        if name not in expected or name not in found:
            return name
        if not np.array_equal(expected[name], found[name]):
            return name
    return None
