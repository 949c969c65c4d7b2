"""Closed form against trace where cases drawn at random showed it too low: what it then calls a fit runs out of memory."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import pytest

from benchmarks.estimates.trace_cases import cut
from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_vram
from remote.contract import Strategy

pytestmark = pytest.mark.torch

FEW_WORDS: Final[dict[str, Any]] = {"vocab_size": 2000, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
LORA: Final[dict[str, Any]] = {"method": "lora", "rank": 16}
PLAIN: Final[dict[str, Any]] = LORA | {"gradient_checkpointing": "off"}
NF4: Final[dict[str, Any]] = {"quant": "nf4", "kbit_upcast": "full"}
ATTENTION: Final[dict[str, Any]] = {"target_modules": ["q_proj", "v_proj"]}


class Case(NamedTuple):
    """A base, a way to train it, and what the closed form did not know of it."""

    family: str
    said: dict[str, Any]
    unknown: str


CASES: Final = (
    Case(
        "smollm2-1.7b",
        PLAIN | {"method": "dora", "dropout": 0.05},
        "behind dropout DoRA multiplies by the base's weight once more, and keeps its copy: 3 % low, T5's in nf4 20 %",
    ),
    Case(
        "flan-t5-large",
        LORA | {"quant": "nf4", "kbit_upcast": "norms", "param_dtype": "float32", "padded": True},
        "padding laid over a bias of positions makes one of each sequence, in fp32, and so are its gradients: 20 % low",
    ),
    Case(
        "t5-base",
        LORA | {"autocast": "none", "adapter_dtype": "bfloat16", "gradient_checkpointing": "reentrant", "attention": "eager"},
        "a re-entrant checkpoint hands gradients of both biases on, of the last block zeros: 7 % low",
    ),
    Case(
        "phi-3.5-moe",
        PLAIN | ATTENTION,
        "what experts answer is weighted in fp32, as autocast's softmax gives it, and so are two products in backward: 5 % low",
    ),
    Case(
        "gpt-oss-20b",
        PLAIN | ATTENTION | {"quant": "nf4", "kbit_upcast": "full", "attention": "eager"},
        "learned scores of fp32 make those that they stand beside fp32: 9 % low",
    ),
    Case(
        "falcon-rw-1b",
        LORA | {"param_dtype": "float32", "autocast": "float16", "padded": True},
        "a mask with a bias for every head is cast for each block's kernel: 7 % low",
    ),
    Case(
        "gemma-2-2b",
        LORA | {"quant": "nf4", "gradient_checkpointing": "reentrant", "adapter_dtype": "bfloat16", "attention": "eager"},
        "a norm's backward holds five states of fp32, and Gemma's begins with one: 6 % low",
    ),
    Case(
        "deepseek-v3",
        PLAIN | {"target_modules": ["o_proj"], "kbit_upcast": "full"},
        "experts of 16 bits are there twice while they are cast, quantized linears or none: 10 % low",
    ),
    Case(
        "phi-4",
        NF4 | {"method": "bottleneck", "rank": 8, "gradient_checkpointing": "off", "autocast": "none"},
        "a block's input that is saved lives as well, and so does what the embedding gave, frozen or not: 2.6 % low",
    ),
    Case(
        "qwen2.5-0.5b",
        {"method": "vera", "rank": 256, "gradient_checkpointing": "off", "param_dtype": "float32", "attention": "eager"},
        "VeRA hands back the dtype that came in, which a norm made fp32: 2.5 % low",
    ),
    Case(
        "llama-3.2-1b",
        {"method": "vera", "rank": 256, "gradient_checkpointing": "reentrant"},
        "a product with VeRA's numbers has two gradients of fp32 at once: 2 % low",
    ),
    Case(
        "falcon-rw-1b",
        NF4 | {"method": "ln_tuning", "gradient_checkpointing": "reentrant", "attention": "eager", "param_dtype": "float32"},
        "Falcon adds a bias in a line of its own, where it is fp32 to a sum of fp32: 1.6 % low",
    ),
    Case(
        "granite-4.0-h-tiny",
        {"method": "p_tuning", "num_virtual_tokens": 20, "gradient_checkpointing": "off", "padded": True},
        "a scan's frame holds decays, scores and states by name until it returns: 6 % low",
    ),
    Case(
        "gpt2",
        PLAIN | {"attention": "eager", "autocast": "none"},
        "GPT-2's softmax stays in the scores' own dtype: 35 % high",
    ),
    Case(
        "flan-t5-large",
        LORA | {"padded": True, "gradient_checkpointing": "reentrant"},
        "gelu_new under autocast makes a gate's product fp32: 2 % low",
    ),
    Case(
        "llama-4-scout",
        LORA | ATTENTION | {"param_dtype": "float32", "autocast": "none"},
        "of every expert gate and up are views, whose gradients are joined last: 4 % high",
    ),
    Case(
        "llama-3.2-1b",
        {"method": "fourierft", "gradient_checkpointing": "off", "autocast": "none"},
        "in a first block no update is kept, since nothing below it wants a gradient: 4 % high",
    ),
)


class Kernel(NamedTuple):
    """A shape or a card of which torch's own mathematics compute the attention, or flash on copies of wider heads."""

    config: dict[str, Any]
    said: dict[str, Any]
    gpu: str | None
    unknown: str


