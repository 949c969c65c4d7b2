"""What a micro-step waits for, kernel by kernel: each law holds whatever the constants are fitted to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.asking.case import Case, read_case, stack_of, strategy_of
from planner.estimators import calibration as known
from planner.estimators.time.speed import StepTime, step_time
from planner.estimators.time.trust import run_class, spread_of
from planner.strategy.stack import SECOND_FLASH
from remote.contract import BY_TWO_SLOTS

CATALOG = read_catalog()


def step(model: str, gpu: str, **said: Any) -> StepTime:
    return step_of(model, gpu, read_case({"model": model, "padded": False, **said}))


def step_of(model: str, gpu: str, case: Case, **loop: bool) -> StepTime:
    """One step of the case on this card; `loop`: what the loop asks for beside it."""
    return step_time(
        resolve_model(model),
        strategy_of(case),
        task=case.task,
        gpu=CATALOG.gpu(gpu).gpu,
        stack=stack_of(case),
        mean_seq_len=float(case.seq_len),
        interconnect=case.interconnect,
        **loop,
    )


# ── fp32 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def in_fp32(gpu: str, *, tf32: bool, **said: Any) -> StepTime:
    case = read_case({"model": "7b", "padded": False, "param_dtype": "float32", "autocast": "none", "seq_len": 2048, **said})
    return step_of("7b", gpu, case, tf32=tf32)


def test_fp32_products_take_the_tensor_cores_where_that_is_asked_for() -> None:
    """An A100 makes 19.5 TFLOP/s of fp32, and half of its 16-bit rate of TF32: for nobody who does not ask."""
    asked, plain = (in_fp32("A100-SXM4-80GB", tf32=tf32, attention="eager").compute_s for tf32 in (True, False))
    gpu = CATALOG.gpu("A100-SXM4-80GB").gpu
    assert plain / asked == pytest.approx(gpu.achievable_tflops * known.COMPUTE_EFFICIENCY * 0.5 / 19.5)
    assert plain == step("7b", "A100-SXM4-80GB", param_dtype="float32", autocast="none", attention="eager").compute_s
    kernel = in_fp32("A100-SXM4-80GB", tf32=True).compute_s / in_fp32("A100-SXM4-80GB", tf32=False).compute_s
    assert kernel > asked / plain  # attention's own kernel is none of cuBLAS's products


@pytest.mark.parametrize("gpu", ["V100-SXM2-16GB", "T4", "MI300X"])
def test_a_card_without_tf32_is_as_fast_as_before(gpu: str) -> None:
    assert in_fp32(gpu, tf32=True) == in_fp32(gpu, tf32=False)


def test_tf32_makes_no_card_slower_and_moves_no_16_bit_product() -> None:
    for gpu in CATALOG.gpus:
        assert in_fp32(gpu, tf32=True).compute_s <= in_fp32(gpu, tf32=False).compute_s
    narrow = {"param_dtype": "bfloat16", "autocast": "bfloat16"}
    assert in_fp32("A100-SXM4-80GB", tf32=True, **narrow) == in_fp32("A100-SXM4-80GB", tf32=False, **narrow)


# ── CUDA graphs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def recorded(gpu: str, *, cuda_graphs: bool, **said: Any) -> StepTime:
    case = read_case(
        {"model": "llama-3.2-1b", "padded": False, "loss": "chunked", "micro_batch_size": 1, "seq_len": 256, **said}
    )
    return step_of("llama-3.2-1b", gpu, case, cuda_graphs=cuda_graphs)


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_a_small_step_that_is_recorded_waits_for_less_than_half_of_its_host(quant: str) -> None:
    """Nothing else of it gets quicker, and no step gets slower."""
    played, launched = (recorded("H100-SXM5-80GB", cuda_graphs=asked, quant=quant) for asked in (True, False))
    assert launched.bound == "host"
    assert played.host_s < 0.5 * launched.host_s
    assert msgspec.structs.replace(played, host_s=launched.host_s) == launched


@pytest.mark.parametrize("said", [{"dropout": 0.1}, {"padded": True}, {"quant": "int8"}, {"kernels": "compiled"}])
def test_what_can_not_be_recorded_is_as_quick_as_before(said: dict[str, Any]) -> None:
    assert recorded("H100-SXM5-80GB", cuda_graphs=True, **said) == recorded("H100-SXM5-80GB", cuda_graphs=False, **said)


# ── attention ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_eager_attention_moves_every_pair_of_tokens() -> None:
    """24 B a pair and head forward, 26 B backward: SmolLM2-135M has 30 blocks of 9 heads."""
    said = {"seq_len": 2048, "gradient_checkpointing": "off", "versions": {"transformers": "5.24"}}
    eager, flash = (step("smollm2-135m", "A100-SXM4-80GB", attention=kernel, **said) for kernel in ("eager", "sdpa"))
    moved = (eager.memory_s - flash.memory_s) * known.BANDWIDTH_SHARE * 2_039e9
    assert moved == pytest.approx(2048 * 2048 * 30 * 9 * (24 + 26))


def test_a_mask_costs_the_flash_kernel_and_the_half_that_it_skips() -> None:
    said = {"seq_len": 8192, "micro_batch_size": 2}
    plain, padded = (step("7b", "A100-SXM4-80GB", padded=padded, **said).compute_s for padded in (False, True))
    short = {"seq_len": 512, "micro_batch_size": 2}
    flat, flat_padded = (step("7b", "A100-SXM4-80GB", padded=padded, **short).compute_s for padded in (False, True))
    assert padded > 1.3 * plain
    assert flat_padded < 1.1 * flat
    told = step("7b", "A100-SXM4-80GB", padded=True, attention="flash_attention_2", **said).compute_s
    assert told == plain  # it is told the lengths, and sees no mask


def test_attention_is_as_slow_as_its_kernel_on_a_card() -> None:
    """What 8,192 tokens add to 512, against what the linears take: a T4 has no flash kernel, a Hopper card one for Ampere."""

    def grows(gpu: str, dtype: str) -> float:
        said = {"param_dtype": dtype, "autocast": "none"}
        long, short = (step("7b", gpu, seq_len=length, **said).compute_s / length for length in (8192, 512))
        return long / short

    ampere, hopper, ada = (grows(gpu, "bfloat16") for gpu in ("A100-SXM4-80GB", "H100 SXM5", "RTX 4090"))
    assert ada < ampere < hopper
    assert grows("T4", "float16") > grows("A100-SXM4-80GB", "float16")


# ── products ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("attention", "library", "first", "second"),
    [
        ("flash_attention_2", "flash-attn", "1.0.9", "2.8"),
        ("flash_attention_2", "triton-pre-mlir", "2.0", None),
        ("sdpa", "torch", "2.1", "2.2"),
    ],
)
def test_flash_attention_s_first_version_is_as_much_slower_as_its_library_has_it(
    attention: str, library: str, first: str, second: str | None
) -> None:
    """Of attention alone: twice the tokens, and what one token adds by looking back has doubled as well."""

    def attended(versions: dict[str, str]) -> float:
        short, long = (
            step("7b", "A100-SXM4-80GB", attention=attention, seq_len=seq_len, versions=versions).compute_s / seq_len
            for seq_len in (16_384, 32_768)
        )
        return long - short

    slower = attended({library: first}) / attended({})
    assert slower == pytest.approx(known.FIRST_FLASH_PENALTY[library])
    if second is not None:
        assert attended({library: second}) == attended({})


def test_every_library_that_brings_the_first_version_has_its_penalty() -> None:
    """The table of releases and that of figures are about the same libraries."""
    assert {row.library for rows in SECOND_FLASH.values() for row in rows} == known.FIRST_FLASH_PENALTY.keys()


def test_a_product_of_few_tokens_takes_as_long_as_reading_its_weights() -> None:
    few, fewer = (step("7b", "L4", seq_len=length).compute_s for length in (64, 16))
    assert few == pytest.approx(fewer, rel=0.05)
    assert step("7b", "L4", seq_len=2048).compute_s > 4 * few


def test_experts_share_the_tokens_out_among_them() -> None:
    """128 experts of which each token meets 8: of 64 tokens each sees 4, and all its weights are read for them."""
    per_token = [step("qwen3-30b-a3b", "A100-SXM4-80GB", seq_len=length).compute_s / length for length in (64, 2048)]
    assert per_token[0] > 2 * per_token[1]


def test_eight_bits_speed_up_products_alone_and_on_cards_that_have_them() -> None:
    def gain(gpu: str, seq_len: int) -> float:
        plain, narrow = (step("7b", gpu, seq_len=seq_len, matmul_dtype=dtype).compute_s for dtype in ("as_compute", "fp8"))
        return plain / narrow

    assert 1.3 < gain("H100 SXM5", 512) <= known.LOW_PRECISION_SPEEDUP
    assert gain("H100 SXM5", 65_536) < gain("H100 SXM5", 512)
    assert gain("A100-SXM4-80GB", 512) == 1


def test_products_of_few_bits_are_faster_where_a_card_multiplies_so() -> None:
    """Hopper has no 4-bit units and reads no scales of blocks, MI250 none of 8 bits; nothing is slower for being asked."""

    def gain(gpu: str, dtype: str) -> float:
        plain, narrow = (step("7b", gpu, seq_len=2048, matmul_dtype=name).compute_s for name in ("as_compute", dtype))
        return plain / narrow

    assert gain("B200", "nvfp4") > gain("B200", "mxfp8") == gain("B200", "fp8") > 1
    assert gain("H100 SXM5", "fp8") > 1
    lacking = {("H100 SXM5", "mxfp8"), ("H100 SXM5", "nvfp4"), ("MI300X", "nvfp4"), ("MI250", "fp8"), ("T4", "fp8")}
    assert {gain(gpu, dtype) for gpu, dtype in lacking} == {1.0}


def test_every_card_that_multiplies_in_few_bits_is_in_the_catalog() -> None:
    known_here = {gpu.architecture for gpu in CATALOG.gpus.values()}
    assert {name for names in known.MULTIPLIES_IN.values() for name in names} <= known_here


@pytest.mark.parametrize(("gpu", "wired"), [("H100 SXM5", True), ("MI300X", True), ("H100 NVL", False), ("L40S", False)])
def test_boards_of_several_gpus_are_wired_unless_it_is_said(gpu: str, wired: bool) -> None:
    said = {"seq_len": 2048, "num_gpus": 4, "sharding": "fsdp"}
    seconds = {link: step("8b", gpu, interconnect=link, **said).link_s for link in ("nvlink", "pcie", "unknown")}
    assert seconds["unknown"] == seconds["nvlink" if wired else "pcie"]
    assert seconds["nvlink"] <= seconds["pcie"]


def test_a_pipeline_waits_while_it_fills_and_empties() -> None:
    """Four stages and 32 micro-batches take as long as 35, and a single one as long as four: only one stage works at a time."""
    said = {"seq_len": 2048, "num_gpus": 4, "interconnect": "nvlink", "sharding": "ddp", "pipeline_parallel_size": 4}
    piped = step("8b", "H100 SXM5", **said)
    assert piped.step_s(32) - piped.step_s(1) == pytest.approx(31 * piped.micro_step_s)
    assert piped.step_s(1) >= 4 * piped.micro_step_s
    alone = step("8b", "H100 SXM5", seq_len=2048)
    assert piped.step_s(1) > 0.9 * alone.step_s(1)
    assert alone.step_s(32) / piped.step_s(32) < 4


def test_compiled_blocks_move_less_than_fused_ones() -> None:
    said = {"seq_len": 2048, "micro_batch_size": 2}
    eager, fused, compiled = (step("8b", "L40S", kernels=name, **said).memory_s for name in ("eager", "fused", "compiled"))
    assert compiled < 0.8 * fused < 0.8 * eager


# ── what is waited for ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_fsdp_holds_the_gpu_up_by_the_same_seconds_whatever_the_batch() -> None:
    said = {"sharding": "fsdp", "num_gpus": 2, "interconnect": "nvlink", "seq_len": 4096}
    small, large = (step("7b", "A100-SXM4-80GB", micro_batch_size=size, **said) for size in (2, 8))
    assert small.held_s == large.held_s > 0
    assert small.micro_step_s > small.compute_s + small.memory_s + small.held_s
    assert step("7b", "A100-SXM4-80GB", sharding="fsdp", num_gpus=1, seq_len=4096).held_s == 0


def test_nothing_is_computed_beside_what_deepspeed_s_third_stage_gathers() -> None:
    """Qwen-72B, LoRA on four A100: a step of 256 tokens took the time of gathering and of computing one after the other."""
    said = {"num_gpus": 4, "interconnect": "nvlink", "micro_batch_size": 2, "seq_len": 512}
    deepspeed, fsdp = (step("70b", "A100-SXM4-80GB", sharding=name, **said) for name in ("zero3", "fsdp"))
    assert deepspeed.summed_s == pytest.approx(fsdp.link_s, rel=0.5)
    assert deepspeed.link_s == 0
    assert deepspeed.micro_step_s >= deepspeed.compute_s + deepspeed.memory_s + deepspeed.summed_s
    assert step("70b", "A100-SXM4-80GB", sharding="zero2", **said).summed_s == 0  # its weights are whole


def test_python_walks_through_experts_in_earlier_releases_alone() -> None:
    said = {"seq_len": 512}
    grouped, looped, other = (
        step("qwen3-30b-a3b", "H100 SXM5", **said, **more).host_s
        for more in ({}, {"versions": {"transformers": "4.57"}}, {"stack": "trl"})
    )
    assert looped == other > 10 * grouped


# ── how far an estimate is to be trusted ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        ("A100-SXM4-80GB", "one_gpu"),
        ("H200 SXM", "one_gpu"),
        ("RTX 3090", "other_card"),  # of the same generation, and another chip
        ("RTX 4090", "other_card"),
        ("B200", "other_card"),
        ("MI300X", "other_vendor"),
    ],
)
def test_a_card_that_nobody_measured_is_trusted_less(gpu: str, expected: str) -> None:
    case = read_case({"model": "7b", "seq_len": 4096})
    found = run_class(resolve_model("7b"), strategy_of(case), CATALOG.gpu(gpu).gpu, step("7b", gpu, seq_len=4096))
    assert found == expected
    assert known.SPREADS[found] >= known.SPREADS["one_gpu"]


def test_a_slow_host_makes_a_step_slower_only_where_the_host_is_near() -> None:
    """p90 lies as far as a slow host would take it; p10 is its class's, since no host makes a GPU faster."""
    short, long = (step("llama-3.2-1b", "H200 SXM", seq_len=length, **HELD) for length in (256, 16_384))
    near = spread_of("host_bound", short, 1)
    assert short.bound == "host"
    assert near.fast == known.SPREADS["host_bound"] < near.slow == pytest.approx(known.SLOW_HOST, rel=0.02)
    assert long.bound != "host"
    assert spread_of("one_gpu", long, 1) == (known.SPREADS["one_gpu"], known.SPREADS["one_gpu"])


