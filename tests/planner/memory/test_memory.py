"""GPU memory against measured runs, against traced steps, and against what must always hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.asking.case import read_case, stack_of, strategy_of
from planner.estimators.memory import available_bytes, estimate_vram, resting_bytes, verdict
from planner.methods import METHODS
from planner.plan import VramEstimate
from planner.refusals import CaseError, CaseRefused, Unsupported
from planner.units import GIB, MIB

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
CATALOG = read_catalog()


def vram(model: str, **said: Any) -> VramEstimate:
    case = read_case({"model": model, **said})
    gpu = CATALOG.gpu(case.gpu).gpu if case.gpu else None
    return estimate_vram(resolve_model(case.model), strategy_of(case), task=case.task, gpu=gpu, stack=stack_of(case))


# ── measured ───────────────────────────────────────────────────────────────────────────────────────────────────────────

# torch.cuda.max_memory_allocated, A100-80GB: IBM fms-acceleration, scripts/benchmarks/refs/a100_80gb.csv (commit 876e2ed)
FMS = {
    "gpu": "A100-SXM4-80GB",
    "seq_len": 4096,
    "attention": "flash_attention_2",
    "gradient_checkpointing": "reentrant",
    "optimizer": "adamw_torch",
    "stack": "trl",
}
LORA = {"rank": 16, "dropout": 0.1, "target_modules": ATTENTION}
OLD = {"torch": "2.4.1", "transformers": "4.45.2", "peft": "0.13.2"}
NEW = {"torch": "2.4.1", "transformers": "4.48.1", "peft": "0.13.2"}
PURE = {"autocast": "none"}
FOAK = {"kernels": "fused", "loss": "fused_inplace"}
LIGER = {"kernels": "fused", "loss": "liger"}
NF4 = {"quant": "nf4", "double_quant": True, "kbit_upcast": "none"}


@pytest.mark.parametrize(
    ("model", "batch", "said", "measured"),
    [
        ("mistral-7b", 4, {"method": "full", "versions": NEW, **PURE}, 72_434_837_504),
        ("mistral-7b", 16, {"method": "full", "versions": OLD, **LIGER}, 77_144_641_024),
        ("powerlm-3b", 8, {"method": "full", "versions": OLD, **PURE}, 47_059_390_976),
        ("mistral-7b", 4, {**LORA, "versions": NEW, **PURE}, 26_704_571_904),
        ("mistral-7b", 8, {**LORA, "versions": NEW, **PURE, **FOAK}, 34_280_434_688),
        ("mistral-7b", 16, {**LORA, "versions": OLD, **LIGER}, 50_119_454_208),
        ("llama-3-8b", 8, {**LORA, "versions": OLD, **FOAK}, 59_017_447_424),
        ("llama-3-8b", 32, {**LORA, **NF4, "versions": OLD, **LIGER}, 74_089_427_968),
        ("powerlm-3b", 8, {**LORA, **NF4, "versions": OLD}, 28_134_687_232),
        ("mistral-7b", 4, {**LORA, "quant": "gptq_int4", "param_dtype": "float16", "versions": NEW, **PURE}, 16_404_148_736),
    ],
)
def test_an_a100_allocated_what_is_predicted(model: str, batch: int, said: dict[str, Any], measured: int) -> None:
    """Full, LoRA and QLoRA, plain and fused, over four loss paths: within half a percent, nothing fitted."""
    estimate = vram(model, micro_batch_size=batch, **{**FMS, **said})
    assert estimate.allocated_peak_bytes == pytest.approx(measured, rel=0.005)


# The same on a Tesla T4: fitcheck-llm 0.3.1, data/measurements; one step in fp16 without autocast, logits kept
T4 = {
    "gpu": "T4",
    "rank": 32,
    "target_modules": ATTENTION,
    "param_dtype": "float16",
    "autocast": "none",
    "optimizer": "adamw_torch",
    "keep_outputs": "logits",
}


@pytest.mark.parametrize(
    ("model", "batch", "seq_len", "said", "measured"),
    [
        ("smollm2-135m", 1, 4096, {}, 3_301_029_376),
        ("qwen2.5-1.5b", 2, 1024, {}, 7_761_359_872),
        ("smollm2-360m", 1, 4096, {"attention": "eager"}, 5_146_947_584),
        ("smollm2-360m", 1, 4096, {"attention": "eager", "quant": "nf4"}, 5_963_413_504),
        ("tinyllama-1.1b", 8, 1024, {"attention": "eager", "quant": "nf4"}, 8_407_383_040),
        ("tinyllama-1.1b", 12, 1024, {"quant": "nf4"}, 9_826_941_952),
        ("smollm2-1.7b", 4, 1024, {"quant": "nf4"}, 5_537_529_856),
    ],
)
def test_a_t4_allocated_what_is_predicted(model: str, batch: int, seq_len: int, said: dict[str, Any], measured: int) -> None:
    """A card without flash attention: repeated heads, the memory-efficient kernel or scores of every pair."""
    estimate = vram(model, micro_batch_size=batch, seq_len=seq_len, **{**T4, **said})
    assert estimate.allocated_peak_bytes == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize(
    ("model", "plain_gib", "checkpointed_gib"),
    [("llama-3.2-1b", 32.9, 16.7), ("llama-3.1-8b", 91.7, 31.3), ("qwen2.5-32b", 277.6, 83.9), ("llama-3-70b", 457.9, 157.7)],
)
def test_a_traced_step_of_the_real_model_agrees(model: str, plain_gib: float, checkpointed_gib: float) -> None:
    """One step of transformers 5.24 with peft 0.21 traced on meta tensors: LoRA r 16 on all linears, AMP, 4 × 2,048."""
    said = {"rank": 16, "dropout": 0.05, "micro_batch_size": 4, "keep_outputs": "logits"}
    plain = vram(model, gradient_checkpointing="off", **said).allocated_peak_bytes
    checkpointed = vram(model, **said).allocated_peak_bytes
    assert plain / GIB == pytest.approx(plain_gib, rel=0.005)
    assert checkpointed / GIB == pytest.approx(checkpointed_gib, rel=0.005)


# ── what must always hold ──────────────────────────────────────────────────────────────────────────────────────────────

MODELS = st.sampled_from(["smollm2-135m", "gpt2", "gemma-2-2b", "bert-base-uncased", "pythia-410m", "qwen3-0.6b", "phi-3-mini"])
CHECKPOINTING = st.sampled_from(["off", "reentrant", "non_reentrant", "offloaded"])
LOSSES = st.sampled_from(["hf", "hf_shifted", "chunked", "chunked_logits", "liger", "fused_inplace"])


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    method = draw(st.sampled_from(["lora", "full", "ia3", "ln_tuning"]))
    quant = "none" if method in ("full", "ln_tuning") else draw(st.sampled_from(["none", "nf4", "int8"]))
    sharding, num_gpus = draw(st.sampled_from([("none", 1), ("ddp", 2), ("fsdp", 4), ("zero3", 4)]))
    return {
        "model": draw(MODELS),
        "method": method,
        "quant": quant,
        "target_modules": "all-linear",
        "rank": draw(st.integers(1, 64)),
        "dropout": draw(st.sampled_from([0.0, 0.1])),
        "micro_batch_size": draw(st.integers(1, 8)),
        "seq_len": draw(st.integers(16, 512)),
        "gradient_checkpointing": draw(CHECKPOINTING),
        "loss": draw(LOSSES),
        "attention": draw(st.sampled_from(["sdpa", "eager", "flash_attention_2"])),
        "autocast": draw(st.sampled_from(["none", "bfloat16"])),
        "sharding": sharding if quant != "int8" else "ddp" if num_gpus > 1 else "none",
        "num_gpus": num_gpus,
    }


def bytes_of(said: dict[str, Any]) -> int:
    return vram(**said).allocated_peak_bytes


@given(said=cases())
def test_parts_sum_and_kinds_nest(said: dict[str, Any]) -> None:
    """Components are whole bytes that sum to allocated; allocated ≤ reserved ≤ process; the peak is the largest instant."""
    estimate = vram(**said)
    assert sum(estimate.components.values()) == estimate.allocated_peak_bytes
    assert min(estimate.components.values()) >= 0
    assert 0 < estimate.allocated_peak_bytes <= estimate.reserved_peak_bytes <= estimate.process_peak_bytes
    during = {instant: size for instant, size in estimate.by_instant.items() if instant != "evaluation"}
    assert max(during.values()) == during[estimate.peak_instant] == estimate.allocated_peak_bytes


@given(said=cases())
def test_no_peak_is_below_what_rests(said: dict[str, Any]) -> None:
    """So a search may pass over what cannot even rest on a card."""
    case = read_case(said)
    resting = resting_bytes(resolve_model(case.model), strategy_of(case), task=case.task, stack=stack_of(case))
    assert 0 < resting <= vram(**said).allocated_peak_bytes


@given(said=cases(), more=st.integers(1, 64))
def test_more_of_anything_never_needs_less(said: dict[str, Any], more: int) -> None:
    """Rank, batch and length."""
    before = bytes_of(said)
    assert bytes_of(said | {"rank": said["rank"] + more}) >= before
    assert bytes_of(said | {"micro_batch_size": said["micro_batch_size"] + 1}) >= before
    assert bytes_of(said | {"seq_len": said["seq_len"] + more}) >= before


@given(said=cases())
def test_checkpointing_never_needs_more(said: dict[str, Any]) -> None:
    """Long enough that a block's hump is below what all blocks keep."""
    said |= {"seq_len": 512, "micro_batch_size": 4}
    assert bytes_of(said | {"gradient_checkpointing": "reentrant"}) <= bytes_of(said | {"gradient_checkpointing": "off"})


