"""What frames of Python hold while a model runs, whether autograd needs it or not: arguments, locals, what blocks hand back."""

from __future__ import annotations

from typing import Final

from planner.estimators.memory.kept import idle_bytes
from planner.estimators.memory.scene import Kind, Scene
from planner.estimators.memory.step.blocks.attention import weights_item
from planner.estimators.memory.step.operations import FP32


def argument_bytes(scene: Scene, kind: Kind) -> int:
    """What Python's frames hold beside what is saved: the block's input, and what embeddings gave, locals of the model."""
    if scene.checkpointed:
        return positions_bytes(scene)
    first_keeps = kind.first.profile.saves_input and not idle_bytes(scene)
    embedded = scene.entering_bytes if scene.num_blocks > 1 and not first_keeps else 0
    collected = 0 if kind.played.profile.saves_input else collected_bytes(scene)
    return scene.hidden_bytes + embedded + positions_bytes(scene) + collected


COLLECTS_STATES: Final = frozenset({"deberta-v2"})  # derived: DebertaV2Model asks its encoder for all hidden states


def collected_bytes(scene: Scene) -> int:
    """What every block but the last two has given, in a tuple that the loop over blocks makes, asked for it or not."""
    collects = scene.architecture.model_type in COLLECTS_STATES
    return max(0, scene.num_blocks - 2) * scene.hidden_bytes if collects else 0


# derived: the names that these models give to learned positions; of one sequence for all, or of each
POSITIONS_NAMED: Final = {"gpt2": "one", "gpt_bigcode": "one", "opt": "each"}


def positions_bytes(scene: Scene) -> int:
    """Learned positions, looked up: a local of the model beside what they are added to."""
    a, n = scene.architecture, scene.numerics
    rows = {"one": n.seq_len, "each": n.tokens}
    named = POSITIONS_NAMED.get(a.model_type)
    return 0 if named is None else rows[named] * a.hidden_size * n.cache


def returned_weights_bytes(scene: Scene) -> int:
    """Attention's weights that a block hands back: a local of the loop over blocks, until the next one has come back."""
    a, n = scene.architecture, scene.numerics
    if not a.returns_weights or n.attention != "eager":
        return 0
    return a.num_heads * n.pairs * weights_item(a, n)


def zero_weights_bytes(scene: Scene) -> int:
    """Zeros for a gradient of attention's weights that a block returns beside its state; the weights themselves are saved.

    derived: CheckpointFunction leaves `set_materialize_grads` as it is.
    """
    return returned_weights_bytes(scene) if scene.strategy.gradient_checkpointing == "reentrant" else 0


def cached_item(scene: Scene) -> int:
    """Bytes of a number in the cache of a prefix: the learned ones joined with keys as they come from their linear."""
    a, n = scene.architecture, scene.numerics
    normed = (
        FP32 if n.autocast and a.norm == "layer" else n.residual if a.norm == "rms_fp32" else max(n.residual, n.norm_weight)
    )
    return max(n.cache, n.product(normed))


def prefix_cache_bytes(scene: Scene) -> int:
    """Keys and values of all blocks, which the cache of a prefix holds while the model runs."""
    return scene.cache_bytes(scene.numerics.keys, cached_item(scene)) if scene.numerics.prefix else 0
