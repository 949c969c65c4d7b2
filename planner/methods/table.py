"""METHODS: one row per way to tune, with what it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from planner.methods import inserted, parts, prompts
from planner.methods.adapters import ADALORA, BOFT, DORA, FOURIERFT, IA3, LOHA, LOKR, LORA, OFT, VERA
from planner.methods.linears import hung
from planner.methods.method import DEFAULT_RANK, EVERYTHING, Adapter, Formula, Method, Prompt
from planner.methods.others import OTHERS
from planner.refusals import CaseError, Unsupported

QLORA: Final = "qlora"  # no method of its own: what it is short for (Dettmers et al., arXiv:2305.14314) stands here
NF4: Final[dict[str, Any]] = {"quant": "nf4", "double_quant": True}
QLORA_MEANS: Final[dict[str, Any]] = {"method": "lora", **NF4}


def _hung(
    adapter: Adapter,
    paper: str,
    *,
    has_rank: bool = True,
    default_rank: int | None = DEFAULT_RANK,
    starts_anew: bool = False,
) -> Method:
    """The row of a method that hangs `adapter` on linears."""
    return Method(paper, hung(adapter), has_rank=has_rank, default_rank=default_rank, adapter=adapter, starts_anew=starts_anew)


METHODS: Final[Mapping[str, Method]] = {
    "full": Method("none: every weight moves", parts.whole, moves=EVERYTHING),
    "lora": _hung(LORA, "Hu et al., arXiv:2106.09685"),
    "rslora": _hung(LORA, "Kalajdzievski, arXiv:2312.03732: LoRA with another scale"),
    "pissa": _hung(LORA, "Meng et al., arXiv:2404.02948: LoRA with another start", starts_anew=True),
    "lora_plus": _hung(LORA, "Hayou et al., arXiv:2402.12354: LoRA with two learning rates"),
    "dora": _hung(DORA, "Liu et al., arXiv:2402.09353"),
    "adalora": _hung(ADALORA, "Zhang et al., arXiv:2303.10512", default_rank=8, starts_anew=True),
    "loha": _hung(LOHA, "Hyeon-Woo et al., arXiv:2108.06098", default_rank=8),
    "lokr": _hung(LOKR, "Yeh et al., arXiv:2309.14859", default_rank=8),
    "oft": _hung(OFT, "Qiu et al., arXiv:2306.07280", default_rank=None),
    "boft": _hung(BOFT, "Liu et al., arXiv:2311.06243", has_rank=False),
    "vera": _hung(VERA, "Kopiczko et al., arXiv:2310.11454", default_rank=256),
    "fourierft": _hung(FOURIERFT, "Gao et al., arXiv:2405.03003", has_rank=False),
    "ia3": _hung(IA3, "Liu et al., arXiv:2205.05638", has_rank=False),
    "bitfit": Method("Ben Zaken et al., arXiv:2106.10199", parts.bitfit, moves=frozenset({"biases"})),
    "ln_tuning": Method("Zhao et al., arXiv:2312.11420", parts.ln_tuning, moves=frozenset({"norms"}), copies=True),
    "freeze": Method(
        "none: the top blocks move", parts.freeze, moves=EVERYTHING, top_blocks_only=True, chosen=parts.trained_linears
    ),
    "prompt_tuning": Method("Lester et al., arXiv:2104.08691", prompts.prompt_tuning, prompt=Prompt("sequence")),
    "prefix_tuning": Method(
        "Li and Liang, arXiv:2101.00190", prompts.prefix_tuning, prompt=Prompt("cache", prompts.prefix_encoder)
    ),
    "p_tuning": Method("Liu et al., arXiv:2103.10385", prompts.p_tuning, prompt=Prompt("sequence", prompts.p_tuning_encoder)),
    "lora_prompt": Method(
        "LoRA beside a trained prompt", prompts.lora_prompt, has_rank=True, adapter=LORA, prompt=Prompt("sequence")
    ),
    "bottleneck": Method(
        "Houlsby et al., arXiv:1902.00751", inserted.bottleneck, has_rank=True, inserted_behind=inserted.bottleneck_places
    ),
    **OTHERS,
}


def supported_methods() -> Iterator[str]:
    """Methods with a closed form."""
    return (name for name, method in METHODS.items() if method.trainable is not None)


def known_method(name: str) -> Method:
    """The row of a method. Raises CaseError for "auto", Unsupported for a name that has none."""
    if name not in METHODS:
        require_method(name)
    return METHODS[name]


def require_method(name: str) -> Formula:
    """What a method trains. Raises CaseError for "auto", Unsupported for a method without a closed form."""
    if name == "auto":
        hint = "name one: lora, qlora, full"
        raise CaseError("method", "an estimate is of one method; auto is resolved by `rentune plan`", hint)
    if name not in METHODS:
        from planner.nearest import nearest  # only for a name that is wrong: it costs start-up time

        raise CaseError("method", f"there is no method {name}", nearest(name, (QLORA, *METHODS)))
    formula = METHODS[name].trainable
    if formula is None:
        hint = f"rentune estimate --method {name} traces it; methods that have one: {', '.join(supported_methods())}"
        raise Unsupported("method", f"method {name} has no closed form yet", hint)
    return formula
