"""METHODS: one row per way to tune, with what it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from planner.methods import linears, parts, prompts
from planner.methods.method import EVERYTHING, Adapter, Formula, Method
from planner.refusals import CaseError, Unsupported

DEFAULT_RANK: Final = 16  # assumed: defaults of TRL 1.10; beyond 8 the rank hardly changes small instruction sets (QLoRA)

QLORA: Final = "qlora"  # no method of its own: what it is short for (Dettmers et al., arXiv:2305.14314) stands here
NF4: Final[dict[str, Any]] = {"quant": "nf4", "double_quant": True}
QLORA_MEANS: Final[dict[str, Any]] = {"method": "lora", **NF4}

LORA: Final = Adapter(computes="product")
IA3: Final = Adapter(computes="scale")

METHODS: Final[Mapping[str, Method]] = {
    "full": Method("none: every weight moves", parts.whole, moves=EVERYTHING),
    "lora": Method("Hu et al., arXiv:2106.09685", linears.lora, has_rank=True, adapter=LORA),
    "rslora": Method("Kalajdzievski, arXiv:2312.03732: LoRA with another scale", linears.lora, has_rank=True, adapter=LORA),
    "pissa": Method("Meng et al., arXiv:2404.02948: LoRA with another start", linears.lora, has_rank=True, adapter=LORA),
    "lora_plus": Method(
        "Hayou et al., arXiv:2402.12354: LoRA with two learning rates", linears.lora, has_rank=True, adapter=LORA
    ),
    "ia3": Method("Liu et al., arXiv:2205.05638", linears.ia3, adapter=IA3),
    "bitfit": Method("Ben Zaken et al., arXiv:2106.10199", parts.bitfit, moves=frozenset({"biases"})),
    "ln_tuning": Method("Zhao et al., arXiv:2312.11420", parts.ln_tuning, moves=frozenset({"norms"})),
    "freeze": Method("none: the top blocks move", parts.freeze, moves=EVERYTHING, top_blocks_only=True),
    "prompt_tuning": Method("Lester et al., arXiv:2104.08691", prompts.prompt_tuning, prompt=True),
    "dora": Method("Liu et al., arXiv:2402.09353", None, has_rank=True),
    "adalora": Method("Zhang et al., arXiv:2303.10512", None, has_rank=True),
    "loha": Method("Hyeon-Woo et al., arXiv:2108.06098", None, has_rank=True),
    "lokr": Method("Yeh et al., arXiv:2309.14859", None, has_rank=True),
    "oft": Method("Qiu et al., arXiv:2306.07280", None, has_rank=True),
    "boft": Method("Liu et al., arXiv:2311.06243", None, has_rank=True),
    "vera": Method("Kopiczko et al., arXiv:2310.11454", None, has_rank=True),
    "fourierft": Method("Gao et al., arXiv:2405.03003", None),
    "prefix_tuning": Method("Li and Liang, arXiv:2101.00190", None),
    "p_tuning": Method("Liu et al., arXiv:2103.10385", None),
    "lora_prompt": Method("LoRA beside a trained prompt", None, has_rank=True),
    "bottleneck": Method("Houlsby et al., arXiv:1902.00751", None, has_rank=True),
}


def supported_methods() -> Iterator[str]:
    """Methods with a closed form."""
    return (name for name, method in METHODS.items() if method.trainable is not None)


def require_method(name: str) -> Formula:
    """What a method trains. Raises CaseError for "auto", Unsupported for a method without a closed form."""
    if name == "auto":
        hint = "name one: lora, qlora, full"
        raise CaseError("method", "an estimate is of one method; auto is resolved by `rentune plan`", hint)
    formula = METHODS[name].trainable if name in METHODS else None
    if formula is None:
        hint = f"methods that have one: {', '.join(supported_methods())}"
        raise Unsupported("method", f"method {name} has no closed form yet", hint)
    return formula
