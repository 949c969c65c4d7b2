"""Which modules of a model a job means."""

from __future__ import annotations

import re
from typing import Any, Final

from remote.ends import bad_job

ALL_LINEAR: Final = "all-linear"
DEFAULT: Final = "default"
BLOCK_NUMBER: Final = re.compile(r"\.(?:layers|h|blocks?|layer)\.(\d+)\.")  # how transformers' models name their blocks
# by transformers' names, of those that peft lacks; "output.dense" ends attention as well, as where peft knows it (BERT)
FEED_FORWARD_ENDS: Final = ("down_proj", "output_linear", "output.dense", "lin2", "mlp.c_proj", "DenseReluDense.wo")
NORM_WORDS: Final = ("norm", "ln_", "layernorm")  # how transformers' models name their normalisation modules


def block_number(name: str) -> int | None:
    """The block that a parameter of this name belongs to; None outside of the blocks."""
    found = BLOCK_NUMBER.search(f".{name}")
    return None if found is None else int(found[1])


def block_path(name: str) -> str:
    """The path of the block that a parameter of this name belongs to; empty outside of the blocks."""
    found = BLOCK_NUMBER.search(f".{name}")
    return "" if found is None else f".{name}"[: found.end()]


def within_block(name: str) -> str:
    """The path of a parameter within its block; empty outside of the blocks."""
    found = BLOCK_NUMBER.search(f".{name}")
    return "" if found is None else f".{name}"[found.end() :]


def is_norm(module: Any) -> bool:
    """Whether a module normalises, by the name of its class."""
    return any(word in type(module).__name__.lower() for word in NORM_WORDS)


def linears_in(model: Any, layers: tuple[int, ...]) -> set[str]:
    """Full names of the linear modules of these blocks; GPT-2's are Conv1D."""
    import torch
    from transformers.pytorch_utils import Conv1D

    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    linears += stored_linears(model)
    routers = routers_in(model)
    found = {name for name in linears if block_number(f"{name}.") in layers and name not in routers}
    if not found:
        raise bad_job(f"the model has no linear modules in layers {', '.join(map(str, layers))}")
    return found


def stored_linears(model: Any) -> list[str]:
    """Full names of linears that lie packed in GPTQ, AWQ or HQQ, which peft 0.21 does not count among all linears."""
    return [name for name, module in model.named_modules() if hasattr(module, "qweight") or hasattr(module, "W_q")]


def linears_within(model: Any, names: tuple[str, ...]) -> list[str]:
    """Full names of the linear modules in those that these end the path of: what trains whole gets no adapter beside."""
    import torch

    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and any(f".{name}." in f".{path}." for name in names)
    ]


def default_targets(model: Any) -> list[str] | None:
    """What peft targets on this type of model where nothing is said; None where it knows nothing.

    Said aloud: peft 0.21 itself forgets them on types whose experts transformers 5 fused (Mixtral).
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    targets: list[str] | None = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model.config.model_type)
    return targets


def feed_forward_ends(model: Any) -> list[str] | None:
    """The last linears of feed-forward modules, which IA³ scales before and not behind; None where peft itself knows them."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as KNOWN

    if KNOWN.get(model.config.model_type):  # of MT5 it knows that it has none
        return None
    names = [f".{name}" for name, _ in model.named_modules()]
    return [end for end in FEED_FORWARD_ENDS if any(name.endswith(f".{end}") for name in names)]


def routers_in(model: Any) -> list[str]:
    """Full names of linears that choose experts (Llama 4, Phi-3.5-MoE): they return several tensors, and peft expects one."""
    import torch

    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and type(module).__name__.endswith("Router")
    ]