def test_more_gpus_share_the_weights() -> None:
    alone = vram("7b", method="full", seq_len=512, autocast="none")
    shared = vram("7b", method="full", seq_len=512, sharding="fsdp", num_gpus=8, autocast="none")
    assert shared.components["optimizer"] == pytest.approx(alone.components["optimizer"] / 8, rel=0.01)
    assert shared.allocated_peak_bytes < alone.allocated_peak_bytes / 2


def test_a_large_vocabulary_makes_the_loss_the_peak() -> None:
    assert vram("llama-3.2-1b", micro_batch_size=8).peak_instant == "loss"
    assert vram("llama-3.2-1b", micro_batch_size=8, loss="liger").peak_instant == "backward"


@pytest.mark.parametrize(("quant", "packs"), [("nf4", True), ("int8", True), ("gptq_int4", False), ("awq_int4", False)])
def test_loading_holds_a_16_bit_tensor_only_where_it_is_what_packs_it(quant: str, packs: bool) -> None:
    """GPTQ and AWQ checkpoints are read as they are stored."""
    model = resolve_model("8b")
    loaded = vram("8b", quant=quant, kbit_upcast="none")
    at_rest = loaded.by_instant["prepare"] - vram("8b").components["adapter"]
    assert loaded.by_instant["load"] == at_rest + packs * 2 * model.hidden_size * model.intermediate_size


