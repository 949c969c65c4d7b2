"""The peft configuration of each method that hangs on linears of the base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from remote.adapters.options import RATE_RATIO, fields_of, options_of
from remote.adapters.targets import ALL_LINEAR
from remote.contract import ALPHA_PER_RANK, Loop, Strategy
from remote.ends import bad_job, first_line

PISSA_START: Final = "pissa_niter_16"  # derived: the paper's fast decomposition, seconds for each model instead of minutes
ADALORA_START: Final = 12  # derived: `init_r` of peft 0.21's AdaLoraConfig

# Each function names its method's fields; `method_options` are further fields of the same peft configuration.


def lora(strategy: Strategy, loop: Loop) -> Any:
    """LoRA (Hu et al., arXiv:2106.09685)."""
    return _config("LoraConfig", strategy, loop, _low_rank(strategy))


def rslora(strategy: Strategy, loop: Loop) -> Any:
    """Rank-stabilized LoRA (Kalajdzievski, arXiv:2312.03732): scaled by alpha / √r."""
    return _config("LoraConfig", strategy, loop, {**_low_rank(strategy), "use_rslora": True})


def lora_plus(strategy: Strategy, loop: Loop) -> Any:
    """LoRA+ (Hayou et al., arXiv:2402.12354): LoRA whose B learns faster; the optimizer reads how much."""
    options = {name: value for name, value in strategy.method_options.items() if name != RATE_RATIO}
    return lora(msgspec.structs.replace(strategy, method_options=options), loop)


def dora(strategy: Strategy, loop: Loop) -> Any:
    """DoRA (Liu et al., arXiv:2402.09353): a learned magnitude beside LoRA's direction."""
    return _config("LoraConfig", strategy, loop, {**_low_rank(strategy), "use_dora": True})


def pissa(strategy: Strategy, loop: Loop) -> Any:
    """PiSSA (Meng et al., arXiv:2404.02948): LoRA that starts from the largest singular values of the weight."""
    start = strategy.method_options.get("init_lora_weights", PISSA_START)
    return _config("LoraConfig", strategy, loop, {**_low_rank(strategy), "init_lora_weights": start})


def adalora(strategy: Strategy, loop: Loop) -> Any:
    """AdaLoRA (Zhang et al., arXiv:2303.10512): from `init_r` ranks everywhere to `rank` on average."""
    options, kept = strategy.method_options, _rank(strategy)
    start = options.get("init_r", ADALORA_START)
    if kept >= start:
        raise bad_job(f"adalora starts with {start} ranks and keeps {kept}; set method_options init_r above rank {kept}")
    if loop.init_adapter is not None:
        raise bad_job("an adapter of adalora has given its ranks away and can't be trained on; leave init_adapter out")
    some = options.get("tinit", 0) + options.get("tfinal", 0) + 1  # peft wants a length now; the loop knows it later
    ranks = {"target_r": kept, "init_r": start, "total_step": options.get("total_step", some)}
    return _config("AdaLoraConfig", strategy, loop, {"lora_alpha": _alpha(strategy), "lora_dropout": strategy.dropout, **ranks})


def loha(strategy: Strategy, loop: Loop) -> Any:
    """LoHa (Hyeon-Woo et al., arXiv:2108.06098): two low-rank products, multiplied entry by entry."""
    return _config("LoHaConfig", strategy, loop, _lycoris(strategy))


def lokr(strategy: Strategy, loop: Loop) -> Any:
    """LoKr (Yeh et al., arXiv:2309.14859): a Kronecker product."""
    return _config("LoKrConfig", strategy, loop, _lycoris(strategy))


def oft(strategy: Strategy, loop: Loop) -> Any:
    """OFT (Qiu et al., arXiv:2306.07280): a rotation of the input, in `rank` blocks or in blocks of `oft_block_size`."""
    blocks: dict[str, Any] = {} if strategy.rank is None else {"r": strategy.rank, "oft_block_size": 0}
    return _config("OFTConfig", strategy, loop, {**blocks, "module_dropout": strategy.dropout})


def boft(strategy: Strategy, loop: Loop) -> Any:
    """BOFT (Liu et al., arXiv:2311.06243): a rotation made of butterflies, and a scale."""
    blocks = {"boft_block_size": 0} if strategy.method_options.get("boft_block_num") else {}
    return _config("BOFTConfig", strategy, loop, {**blocks, "boft_dropout": strategy.dropout})


def vera(strategy: Strategy, loop: Loop) -> Any:
    """VeRA (Kopiczko et al., arXiv:2310.11454): scales between random projections that all layers share."""
    return _config("VeraConfig", strategy, loop, {"r": _rank(strategy), "vera_dropout": strategy.dropout})


def fourierft(strategy: Strategy, loop: Loop) -> Any:
    """FourierFT (Gao et al., arXiv:2405.03003): `n_frequency` coefficients of the update's spectrum."""
    return _config("FourierFTConfig", strategy, loop, {})


def ia3(strategy: Strategy, loop: Loop) -> Any:
    """IA³ (Liu et al., arXiv:2205.05638): a factor per feature."""
    return _config("IA3Config", strategy, loop, {})


def _rank(strategy: Strategy) -> int:
    if strategy.rank is None:
        raise bad_job(f'method "{strategy.method}" needs a rank; set training.rank')
    return strategy.rank


def _alpha(strategy: Strategy) -> float:
    return strategy.alpha if strategy.alpha is not None else ALPHA_PER_RANK * _rank(strategy)


def _low_rank(strategy: Strategy) -> dict[str, Any]:
    """What every configuration of LoRA's kind says."""
    return {"r": _rank(strategy), "lora_alpha": _alpha(strategy), "lora_dropout": strategy.dropout}


def _lycoris(strategy: Strategy) -> dict[str, Any]:
    return {"r": _rank(strategy), "alpha": _alpha(strategy), "rank_dropout": strategy.dropout}


def _config(name: str, strategy: Strategy, loop: Loop, fields: Mapping[str, Any]) -> Any:
    """Peft's configuration `name` with these fields. Raises `Ended` (bad job) for an option that it does not know."""
    import peft

    kind = getattr(peft, name)
    options = options_of(strategy, fields_of(kind), f"peft's {name}")
    targets = strategy.target_modules
    named: dict[str, Any] = {
        "target_modules": None if targets == "default" else targets if isinstance(targets, str) else list(targets),
        "modules_to_save": list(strategy.modules_to_save) or None,
        "task_type": "CAUSAL_LM",
    }
    if loop.layers is not None and targets != ALL_LINEAR:
        named["layers_to_transform"] = list(loop.layers)
    try:
        return kind(**{**options, **fields, **named})
    except (TypeError, ValueError) as error:
        raise bad_job(f"peft's {name} refuses this: {first_line(error)}") from error
