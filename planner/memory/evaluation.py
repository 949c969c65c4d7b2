"""GPU memory of evaluation: a forward pass without gradients, its logits and loss, and the cache of generation."""

from __future__ import annotations

from planner.memory.instants import Parts, Scene, resident

FORWARD_BYTES_PER_LOGIT = 10  # derived: 16-bit logits, an fp32 copy, log-softmax (transformers' ForCausalLMLoss)


def evaluation_parts(scene: Scene) -> Parts:
    """What is alive in one evaluation batch; what the case does not say is as in training."""
    asked = scene.stack.evaluation
    micro_batch = (asked.micro_batch_size if asked else None) or scene.strategy.micro_batch_size
    seq_len = (asked.seq_len if asked else None) or scene.strategy.seq_len
    tokens = micro_batch * seq_len
    scale = tokens / scene.numerics.tokens
    kept = 2 * tokens * scene.head.width if asked and asked.logits == "kept_gpu" else 0
    cached_tokens = micro_batch * (seq_len + asked.generate_tokens) if asked and asked.generate_tokens else 0
    item = scene.numerics.autocast or scene.numerics.weight
    parts = dict(resident(scene))
    parts["gradients"] = 0
    parts["activations"] = round(scale * scene.hidden_bytes) + 2 * cached_tokens * scene.architecture.kv_size * item * (
        scene.share.num_layers
    )
    parts["logits"] = FORWARD_BYTES_PER_LOGIT * tokens * scene.head.width + kept
    parts["temporaries"] = 0
    block = round(scale * scene.block_profile.plain_peak)  # a block and the head never run at the same time
    return parts | ({"temporaries": block, "logits": kept} if block > parts["logits"] else {})