def test_evaluation_counts_only_where_it_was_asked_for() -> None:
    plain = vram("llama-3.2-1b", loss="liger")
    asked = vram("llama-3.2-1b", loss="liger", evaluation={"micro_batch_size": 64, "logits": "kept_gpu"})
    assert asked.evaluation_peak_bytes > plain.evaluation_peak_bytes
    assert asked.required_bytes > plain.required_bytes


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("8b", {"attention": "eager", "seq_len": 1024}),  # scores grow with the square of the length
        ("llama-3.2-1b", {"loss": "liger", "padded": True, "attention": "sdpa"}),
        ("gemma-3-1b", {"seq_len": 256}),  # 8,192 is longer than its window, 256 is not
        ("8b", {"num_gpus": 4, "sharding": "ddp", "context_parallel_size": 4}),
        ("llama-3.2-1b", {"method": "prompt_tuning", "num_virtual_tokens": 50}),
    ],
)
def test_evaluation_takes_what_the_same_batch_takes_in_a_job_of_its_own(model: str, said: dict[str, Any]) -> None:
    shape = {"micro_batch_size": 3, "seq_len": 8192}
    beside = vram(model, **said, evaluation=shape | {"logits": "kept_gpu"})
    alone = vram(model, **(said | shape), evaluation={"logits": "kept_gpu"})
    assert beside.evaluation_peak_bytes == alone.evaluation_peak_bytes


