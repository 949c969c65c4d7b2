"""A Strategy in a few words, the same wherever one is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from planner.strategy.precision import BITSANDBYTES
from remote.contract import Offload, Strategy, disk_blocks, passes_vocabulary

SHORT_DTYPES: Final = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
IN_RAM: Final[Mapping[Offload, str]] = {
    "none": "",
    "optimizer": ", optimizer in RAM",
    "stream": ", streamed from RAM",
    "params": ", weights and optimizer in RAM",
}


def describe(strategy: Strategy) -> str:
    """A strategy in a few words: "lora r16 nf4, batch 4 x 4, checkpointing"."""
    rank = f" r{strategy.rank}" if strategy.rank is not None else ""
    dtypes: list[str] = [strategy.quant] if strategy.quant != "none" else [SHORT_DTYPES[strategy.param_dtype]]
    if strategy.autocast == "float16" and "f16" not in dtypes:
        dtypes.append("f16")  # bfloat16 is the rule, and goes without saying
    gpus = f", {strategy.num_gpus} GPUs {strategy.sharding}" if strategy.num_gpus > 1 else ""
    recompute = ", checkpointing" if strategy.gradient_checkpointing != "off" else ""
    batch = f"{strategy.micro_batch_size}x{strategy.gradient_accumulation_steps}"
    kernels = "" if strategy.kernels == "eager" else f", {strategy.kernels} kernels"
    below = " and disk" if disk_blocks(strategy) else ""
    below += ", embedding and head too" if passes_vocabulary(strategy) else ""
    spared = f"{kernels}{recompute}{sparing(strategy)}{IN_RAM[strategy.offload]}{below}"
    return f"{strategy.method}{rank} {' '.join(dtypes)}, batch {batch}{gpus}{spared}"


def sparing(strategy: Strategy) -> str:
    """What spares memory beside where the weights lie, each behind a comma: ", adamw_8bit, liger loss"; else nothing."""
    optimizer = "" if strategy.optimizer.startswith("adamw_torch") else f", {strategy.optimizer}"
    loss = "" if strategy.loss == "hf" else f", {strategy.loss} loss"
    whole = strategy.quant in BITSANDBYTES and strategy.sharding in ("none", "ddp")
    norms = ", 16-bit norms" if whole and strategy.kbit_upcast == "none" else ""  # parts have no others
    return f"{optimizer}{loss}{norms}"