def test_a_gpu_that_a_slow_host_would_hold_up_is_trusted_less_to_be_fast_enough() -> None:
    """Between the two: the GPU decides p50, and a slow host p90."""
    between = step("llama-3.2-1b", "H200 SXM", seq_len=4096, **HELD)
    assert between.bound != "host"
    assert known.SPREADS["one_gpu"] < spread_of("one_gpu", between, 1).slow < known.SLOW_HOST


# ── the host ───────────────────────────────────────────────────────────────────────────────────────────────────────────

HELD: dict[str, Any] = {"micro_batch_size": 1}


def test_what_hangs_on_linears_costs_its_launches_whatever_the_tokens() -> None:
    """DoRA launches more than LoRA, which launches more than scaling an output; full tuning hangs nothing on a linear."""

    def seconds(method: str, **more: Any) -> float:
        return step("llama-3.2-1b", "H200 SXM", method=method, seq_len=512, **more).host_s

    assert seconds("full") < seconds("ia3") < seconds("lora") < seconds("vera") < seconds("dora") < seconds("oft")
    assert seconds("lora", target_modules="default") < seconds("lora")
    assert seconds("lora") == step("llama-3.2-1b", "L4", method="lora", seq_len=4096).host_s


def test_a_packed_base_and_a_checkpoint_cost_the_host_more() -> None:
    def seconds(**more: Any) -> float:
        return step("llama-3.2-1b", "H200 SXM", seq_len=512, **more).host_s

    plain, packed, kept = seconds(), seconds(quant="nf4"), seconds(gradient_checkpointing="off")
    blocks, linears, passes = 16, 7, 3
    assert packed - plain >= 0.99 * known.LAUNCH_S * known.PACKED_LAUNCHES * blocks * linears * passes
    assert plain - kept > known.LAUNCH_S * known.CHECKPOINT_LAUNCHES * blocks