def test_only_blocks_that_attend_keep_a_cache_of_what_is_generated() -> None:
    """Of Granite 4 H Tiny's 40 blocks four: keys and values, 512 wide, of every position in 16 bits."""
    without, with_cache = (
        vram("granite-4.0-h-tiny", seq_len=512, evaluation={"generate_tokens": tokens}).evaluation_peak_bytes
        for tokens in (0, 100_000)
    )
    assert with_cache - without == 2 * 4 * (512 + 100_000) * 512 * 2


# ── does it fit ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_torch_totals_decides_not_the_box_it_is_sold_in() -> None:
    assert available_bytes(CATALOG.gpu("T4").gpu, None) == round(14.563 * GIB)
    assert available_bytes(CATALOG.gpu("T4").gpu, 12.0) == 12 * GIB
    with pytest.raises(ValueError, match="neither"):
        available_bytes(None, None)


def test_a_card_whose_total_nobody_saw_is_taken_for_the_one_of_its_kind_whose_driver_keeps_most() -> None:
    gpus = CATALOG.gpus.values()
    for kind in ("HBM", "GDDR"):
        alike = [gpu for gpu in gpus if gpu.memory_type == kind and gpu.driver_memory_mib is not None]
        seen = [gpu for gpu in alike if gpu.torch_memory_gib is not None]
        kept = max((gpu.driver_memory_mib or 0) - (gpu.torch_memory_gib or 0) * 1024 for gpu in seen)
        unseen = [gpu for gpu in alike if gpu.torch_memory_gib is None]
        assert unseen
        for gpu in unseen:
            withheld = (gpu.driver_memory_mib or 0) - available_bytes(gpu, None) / MIB
            assert kept <= withheld < kept + 2, gpu.name


def test_a_card_whose_driver_s_figure_nobody_told_is_taken_for_the_one_that_has_least_of_what_it_is_sold_with() -> None:
    gpus = CATALOG.gpus.values()
    least = min(gpu.torch_memory_gib / gpu.memory_gib for gpu in gpus if gpu.torch_memory_gib is not None)
    untold = [gpu for gpu in gpus if gpu.driver_memory_mib is None]
    assert untold
    for gpu in untold:
        assert least - 0.001 < available_bytes(gpu, None) / (gpu.memory_gib * GIB) <= least, gpu.name


def test_a_verdict_has_three_words() -> None:
    estimate = vram("7b", quant="nf4", gpu="A100-SXM4-80GB")
    assert verdict(estimate, estimate.required_bytes) == ("fits", 0)
    assert verdict(estimate, estimate.required_bytes - 1) == ("tight", -1)
    assert verdict(estimate, estimate.allocated_peak_bytes)[0] == "does_not_fit"  # the context has no room


@pytest.mark.parametrize(
    ("model", "batch", "said"),
    [
        ("llama-3-8b", 8, {"method": "full", **FOAK}),
        ("mistral-7b", 16, {"method": "full", **FOAK}),
        ("mistral-7b", 32, {"method": "full", **LIGER}),
        ("llama-3-8b", 16, {**LORA, **FOAK}),
        ("llama-3-8b", 16, {**LORA, **NF4, **FOAK}),
        ("mistral-7b", 32, {**LORA, **LIGER}),
    ],
)
def test_a_run_that_ran_out_of_memory_is_never_called_a_fit(model: str, batch: int, said: dict[str, Any]) -> None:
    """Single-A100 runs of fms-acceleration without a result."""
    estimate = vram(model, micro_batch_size=batch, versions=OLD, **{**FMS, **said})
    assert verdict(estimate, available_bytes(CATALOG.gpu("A100-SXM4-80GB").gpu, None))[0] != "fits"


