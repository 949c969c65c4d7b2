"""What an encoder leaves beside its decoder: its last state, and the biases of positions that blocks share."""

from __future__ import annotations

from typing import Final

from planner.estimators.memory.scene import Scene
from planner.estimators.memory.step.operations import FP32

INDEX_BYTES: Final = 8  # derived: of an int64, the bucket of a pair of positions


def encoder_end_bytes(scene: Scene) -> int:
    """The last norm's input and its fp32 copy, what the decoder sees; a mask of dropout behind each stack."""
    a, n = scene.architecture, scene.numerics
    if a.kind != "encoder_decoder":
        return 0
    mask = n.tokens * a.hidden_size if a.hidden_dropout else 0
    copy = n.tokens * a.hidden_size * FP32 if n.residual != FP32 else 0
    weighted = scene.hidden_bytes if n.trains_norms else 0
    return copy + 2 * scene.hidden_bytes + 2 * mask + weighted


def shared_bias_bytes(scene: Scene) -> int:
    """Biases that outlive the blocks: a checkpoint holds those of encoder, decoder and between them; without one, the
    kernels of all blocks hold the one between as it is, where no padding is laid over it.
    """
    if not scene.architecture.position_bias:
        return 0
    if scene.checkpointed:
        return 2 * _own_bias_bytes(scene) + _zero_bias_bytes(scene)
    shared = scene.numerics.attention == "efficient" and not scene.numerics.masked
    n = scene.numerics
    buckets = 2 * INDEX_BYTES * n.seq_len * n.seq_len if n.trains_all else 0
    return shared * _zero_bias_bytes(scene) + buckets


def bias_gradient_bytes(scene: Scene) -> int:
    """Gradients of shared biases that the decoder's last block leaves to those before it: of the one between encoder and
    decoder, which a checkpoint makes a leaf; of the decoder's own, where it is trained.
    """
    if not scene.architecture.position_bias:
        return 0
    return _zero_bias_bytes(scene) + scene.numerics.trains_all * _own_bias_bytes(scene)


def remade_bias_bytes(scene: Scene) -> int:
    """The decoder's first block makes its own bias anew beside the shared ones, and holds it until its forward pass is over."""
    return _own_bias_bytes(scene) if scene.architecture.position_bias else 0


def _own_bias_bytes(scene: Scene) -> int:
    """A learned bias, in the dtype of an embedding."""
    return scene.architecture.num_heads * scene.numerics.seq_len * scene.numerics.seq_len * scene.numerics.cache


def _zero_bias_bytes(scene: Scene) -> int:
    """The zeros between encoder and decoder, in the dtype of queries."""
    n = scene.numerics
    return scene.architecture.num_heads * n.seq_len * n.seq_len * n.product(n.norm_weight)
