"""A model as the trainer has it before its first step, with random weights: what several benchmarks step."""

from __future__ import annotations

from typing import Any

from remote.contract import Loop, Strategy


def built(config: dict[str, Any], strategy: Strategy, device: str, *, seed: int) -> Any:
    """A random base from that seed, prepared, adapted, with its kernels, in training mode. What a family's module was told by
    a model before is taken back: all of a process share it.
    """
    import torch

    from remote.adapters import adapt, base_of
    from remote.bases.base import checkpoint_activations, upcast
    from remote.kernels import compile_blocks, fuse, unfuse
    from remote.measure.random_weights import random_model
    from remote.streaming import settle

    torch.manual_seed(seed)
    model = random_model(config, strategy, device)
    if strategy.offload != "stream":  # what is streamed is prepared block by block
        upcast(model, strategy)
    model = adapt(model, strategy, Loop())
    settle(model)
    checkpoint_activations(base_of(model), strategy)
    compile_blocks(model, strategy)
    unfuse(model)
    fuse(model, strategy)
    return model.train()
