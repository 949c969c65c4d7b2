"""16-bit copies of wider parameters: what autocast casts, and how long each copy stays."""

from __future__ import annotations

from planner.estimators.memory.scene import Scene
from planner.methods import ADAPTERS, METHODS, carrying_blocks, expert_params, saved_module_params, trained_blocks


def autocast_copies(scene: Scene) -> int:
    """16-bit copies of fp32 parameters that train, which autocast keeps while it is on: of an adapter, and of a base's own
    linears where their blocks, being computed again, keep none for backward.
    """
    return cached_copies(scene) if scene.checkpointed else _adapter_copies(scene)


def cached_copies(scene: Scene) -> int:
    """Those that are there after the last block of a pass whose blocks keep nothing."""
    return _linear_copies(scene) + _adapter_copies(scene)


def _linear_copies(scene: Scene) -> int:
    """Those of the base's own linears, of all blocks here. derived: autocast's cache is for leaves that ask for a gradient."""
    n, a, depth = scene.numerics, scene.architecture, scene.architecture.depth
    if not n.copies_weights or n.weight == n.autocast or not n.trains_linears:
        return 0
    weights = sum(
        part.num_layers * linear.num_weights for part in a.parts for linear in part.linears if linear.name in n.trains_linears
    )
    return scene.trained.stage.of_blocks(weights * min(depth, trained_blocks(a, scene.strategy)) // depth) * n.autocast


def _adapter_copies(scene: Scene) -> int:
    """Those of what hangs on linears, or makes a prompt. Neither words that are looked up nor vectors are cast."""
    n, method = scene.numerics, METHODS[scene.strategy.method]
    wanted = n.copies_weights and scene.trained.item > n.autocast and not method.moves
    wanted = wanted and "lora" not in n.fused  # fused products cast for themselves and keep nothing
    wanted = wanted and (n.adapter_kind is None or ADAPTERS[n.adapter_kind].leaves)
    if not wanted:
        return 0
    apart = saved_module_params(scene.architecture, scene.strategy)  # the head's copy is its product's
    on_experts = expert_params(scene.architecture, scene.strategy)  # peft casts these itself, at each use
    apart = scene.trained.stage.of_ends(apart) + scene.trained.stage.of_blocks(on_experts)
    return (scene.trained.params - apart) * n.autocast


def held_copies(scene: Scene) -> int:
    """Those of them that a graph holds until backward has used it: of a checkpointed block none, of a prompt's encoder all."""
    copies = _adapter_copies(scene)
    if not copies or not scene.checkpointed:
        return copies
    return _encoder_copies(scene)


def copies_made_again(scene: Scene) -> int:
    """Those of the one block that is computed again."""
    if not scene.checkpointed:
        return 0
    blocks = min(scene.share.num_layers, carrying_blocks(scene.architecture, scene.strategy))
    return max(0, _adapter_copies(scene) - _encoder_copies(scene)) // blocks


def _encoder_copies(scene: Scene) -> int:
    prompt = METHODS[scene.strategy.method].prompt
    if prompt is None or prompt.encoder is None:
        return 0
    return prompt.encoder(scene.architecture, scene.strategy) * scene.numerics.autocast