LLAMA: Final[dict[str, Any]] = {"model_type": "llama", "num_hidden_layers": 2, "intermediate_size": 2048} | FEW_WORDS
UNEVEN: Final[dict[str, Any]] = LLAMA | {"hidden_size": 800, "num_attention_heads": 8, "num_key_value_heads": 4}  # heads of 100
EVEN: Final[dict[str, Any]] = LLAMA | {"hidden_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 8}
GPT2: Final[dict[str, Any]] = {"model_type": "gpt2", "n_embd": 720, "n_layer": 2, "n_head": 12} | FEW_WORDS  # of 60, dropped

KERNELS: Final = (
    Kernel(UNEVEN, PLAIN | {"padded": True}, None, "a head that is no multiple of 8 is nothing to the memory-efficient kernel"),
    Kernel(UNEVEN, LORA | {"padded": True}, None, "recomputed, it is the peak of a block: open-llama-3b took 26 GiB for 15"),
    Kernel(UNEVEN, PLAIN, None, "flash reads such heads from wider copies, and so is its result: 4 to 6 % low"),
    Kernel(GPT2, PLAIN | {"padded": True}, None, "what is dropped of the weights is kept, and a byte each of what was"),
    Kernel(GPT2, PLAIN, None, "keys and values are cut from one product, and each is copied wider"),
    Kernel(EVEN, PLAIN, "T4", "the memory-efficient kernel has no bf16 before compute capability 8.0: 27 % low"),
    Kernel(EVEN, PLAIN | {"param_dtype": "float16", "autocast": "float16"}, "T4", "and it has fp16"),
    Kernel(EVEN, NF4 | LORA, "V100-SXM2-16GB", "as in bf16 over 4 bits"),
)


@pytest.mark.parametrize("case", KERNELS, ids=lambda case: case.unknown[:40])
def test_attention_is_that_of_the_kernel_that_torch_picks(case: Kernel) -> None:
    """Within two per cent of the trace, which picks it call by call; what was not known was 10 per cent and more."""
    gpu = None if case.gpu is None else read_catalog().gpus[case.gpu]
    strategy = msgspec.convert(case.said | {"micro_batch_size": 2, "seq_len": 1024}, Strategy)
    traced = trace_vram(case.config, strategy, gpu=gpu).allocated_peak_bytes
    closed = estimate_vram(resolve_model(case.config, base=None), strategy, gpu=gpu).allocated_peak_bytes
    assert closed == pytest.approx(traced, rel=0.02), case.unknown


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.family)
def test_a_closed_form_is_not_below_the_trace(case: Case) -> None:
    """By no more than one per cent, nor above by more than two."""
    config = cut(resolve_model(case.family, base=None).config, 2) | FEW_WORDS
    strategy = msgspec.convert(case.said | {"micro_batch_size": 2, "seq_len": 1024}, Strategy)
    traced = trace_vram(config, strategy).allocated_peak_bytes
    closed = estimate_vram(resolve_model(config, base=None), strategy).allocated_peak_bytes
    assert 0.99 * traced <= closed <= 1.02 * traced, case.unknown
