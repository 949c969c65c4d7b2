"""Methods that train parts of the base where they stand: biases, norms, the last blocks."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final

from remote.adapters.options import options_of
from remote.adapters.targets import block_number, block_path, is_norm, within_block
from remote.adapters.wrapping import with_adapter
from remote.contract import Loop, Strategy
from remote.ends import bad_job

MODULES: Final = "modules"  # method_options of freeze: patterns for module paths within a block; all of them without it


def whole(model: Any, _strategy: Strategy, _loop: Loop) -> Any:
    """Full fine-tuning: every weight trains."""
    return model.requires_grad_(requires_grad=True)


def bitfit(model: Any, strategy: Strategy, loop: Loop) -> Any:
    """BitFit (Ben Zaken et al., arXiv:2106.10199): every bias trains, of linears and of norms."""
    options_of(strategy, (), "bitfit")
    return _trained(model, lambda name: name.rpartition(".")[2] == "bias" and _in(loop.layers, name), strategy)


def freeze(model: Any, strategy: Strategy, loop: Loop) -> Any:
    """The last `trainable_layers` blocks train, or the blocks that `layers` names; of each all, or what `modules` names. Of
    none a head that is new trains alone.
    """
    options = options_of(strategy, (MODULES,), "freeze")
    if trains_head_alone(strategy, loop) and strategy.modules_to_save:
        return model
    last = _last_blocks(model, strategy) if loop.layers is None else frozenset()
    patterns = tuple(options.get(MODULES, ("*",)))
    within = {pattern: _matched(model, pattern) for pattern in patterns}
    for pattern, found in within.items():
        if not found:
            raise bad_job(f'method_options modules has "{pattern}", which matches nothing in a block of this model')
    wanted = set().union(*within.values())
    layers = loop.layers or ()

    def trains(name: str) -> bool:
        return name in wanted and (block_path(name) in last or block_number(name) in layers)

    return _trained(model, trains, strategy)


def trains_head_alone(strategy: Strategy, loop: Loop) -> bool:
    """Whether nothing of the base trains: what it gives for a row is then the same in every step."""
    return strategy.method == "freeze" and strategy.trainable_layers == 0 and loop.layers is None


def ln_tuning(model: Any, strategy: Strategy, loop: Loop) -> Any:
    """LayerNorm tuning (Zhao et al., arXiv:2312.11420) of every norm, of peft's default norms, or of those named.

    A norm keeps its dtype, whatever `adapter_dtype` says: what follows it expects no other.
    """
    from peft import LNTuningConfig

    options = options_of(strategy, (), "ln_tuning")
    said = strategy.target_modules
    targets: Any = None if said == "default" else list(said)
    if said == "all-linear":  # the contract's default, which means no linear here
        targets = [name for name, module in model.named_modules() if is_norm(module)]
    if loop.layers is not None:
        suffixes = None if said == "all-linear" else targets
        targets = [
            name
            for name, module in model.named_modules()
            if block_number(f"{name}.") in loop.layers
            and (is_norm(module) if suffixes is None else any(f".{name}".endswith(f".{suffix}") for suffix in suffixes))
        ]
    config = LNTuningConfig(**options, target_modules=targets, task_type="CAUSAL_LM")
    return with_adapter(model, config, strategy, loop.init_adapter, keeps_dtype=True)


def _matched(model: Any, pattern: str) -> set[str]:
    """Names of the parameters within blocks whose path, or a module above them, matches."""
    found = set()
    for name, _ in model.named_parameters():
        steps = within_block(name).split(".")
        if steps[0] and any(fnmatchcase(".".join(steps[:end]), pattern) for end in range(1, len(steps) + 1)):
            found.add(name)
    return found


def _last_blocks(model: Any, strategy: Strategy) -> frozenset[str]:
    """Their paths. Of two stacks the decoder's stand above the encoder's, as in their order."""
    if strategy.trainable_layers is None:
        raise bad_job('method "freeze" needs the blocks that train; set training.trainable_layers')
    paths = list(dict.fromkeys(path for name, _ in model.named_parameters() if (path := block_path(name))))
    count = len(paths)
    if strategy.trainable_layers > count:
        raise bad_job(f"the model has {count} blocks, and trainable_layers is {strategy.trainable_layers}; say 1 to {count}")
    return frozenset(paths[count - strategy.trainable_layers :])


def _in(layers: tuple[int, ...] | None, name: str) -> bool:
    return layers is None or block_number(name) in layers


def _trained(model: Any, wanted: Callable[[str], bool], strategy: Strategy) -> Any:
    chosen = [parameter for name, parameter in model.named_parameters() if wanted(name)]
    if not chosen:
        raise bad_job(f'this model has nothing that method "{strategy.method}" would train there; choose another method')
    for parameter in chosen:
        parameter.requires_grad_(requires_grad=True)
    return model
