"""Cases drawn at random, in which closed form and trace are held against each other: nobody has chosen what is varied.

A grid asks what its maker thought of. Here every key of a way to train is drawn by itself, so kinds of cases meet that no grid
has; the same seed draws the same cases.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from benchmarks.estimates.trace_cases import FAMILIES, Point, attention_of, cut
from catalogs.bases.architectures import Architecture
from catalogs.bases.models import resolve_model
from planner.asking.case import check_quant
from planner.estimators.memory import estimate_vram
from planner.methods import METHODS
from planner.refusals import CaseRefused
from remote.contract import Strategy

FEW_WORDS: Final = 2000  # so that blocks decide the peak, and not the loss over a vocabulary
FEWEST_TOKENS: Final = 512  # below, what the allocator rounds up outweighs what is compared
NUM_DRAWN_AT_MOST: Final = 40  # per case asked for: a drawn way that the closed form refuses is drawn anew

MORE_FAMILIES: Final = ("falcon-rw-1b", "starcoder", "phi-4", "qwen2.5-0.5b", "llama-3.1-8b", "gemma-2-2b", "mistral-7b")
# assumed: those that are tuned most are drawn most
METHOD_WEIGHTS: Final[dict[str, int]] = {
    "lora": 40, "full": 12, "dora": 4, "rslora": 4, "adalora": 4, "loha": 3, "lokr": 3, "oft": 3, "boft": 3, "vera": 4,
    "fourierft": 3, "ia3": 4, "prompt_tuning": 3, "p_tuning": 2, "prefix_tuning": 3, "lora_prompt": 2, "bottleneck": 3,
    "ln_tuning": 3, "bitfit": 2, "freeze": 3,
}  # fmt: skip
KEYS: Final[dict[str, dict[Any, int]]] = {  # value -> how often of the sum
    "quant": {"none": 4, "nf4": 5, "int8": 2, "fp4": 1},
    "kbit_upcast": {"none": 2, "norms": 2, "full": 2},
    "param_dtype": {"bfloat16": 8, "float16": 1, "float32": 1},
    "autocast": {"bfloat16": 7, "none": 2, "float16": 1},
    "adapter_dtype": {"float32": 4, "bfloat16": 1},
    "optimizer": {"adamw_torch_fused": 4, "adamw_torch": 2, "adamw_8bit": 2, "sgd": 1, "lora_fa": 1},
    "gradient_checkpointing": {"off": 3, "non_reentrant": 4, "reentrant": 2},
    "attention": {"sdpa": 3, "eager": 1},
    "loss": {"hf": 3, "chunked": 1, "liger": 1},
    "micro_batch_size": {1: 2, 2: 2, 4: 2, 8: 1},
    "seq_len": {128: 1, 256: 1, 512: 2, 1024: 2, 2048: 1},
    "gradient_accumulation_steps": {1: 3, 4: 1},
    "padded": {False: 3, True: 1},
    "dropout": {0.0: 3, 0.05: 1},
}  # fmt: skip
RANKS: Final = (4, 8, 16, 64)
NUM_LAYERS: Final = {2: 2, 4: 1}


def sample(num_cases: int, seed: int) -> Iterator[Point]:
    """So many cases that the closed form answers, drawn with this seed."""
    drawing = random.Random(seed)
    made = 0
    for number in range(num_cases * NUM_DRAWN_AT_MOST):
        if made == num_cases:
            return
        drawn = _drawn(drawing, number)
        if drawn is not None and _is_answered(drawn):
            made += 1
            yield drawn


def _drawn(drawing: random.Random, number: int) -> Point | None:
    """One case; None where its keys contradict each other."""
    families = sorted({*FAMILIES, *MORE_FAMILIES})
    family = drawing.choice(families)
    method = drawing.choices(list(METHOD_WEIGHTS), list(METHOD_WEIGHTS.values()))[0]
    said = {key: drawing.choices(list(values), list(values.values()))[0] for key, values in KEYS.items()}
    rank, layers = drawing.choice(RANKS), drawing.choices(list(NUM_LAYERS), list(NUM_LAYERS.values()))[0]
    few_words, linears, upcast = drawing.random() < 0.5, drawing.random(), drawing.random()
    if said["quant"] == "none" and upcast < 0.8:
        said["kbit_upcast"] = "none"
    config = cut(resolve_model(family, base=None).config, layers)
    if few_words:
        config |= {"vocab_size": FEW_WORDS, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    architecture = resolve_model(config, base=None)
    if _is_unfused(architecture):
        said["attention"] = "eager"
    if architecture.kind == "encoder_decoder":
        said["loss"] = "hf"
    said |= _of_method(method, rank, architecture, all_linear=linears < 0.7)
    if said["micro_batch_size"] * said["seq_len"] < FEWEST_TOKENS:
        said["seq_len"] = FEWEST_TOKENS // said["micro_batch_size"]
    said["double_quant"] = said["quant"] in ("nf4", "fp4") and linears < 0.5
    said["method"] = method
    way = ", ".join(f"{key} {value}" for key, value in said.items() if key not in ("micro_batch_size", "seq_len", "method"))
    words = "few words" if few_words else "all words"
    try:
        strategy = msgspec.convert(said, Strategy)
    except msgspec.ValidationError:
        return None
    return Point(f"{family}, {layers} blocks, {words}", f"{number}: {method}, {way}", config, strategy)


def _of_method(method: str, rank: int, architecture: Architecture, *, all_linear: bool) -> dict[str, Any]:
    """The keys that only some methods have."""
    row = METHODS[method]
    said: dict[str, Any] = {}
    if row.default_rank is not None:
        said["rank"] = rank if row.adapter is None or method in ("lora", "rslora", "dora") else row.default_rank
    if row.prompt is not None:
        said["num_virtual_tokens"] = 20
    if method == "freeze":
        said["trainable_layers"] = 1
    if row.adapter is not None and (attention := attention_of(architecture)):
        said["target_modules"] = "all-linear" if all_linear and not architecture.num_experts else attention
    return said


def _is_unfused(architecture: Architecture) -> bool:
    return bool(architecture.attention_softcap) or not architecture.fused_attention


def _is_answered(point: Point) -> bool:
    try:
        check_quant(point.strategy.method, point.strategy.quant)
        estimate_vram(resolve_model(point.config, base=None), point.strategy)
    except CaseRefused:
        return False
    return True
