"""What the shipped trainer can do."""

from __future__ import annotations

from typing import Final

from remote.contract.strategy import Strategy
from remote.contract.value import Value


class Capabilities(Value, frozen=True, kw_only=True):
    """The values of Strategy and Task that the shipped trainer carries out. A plan outside them is "not yet runnable"."""

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    quants: tuple[str, ...]
    optimizers: tuple[str, ...]
    checkpointing: tuple[str, ...]
    attention: tuple[str, ...]
    losses: tuple[str, ...]
    kernels: tuple[str, ...]
    sharding: tuple[str, ...]
    offload: tuple[str, ...]
    max_gpus: int
    unquantized: tuple[str, ...] = ()  # methods that read the weights' numbers, and so need 16 or 32 bits

    def missing(self, strategy: Strategy, task: str = "causal_lm") -> tuple[str, ...]:
        """What of `strategy` the trainer cannot do, as "key=value" words; empty when it can do all of it."""
        asked: tuple[tuple[str, str, tuple[str, ...]], ...] = (
            ("task", task, self.tasks),
            ("method", strategy.method, self.methods),
            ("quant", strategy.quant, self.quants),
            ("optimizer", strategy.optimizer, self.optimizers),
            ("gradient_checkpointing", strategy.gradient_checkpointing, self.checkpointing),
            ("attention", strategy.attention, self.attention),
            ("loss", strategy.loss, self.losses),
            ("kernels", strategy.kernels, self.kernels),
            ("sharding", strategy.sharding, self.sharding),
            ("offload", strategy.offload, self.offload),
        )
        missing = [f"{key}={value}" for key, value, known in asked if value not in known]
        over_packed = strategy.quant != "none" and strategy.method in self.unquantized
        missing += [f"method={strategy.method} over quant={strategy.quant}"] * over_packed
        missing += ["optimizer_in_backward"] * strategy.optimizer_in_backward
        missing += ["activation_offload"] * strategy.activation_offload
        missing += [f"num_gpus={strategy.num_gpus}"] * (strategy.num_gpus > self.max_gpus)
        return tuple(missing)


CAPABILITIES: Final = Capabilities(
    tasks=("causal_lm",),
    methods=(
        *("lora", "rslora", "pissa", "lora_plus", "dora", "adalora", "loha", "lokr", "oft", "boft", "vera", "fourierft", "ia3"),
        "prompt_tuning",
        "p_tuning",
        "prefix_tuning",
        "lora_prompt",
        "bottleneck",
        "ln_tuning",
        "bitfit",
        "freeze",
        "full",
    ),
    quants=("none", "nf4", "int8"),
    optimizers=("adamw_torch", "adamw_torch_fused", "adamw_8bit", "sgd", "lora_fa"),
    checkpointing=("off", "reentrant", "non_reentrant"),
    attention=("sdpa", "eager"),
    losses=("hf",),
    kernels=("eager",),
    sharding=("none",),
    offload=("none",),
    max_gpus=1,
    unquantized=("pissa",),
)
