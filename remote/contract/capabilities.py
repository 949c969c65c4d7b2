"""What the shipped trainer can do."""

from __future__ import annotations

from typing import Final

from remote.contract.strategy import STORED_QUANTS, Strategy
from remote.contract.value import Value

# Families whose norms, rotations and gated MLPs are modules that `kernels: fused` knows. See `remote.kernels.fused`.
FUSED_FAMILIES: Final = ("llama", "mistral", "qwen2", "qwen3", "gemma", "granite", "smollm3", "olmo2")


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
    headless: tuple[str, ...] = ()  # methods that train no head beside what they add, and so no classification
    paired: tuple[str, ...] = ()  # methods that were tried on an encoder with a decoder: task seq2seq
    paired_packed: tuple[str, ...] = ()  # those of them that were over weights in 4 and 8 bits
    unpacked: tuple[str, ...] = ()  # methods that put tokens of their own before a row, from which its positions follow
    unquantized: tuple[str, ...] = ()  # methods that read the weights' numbers, and so need 16 or 32 bits
    compiled: tuple[str, ...] = ()  # methods whose blocks were compiled into one graph
    stored_quants: tuple[str, ...] = ()  # quants that a base must lie in: nothing here packs it so
    over_stored: tuple[str, ...] = ()  # methods that were tried over these
    uncompiled_quants: tuple[str, ...] = ()  # quants whose linears no graph can hold
    unstreamed: tuple[str, ...] = ()  # methods that change the base's weights, of which the host's copy would know nothing

    def teaches(self, method: str, task: str) -> bool:
        """Whether it can do the method for the task, whatever else a strategy says."""
        for_task = {"classification": method not in self.headless, "seq2seq": method in self.paired}
        return method in self.methods and for_task.get(task, True)

    def missing(self, strategy: Strategy, task: str = "causal_lm", *, packing: bool = False) -> tuple[str, ...]:
        """What of `strategy` the trainer cannot do, as "key=value" words; empty when it can do all of it."""
        asked: tuple[tuple[str, str, tuple[str, ...]], ...] = (
            ("task", task, self.tasks),
            ("method", strategy.method, self.methods),
            ("quant", strategy.quant, (*self.quants, *self.stored_quants)),
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
        missing += self._missing_of_stored(strategy, task) if strategy.quant in self.stored_quants else []
        without_head = task == "classification" and strategy.method in self.headless
        missing += [f"method={strategy.method} for task={task}"] * without_head
        missing += self._missing_of_pairs(strategy) if task == "seq2seq" else []
        missing += [f"packing under method={strategy.method}"] * (packing and strategy.method in self.unpacked)
        missing += [f"packing for task={task}"] * (packing and task != "causal_lm")
        missing += self._missing_of_streaming(strategy, task) if strategy.offload == "stream" else []
        missing += self._missing_of_compiling(strategy, task) if strategy.kernels == "compiled" else []
        missing += self._missing_of_fusing(strategy, task) if strategy.kernels == "fused" else []
        missing += ["optimizer_in_backward"] * strategy.optimizer_in_backward
        missing += ["activation_offload"] * strategy.activation_offload
        missing += [f"num_gpus={strategy.num_gpus}"] * (strategy.num_gpus > self.max_gpus)
        return tuple(missing)

    def _missing_of_stored(self, strategy: Strategy, task: str) -> list[str]:
        """Linears that somebody else's package computes lie on the device, and only what was seen to come home is done."""
        over = {
            "method": (strategy.method, strategy.method not in self.over_stored),
            "offload": (strategy.offload, strategy.offload != "none"),
            "task": (task, STORED_QUANTS.get(strategy.quant) == "hqq" and task != "causal_lm"),
        }
        return [f"{key}={value} over quant={strategy.quant}" for key, (value, is_missing) in over.items() if is_missing]

    def _missing_of_pairs(self, strategy: Strategy) -> list[str]:
        """A decoder beside an encoder makes its logits whole, and its blocks are in one place."""
        missing = [f"method={strategy.method} for task=seq2seq"] * (strategy.method not in self.paired)
        missing += [f"loss={strategy.loss} for task=seq2seq"] * (strategy.loss != "hf")
        missing += [f"offload={strategy.offload} for task=seq2seq"] * (strategy.offload != "none")
        packed = strategy.quant != "none" and strategy.method in self.paired and strategy.method not in self.paired_packed
        missing += [f"method={strategy.method} over quant={strategy.quant} for task=seq2seq"] * packed
        return missing

    def _missing_of_compiling(self, strategy: Strategy, task: str) -> list[str]:
        """A graph holds the addresses of its weights, so none of them may come and go."""
        over = {
            "task": (task, task != "causal_lm"),
            "method": (strategy.method, strategy.method not in self.compiled),
            "quant": (strategy.quant, strategy.quant in self.uncompiled_quants),
            "offload": (strategy.offload, strategy.offload != "none"),
        }
        return [f"kernels=compiled with {key}={value}" for key, (value, is_missing) in over.items() if is_missing]

    def _missing_of_fusing(self, strategy: Strategy, task: str) -> list[str]:
        """Norms, rotations and gates read no packed weight; which tasks and what passes by was not tried."""
        over = {"task": (task, task != "causal_lm"), "offload": (strategy.offload, strategy.offload != "none")}
        return [f"kernels=fused with {key}={value}" for key, (value, is_missing) in over.items() if is_missing]

    def _missing_of_streaming(self, strategy: Strategy, task: str) -> list[str]:
        """Slots are refilled before the backward pass, so blocks are computed again, but for the last where that is said. A
        learned prompt begins at rows of the embedding, and a classifier's head is no output matrix.
        """
        said = strategy.streaming
        missing = ["offload=stream without gradient_checkpointing"] * (strategy.gradient_checkpointing == "off")
        missing += [f"offload=stream under method={strategy.method}"] * (strategy.method in self.unstreamed)
        if said is not None:
            most = strategy.gradient_accumulation_steps
            missing += [f"num_visits={said.num_visits}"] * (not 1 <= said.num_visits <= most)
            missing += [f"num_blocks_without_recompute={said.num_blocks_without_recompute}"] * (
                said.num_blocks_without_recompute < 0
            )
            missing += [f"num_slots={said.num_slots}"] * (said.num_slots < 1)
            missing += [f"num_resident_blocks={said.num_resident_blocks}"] * (said.num_resident_blocks < 0)
            missing += [f"num_disk_blocks={said.num_disk_blocks}"] * (said.num_disk_blocks < 0)
            prompted = said.vocabulary_passes and strategy.method in self.unpacked
            missing += [f"vocabulary_passes under method={strategy.method}"] * prompted
            missing += [f"vocabulary_passes for task={task}"] * (said.vocabulary_passes and task != "causal_lm")
        return missing


# Methods whose gradients and weights stay where they are, and that do the same in each step.
RECORDED_METHODS: Final = ("lora", "rslora", "pissa", "lora_plus")


def ungraphed(strategy: Strategy, task: str) -> tuple[str, ...]:
    """What of a job no CUDA graph can hold, as "key=value" words. derived, 2026-11-28: bitsandbytes' int8 and a mask of
    padding are looked at by the host; a scaler of float16, and blocks that pass by, are other tensors from step to step.
    """
    over: tuple[tuple[str, str, bool], ...] = (
        ("task", task, task != "causal_lm"),
        ("method", strategy.method, strategy.method not in RECORDED_METHODS),
        ("quant", strategy.quant, strategy.quant not in ("none", "nf4", "fp4")),
        ("kernels", strategy.kernels, strategy.kernels != "eager"),
        ("offload", strategy.offload, strategy.offload != "none"),
        ("autocast", strategy.autocast, strategy.autocast == "float16"),
        ("dropout", f"{strategy.dropout:g}", strategy.dropout > 0),
        ("padded", "true", strategy.padded),
        ("gradient_checkpointing", "reentrant", strategy.gradient_checkpointing == "reentrant"),
    )
    return tuple(f"{key}={value}" for key, value, is_missing in over if is_missing)


CAPABILITIES: Final = Capabilities(
    tasks=("causal_lm", "classification", "seq2seq"),
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
    quants=("none", "nf4", "fp4", "int8"),
    optimizers=("adamw_torch", "adamw_torch_fused", "adamw_8bit", "sgd", "lora_fa"),
    checkpointing=("off", "reentrant", "non_reentrant"),
    attention=("sdpa", "eager"),
    losses=("hf", "chunked", "liger"),
    kernels=("eager", "fused", "compiled"),
    sharding=("none",),
    offload=("none", "stream"),
    max_gpus=1,
    headless=("pissa", "prompt_tuning", "p_tuning", "prefix_tuning", "lora_prompt"),
    paired=(
        *("lora", "rslora", "pissa", "lora_plus", "dora", "adalora", "loha", "lokr", "oft", "boft", "vera", "fourierft", "ia3"),
        *("ln_tuning", "full", "freeze", "bottleneck", "prompt_tuning", "p_tuning", "prefix_tuning", "lora_prompt"),
    ),
    paired_packed=(
        *("lora", "rslora", "lora_plus", "dora", "adalora", "loha", "lokr", "oft", "boft", "vera", "fourierft", "ia3"),
        *("ln_tuning", "bottleneck", "prompt_tuning", "p_tuning", "prefix_tuning", "lora_prompt"),
    ),
    unpacked=("prompt_tuning", "p_tuning", "prefix_tuning", "lora_prompt"),
    unquantized=("pissa",),
    # seen 2026-11-28, torch 2.15, peft 0.21: one graph for each kind of block, with the losses of eager ones; DoRA, LoHa and
    # bitsandbytes' int8 break theirs (a note left on a module, a number drawn and looked at) and would run eagerly
    compiled=("lora", "rslora", "pissa", "lora_plus", "oft", "vera", "ia3", "ln_tuning", "bitfit", "freeze", "full"),
    uncompiled_quants=("int8", *STORED_QUANTS),
    stored_quants=tuple(STORED_QUANTS),
    over_stored=("lora", "rslora", "lora_plus"),
    unstreamed=("pissa", "ln_tuning", "bitfit", "freeze", "full"),
)
