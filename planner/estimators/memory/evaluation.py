"""GPU memory of evaluation: a forward pass without gradients, its logits and loss, and the cache of generation."""

from __future__ import annotations

import msgspec

from planner.estimators.memory.closed import Filled
from planner.estimators.memory.copies import cached_copies
from planner.estimators.memory.frames import collected_bytes, positions_bytes, prefix_cache_bytes, returned_weights_bytes
from planner.estimators.memory.instants import Parts
from planner.estimators.memory.kept import batch_bytes
from planner.strategy.stack import EvaluationAsked
from remote.contract import Strategy


def as_evaluated(strategy: Strategy, asked: EvaluationAsked) -> Strategy:
    """The strategy with evaluation's batch; what the case does not say of it is as in training."""
    return msgspec.structs.replace(
        strategy,
        micro_batch_size=asked.micro_batch_size or strategy.micro_batch_size,
        seq_len=asked.seq_len or strategy.seq_len,
    )


def evaluation_parts(form: Filled, strategy: Strategy, asked: EvaluationAsked) -> Parts:
    """What is alive in one evaluation batch, of a form and a strategy that hold that batch.

    A block, the head and the loss never run at the same time: the largest of the three counts.
    """
    scene = form.scene
    item = scene.numerics.autocast or scene.numerics.weight
    kept = item * form.number(scene.numerics.tokens) * scene.head.width if asked.logits == "kept_gpu" else 0
    # locals of the model's loop: the weights that the block before has handed back, and what the embedding gave
    before = returned_weights_bytes(scene) + scene.entering_bytes if scene.share.num_layers > 1 else 0
    before += positions_bytes(scene) + prefix_cache_bytes(scene) + collected_bytes(scene)
    blocks = tuple(before + size for kind in scene.kinds for size in kind.played.profile.plain_peak)
    still = {name: form.number(size) for name, size in scene.resident.items()} | {"gradients": 0}
    with_head = {"gathered_weights": still["gathered_weights"] + scene.fetched_head}
    running = {"activations": form.number(scene.hidden_bytes), "autocast_copies": form.number(cached_copies(scene))}
    inside = running | {"activations": running["activations"] + form.number(batch_bytes(scene))}
    moments: tuple[Parts, ...] = (
        inside | {"temporaries": max(map(form.number, blocks)), "logits": kept},
        running | with_head | {"logits": kept + max(map(form.number, scene.evaluation.model))},
        {"logits": kept + max(map(form.number, scene.evaluation.after))},
    )
    parts = still | max(moments, key=lambda moment: sum(moment.values()))
    if not asked.generate_tokens:
        return parts
    positions = strategy.micro_batch_size * (strategy.seq_len + asked.generate_tokens)
    return parts | {"cache": form.number(scene.cache_bytes(positions, item))}
