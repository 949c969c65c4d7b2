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
    kernels of all blocks hold the one between as it is, where it is laid over by no padding and cast for none.
    """
    if not scene.architecture.position_bias:
        return 0
    if scene.checkpointed:
        return 2 * _own_bias_bytes(scene) + _zero_bias_bytes(scene)
    n = scene.numerics
    buckets = 2 * INDEX_BYTES * n.seq_len * n.seq_len if n.trains_all else 0
    return (_zero_bias_bytes(scene) if _are_kept(scene) else 0) + buckets


def _are_kept(scene: Scene) -> bool:
    """Whether kernels keep the zeros themselves."""
    n = scene.numerics
    return n.attention == "efficient" and not n.masked and n.queries == (n.autocast or n.queries)


def named_bias_bytes(scene: Scene) -> int:
    """Biases that the decoder's loop over blocks has names for, and nothing else holds, while the model runs."""
    if not scene.architecture.position_bias or scene.checkpointed:
        return 0
    return _own_bias_bytes(scene) + (0 if _are_kept(scene) else _zero_bias_bytes(scene))


def bias_gradient_bytes(scene: Scene) -> int:
    """Gradients of shared biases that the decoder's last block leaves to those before it: of the one between encoder and
    decoder, which a checkpoint makes a leaf; of the decoder's own, where it is trained or a re-entrant checkpoint hands it on.
    """
    if not scene.architecture.position_bias:
        return 0
    own = scene.numerics.trains_all or scene.numerics.own_bias_asks
    zeros = zeros_copy_bytes(scene) if not scene.numerics.own_bias_asks else 0
    return (zeros or _zero_bias_bytes(scene)) + own * _own_bias_bytes(scene)


def zeros_copy_bytes(scene: Scene) -> int:
    """The zeros as kernels take them, where autocast casts them once for all blocks: a leaf that asks for a gradient, which
    then adds up in that dtype. With a mask laid over it, it is a leaf no more.
    """
    n = scene.numerics
    cached = n.zero_bias_asks and n.attention != "eager" and not n.masked and 0 < n.autocast < n.queries
    return scene.architecture.num_heads * n.seq_len * n.seq_len * n.autocast if cached else 0


def bias_zeros_bytes(scene: Scene) -> int:
    """Zeros for the gradients of both biases that the last block hands back, and that nobody uses.

    derived: CheckpointFunction leaves `set_materialize_grads` as it is.
    """
    return bias_gradient_bytes(scene) if scene.numerics.own_bias_asks else 0


def remade_bias_bytes(scene: Scene) -> int:
    """What the decoder's first block holds more of its biases than stood: it makes both anew, and of those before only the
    zeros are there, as a leaf that the graph of the first pass knows. A re-entrant checkpoint has no such graph.
    """
    if not scene.architecture.position_bias or scene.numerics.own_bias_asks:
        return 0
    return _zero_bias_bytes(scene)


def _own_bias_bytes(scene: Scene) -> int:
    """A learned bias, in the dtype of an embedding."""
    return scene.architecture.num_heads * scene.numerics.seq_len * scene.numerics.seq_len * scene.numerics.cache


def _zero_bias_bytes(scene: Scene) -> int:
    """The zeros between encoder and decoder, in the dtype of queries."""
    n = scene.numerics
    return scene.architecture.num_heads * n.seq_len * n.seq_len * n.queries