def test_only_blocks_that_learn_are_walked_through_again() -> None:
    """A backward pass ends at the lowest block that carries something."""
    every, top = (step("llama-3.2-1b", "H200 SXM", **said).host_s for said in (
        {"method": "full"}, {"method": "freeze", "trainable_layers": 2}
    ))  # fmt: skip
    assert top < every / 2


def test_an_optimizer_that_walks_through_its_tensors_takes_its_time_once_a_step() -> None:
    walking, fused = (step("llama-3.2-1b", "H200 SXM", optimizer=name) for name in ("lora_fa", "adamw_torch_fused"))
    assert walking.walked_s > walking.once_s
    assert walking.step_s(4) - 4 * walking.micro_step_s == pytest.approx(walking.walked_s)
    assert fused.walked_s == 0


def test_attention_that_torch_writes_out_is_multiplied_in_fp32() -> None:
    """Falcon-7B's one key head meets its query heads as a broadcast, which no fused kernel takes."""
    said = {"seq_len": 2048, "gradient_checkpointing": "off"}
    written_out, eager = (step("falcon-7b", "H200 SXM", attention=name, **said).compute_s for name in ("sdpa", "eager"))
    assert written_out > 1.5 * eager


# ── layer streaming ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_visit_for_several_micro_batches_takes_the_link_once_and_kept_blocks_are_computed_once() -> None:
    """Of six micro-batches four at a time make two visits; of 28 blocks 7 kept spare a quarter of what is computed again."""
    case = read_case({"model": "7b", "seq_len": 512, "offload": "stream", "gradient_accumulation_steps": 6})

    def timed(visits: int, kept: int = 0) -> StepTime:
        said = msgspec.structs.replace(BY_TWO_SLOTS, num_visits=visits, num_blocks_without_recompute=kept)
        return step_time(
            resolve_model("7b"),
            msgspec.structs.replace(strategy_of(case), streaming=said),
            task=case.task,
            gpu=CATALOG.gpu("RTX 4090").gpu,
            stack=stack_of(case),
            mean_seq_len=512.0,
            interconnect=case.interconnect,
        )

    once = timed(1)
    assert [timed(visits).link_s / once.link_s for visits in (2, 3, 4, 6)] == pytest.approx([1 / 2, 1 / 3, 1 / 3, 1 / 6])
    assert timed(6).busy_s == once.busy_s
    depth = resolve_model("7b").depth
    spared = [once.compute_s - timed(1, depth * part // 4).compute_s for part in (1, 2, 4)]
    assert spared == pytest.approx([spared[0], 2 * spared[0], 4 * spared[0]])
    assert 0 < spared[2] < once.compute_s / 3


# ── adapters that are not LoRA's ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["dora", "adalora", "loha", "lokr", "boft", "vera", "fourierft"])
def test_what_makes_or_norms_an_update_takes_a_card_longer_than_lora(method: str) -> None:
    """Each asks for more than the products with its own few parameters, and is trusted as a card that nobody measured."""
    said = {"seq_len": 4096, "target_modules": "all-linear"}
    plain, other = (step("7b", "H100 SXM5", method=name, **said) for name in ("lora", method))
    assert other.compute_s + other.memory_s > 1.1 * (plain.compute_s + plain.memory_s)
    strategy = strategy_of(read_case({"model": "7b", "method": method, **said}))
    assert run_class(resolve_model("7b"), strategy, CATALOG.gpu("H100 SXM5").gpu, other) in ("other_card", "host_bound")


def test_an_update_that_is_made_each_time_weighs_less_the_more_tokens_meet_it() -> None:
    def slower(tokens: int) -> float:
        plain, other = (step("7b", "H100 SXM5", method=name, seq_len=tokens) for name in ("lora", "dora"))
        return (other.compute_s + other.memory_s) / (plain.compute_s + plain.memory_s)

    assert slower(512) > slower(4096) > slower(16_384) > 1