# ── refused, not guessed ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"quant": "mxfp4"}, "quant"),
        ({"optimizer": "galore_adamw"}, "optimizer"),
        ({"expert_parallel_size": 2, "num_gpus": 2, "sharding": "ddp"}, "expert_parallel_size"),
        ({"task": "seq2seq"}, "task"),
        ({"quant": "int8", "sharding": "fsdp", "num_gpus": 2}, "sharding"),
        ({"method": "full", "quant": "nf4"}, "quant"),
        ({"modules_to_save": ["norm"]}, "modules_to_save"),
    ],
)
def test_what_has_no_closed_form_is_refused_at_its_key(said: dict[str, Any], key: str) -> None:
    with pytest.raises(CaseRefused) as refused:
        vram("7b", **said)
    assert refused.value.key == key
    assert refused.value.hint


@pytest.mark.parametrize("model", ["mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3"])
@pytest.mark.parametrize("method", ["lora", "lora_prompt"])
def test_adapters_on_experts_that_are_linears_are_refused(model: str, method: str) -> None:
    """Fused ones are not: peft adapts them as parameters."""
    assert vram(model, method=method, quant="nf4", num_virtual_tokens=8).allocated_peak_bytes > 57e9
    with pytest.raises(Unsupported, match="experts"):
        vram(model, method=method, quant="nf4", quantized_experts=True, num_virtual_tokens=8)
    with pytest.raises(Unsupported, match="experts"):
        vram(model, method=method, versions={"transformers": "4.57"}, num_virtual_tokens=8)


def test_experts_that_peft_does_not_wrap_weigh_what_they_weigh() -> None:
    """It leaves those of GPT-OSS, Llama 4 and Granite as they are, and any where attention alone is targeted."""
    assert vram("gpt-oss-20b", quant="nf4").allocated_peak_bytes > 38e9
    assert vram("mixtral-8x7b", quant="nf4", target_modules=ATTENTION).allocated_peak_bytes > 80e9  # experts stay 16-bit
    assert vram("mixtral-8x7b", quant="nf4", quantized_experts=True, target_modules=ATTENTION).allocated_peak_bytes < 40e9


def test_a_loss_without_whole_logits_changes_nothing_where_a_task_has_no_vocabulary() -> None:
    """A classifier's few logits are whole whatever loss was named."""
    assert vram("1b", task="classification", loss="liger") == vram("1b", task="classification", loss="hf")


@pytest.mark.parametrize("model", ["mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3"])
@pytest.mark.parametrize("method", ["adalora", "loha", "lokr", "vera", "oft", "boft", "ia3", "bottleneck"])
def test_methods_that_wrap_no_experts_are_answered_with_a_rank_or_without(model: str, method: str) -> None:
    """Experts are parameters of their own there; peft turns names of linears into them for LoRA's configurations alone."""
    rank = {"rank": 8} if METHODS[method].has_rank else {}
    assert vram(model, method=method, **rank).components["adapter"] > 0


@pytest.mark.parametrize("model", ["gemma-2-2b", "gpt-oss-20b", "bloom-560m", "mpt-7b", "deberta-v3-base"])
@pytest.mark.parametrize("checkpointing", ["off", "non_reentrant"])
def test_who_has_eager_attention_alone_needs_the_same_whatever_was_asked(model: str, checkpointing: str) -> None:
    """Its code in transformers writes scores out, and copies keys and values to all query heads for it."""
    assert resolve_model(model).eager_only
    assert vram(model, attention="sdpa", gradient_checkpointing=checkpointing) == vram(
        model, attention="eager", gradient_checkpointing=checkpointing
    )


def test_a_case_that_excludes_itself_is_the_case_s_fault() -> None:
    with pytest.raises(CaseError):
        vram("7b", method="bitfit", quant="nf4")
