"""Seconds, tokens per second and energy: the terms, the phases, and runs that were measured."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from catalogs.hardware import Offer
from planner.asking.case import read_case, stack_of, strategy_of
from planner.asking.request import DataAsked
from planner.asking.sent import Sent
from planner.estimators.calibration import ORDERED_DISK_BYTES_PER_S
from planner.estimators.time import phases
from planner.estimators.time.demand import flops_of
from planner.estimators.time.duration import Here, Pace, estimate_duration, pace_of, steps_of
from planner.estimators.time.links import host_bytes_per_s, linked_bytes, reduced_bytes
from planner.estimators.time.timed import Job, timed
from planner.estimators.work import work_of
from planner.plan import DurationEstimate, Range
from planner.strategy.stack import PINNED_STACK
from planner.units import GIB
from remote.contract import Attention, Loop, Phase, Strategy
from remote.data.batches import total_steps

CATALOG = read_catalog()
DATA = DataAsked(num_examples=1000, mean_tokens=512, max_tokens=512, basis="stated", held_out_rows=100)
STRATEGY = Strategy(method="lora", rank=16, alpha=32.0, micro_batch_size=4, seq_len=512)
RENTED = Offer(
    provider="cloud",
    region="north",
    instance_type="one",
    purchase="on_demand",
    gpu="L4",
    num_gpus=Decimal(1),
    vcpus=8,
    usd_per_hour=Decimal(1),
    source="invented",
)
LOCAL = msgspec.structs.replace(RENTED, provider="local", gpu=None, num_gpus=Decimal(0), vcpus=2)


def pace(model: str, gpu: str, **said: Any) -> Pace:
    case = read_case({"model": model, **said})
    return pace_of(
        resolve_model(model),
        strategy_of(case),
        gpu=CATALOG.gpu(gpu).gpu,
        task=case.task,
        stack=stack_of(case),
        mean_seq_len=case.mean_seq_len or float(case.seq_len),
        interconnect=case.interconnect,
        cores=None,
    )


def duration(model: str = "7b", *, strategy: Strategy = STRATEGY, offer: Offer = RENTED, **more: Any) -> DurationEstimate:
    gpu = CATALOG.gpu(offer.gpu).gpu if offer.gpu else None
    there = {key: more.pop(key) for key in set(more) & set(Here.__struct_fields__)}
    given_ = {"data": DATA, "loop": Loop(), **more}
    return estimate_duration(resolve_model(model), strategy, Here(gpu, offer, **there), **given_)


# tokens per second and GPU, A100-80GB: IBM fms-acceleration, scripts/benchmarks/refs/a100_80gb.csv (commit 876e2ed)
FMS = {
    "seq_len": 4096,
    "micro_batch_size": 4,
    "attention": "flash_attention_2",
    "gradient_checkpointing": "reentrant",
    "optimizer": "adamw_torch",
    "autocast": "none",
    "stack": "trl",
}
ATTENTION = {"rank": 16, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}


@pytest.mark.parametrize(
    ("said", "measured"),
    [
        ({"method": "full"}, 3062.7),
        ({"method": "full", "kernels": "fused", "loss": "fused_inplace"}, 3447.1),
        ({**ATTENTION}, 3323.9),
        ({**ATTENTION, "kernels": "fused", "loss": "fused_inplace"}, 3780.5),
    ],
)
def test_an_a100_ran_within_the_range(said: dict[str, Any], measured: float) -> None:
    """Mistral-7B, 4 × 4,096: the middle within a tenth, the range around the measurement."""
    speed = pace("mistral-7b", "A100-SXM4-80GB", **{**FMS, **said}).tokens_per_s
    assert speed.p50 == pytest.approx(measured, rel=0.1)
    assert speed.p10 <= measured <= speed.p90


def test_short_batches_are_bound_by_the_host_and_long_ones_by_the_gpu() -> None:
    """Below some hundred tokens a faster card buys nothing."""
    said = {"rank": 8, "gradient_checkpointing": "off"}
    short = pace("7b", "H100 SXM5", seq_len=128, **said)
    assert short.bound == "host"
    assert pace("7b", "A100-SXM4-80GB", seq_len=128, **said).step_s.p50 == pytest.approx(short.step_s.p50, rel=0.01)
    assert pace("7b", "H100 SXM5", seq_len=4096, micro_batch_size=4, **said).bound != "host"


def attention_per_token(model: str, seq_len: int, attention: Attention) -> float:
    """Operations that grow with the length, of a step that trains every weight without recomputing."""
    architecture = resolve_model(model)
    strategy = Strategy(method="full", gradient_checkpointing="off", attention=attention, seq_len=seq_len)
    long, short = (
        msgspec.structs.replace(timed(architecture, strategy, PINNED_STACK, task="causal_lm", mean_seq_len=length), tokens=1.0)
        for length in (seq_len, 1e-9)
    )
    return flops_of(long) - flops_of(short)


def test_only_blocks_that_attend_and_only_as_far_as_they_see_cost_attention() -> None:
    """Of Granite 4 H Tiny's 40 blocks four attend, 1,536 wide. Of Gemma 3 1B's 26, 1,024 wide, 22 see 512 positions back: at
    8,192 a token's mean is 512 less what the first 512 tokens lack, where the kernel skips the rest.
    """
    passes = 1 + 2.5  # forward, and backward by FlashAttention
    assert attention_per_token("granite-4.0-h-tiny", 8192, "sdpa") == pytest.approx(passes * 4 * 2 * 8192 * 1536)
    all_seen, windowed = (attention_per_token("gemma-3-1b", 8192, kernel) for kernel in ("sdpa", "flash_attention_2"))
    assert all_seen == pytest.approx(passes * 26 * 2 * 8192 * 1024)
    assert windowed == pytest.approx(passes * 2 * 1024 * (4 * 8192 + 22 * 512 * (2 - 512 / 8192)))


def job(model: str, **said: Any) -> Job:
    case = read_case({"model": model, **said})
    return timed(resolve_model(model), strategy_of(case), stack_of(case), task=case.task, mean_seq_len=float(case.seq_len))


def test_gradients_are_reduced_in_their_own_dtype_or_in_what_autocast_computes_in() -> None:
    """A ring sends each twice, less a rank's own half of two: 4 B of fp32 under DDP, 2 B where DeepSpeed's engine casts."""
    said = {"method": "full", "num_gpus": 2, "param_dtype": "float32"}
    params = resolve_model("1b").num_params
    for sharding, num_bytes in (("ddp", 4), ("zero1", 2)):
        assert reduced_bytes(job("1b", sharding=sharding, **said)) == params * num_bytes


def test_what_is_gathered_is_what_is_stored() -> None:
    """Of a 4-bit base its packed blocks, and both ends in 16 bits; twice, since FSDP keeps no block from forward."""
    said: dict[str, Any] = {"num_gpus": 2, "sharding": "fsdp", "rank": 1, "adapter_dtype": "bfloat16", "seq_len": 512}
    plain, packed = (linked_bytes(job("8b", quant=quant, **said)) for quant in ("none", "nf4"))
    architecture = resolve_model("8b")
    blocks = architecture.num_params - architecture.vocabulary_params
    assert plain == pytest.approx(2 * architecture.num_params * 2 / 2, rel=0.001)
    assert packed == pytest.approx(2 * (blocks * (0.5 + 4 / 64) + 2 * architecture.vocabulary_params) / 2, rel=0.001)


def test_unpacking_costs_by_how_a_weight_is_stored_and_unpacked() -> None:
    """LLM.int8 reads a byte where nf4 reads half; fp8 is multiplied as it is, and unpacked in backward alone."""
    said: dict[str, Any] = {"seq_len": 128, "kbit_upcast": "none"}
    seconds = {quant: pace("8b", "H100 SXM5", quant=quant, **said).step.memory_s for quant in ("none", "fp8", "nf4", "int8")}
    assert sorted(seconds, key=lambda quant: seconds[quant]) == ["none", "fp8", "nf4", "int8"]


def test_a_slow_link_binds_sharded_weights() -> None:
    said = {"sharding": "fsdp", "num_gpus": 4, "seq_len": 512}
    over_pcie, over_nvlink = (pace("7b", "A100-SXM4-80GB", interconnect=link, **said) for link in ("pcie", "nvlink"))
    assert over_pcie.bound == "link"
    assert over_nvlink.tokens_per_s.p50 > over_pcie.tokens_per_s.p50
    assert pace("7b", "A100-SXM4-80GB", quant="nf4", interconnect="pcie", **said).step_s.p50 < over_pcie.step_s.p50


def test_streamed_blocks_cross_the_link_twice_a_micro_step() -> None:
    """6.5 billion weights of 28 blocks, 2 bytes each, in and again for backward at 25 GB/s: 0.97 s, whatever the batch. The
    ends stay on the GPU, and two blocks lie there at each turn-around.
    """
    said = {"seq_len": 128, "offload": "stream"}
    short, shorter = (pace("7b", "A100-SXM4-80GB", **said | {"seq_len": length}).step_s.p50 for length in (128, 64))
    assert short == pytest.approx(shorter, rel=0.15)
    assert short > 26 / 28 * 2 * 2 * 6.5e9 / 25e9
    longer = {name: pace("7b", "A100-SXM4-80GB", seq_len=8192, offload=name).step_s.p50 for name in ("none", "stream")}
    assert longer["stream"] < 1.3 * longer["none"]  # hidden behind what is computed


def test_a_step_on_the_host_s_cores_takes_its_memory_and_the_link() -> None:
    """16 bits to the host and back, and 32 bytes a parameter at 20 GB/s."""
    said: dict[str, Any] = {"method": "full", "seq_len": 512}
    here, there = (pace("7b", "A100-SXM4-80GB", offload=name, **said).step_s.p50 for name in ("none", "optimizer"))
    assert there - here == pytest.approx(7.6e9 * (4 / 25e9 + 32 / 20e9), rel=0.05)
    two = pace("7b", "A100-SXM4-80GB", offload="optimizer", sharding="zero2", num_gpus=2, interconnect="nvlink", **said)
    assert two.step_s.p50 < 0.7 * there


@pytest.mark.parametrize("sharding", ["fsdp", "zero3"])
def test_what_tensor_parallel_ranks_hold_in_parts_they_gather_in_parts(sharding: str) -> None:
    """Eight GPUs of one context each hold all of its weights; of eight tensor-parallel ones each holds an eighth."""
    said: dict[str, Any] = {"method": "full", "sharding": sharding, "num_gpus": 16, "seq_len": 512, "stack": "nemo"}
    whole, parted = (linked_bytes(job("70b", tensor_parallel_size=size, **said)) for size in (1, 8))
    assert parted == pytest.approx(whole / 8 * (1 / 2) / (15 / 16))  # rings of two ranks instead of sixteen
    beside, alone = (
        reduced_bytes(job("8b", **said | {"sharding": "ddp", "num_gpus": n, "context_parallel_size": n})) for n in (2, 1)
    )
    assert alone == 0
    assert beside > 0  # one replica, whose two halves of a context each have gradients of all weights


def test_a_chip_beside_its_own_processor_streams_by_their_link() -> None:
    """450 GB/s each way, of which 0.8 are reached, where an H100 on PCIe 5 has 50."""
    assert host_bytes_per_s(CATALOG.gpu("GH200").gpu) == pytest.approx(360e9)
    assert host_bytes_per_s(CATALOG.gpu("H100 SXM5").gpu) == pytest.approx(50e9)
    unknown = msgspec.structs.replace(CATALOG.gpu("H100 SXM5").gpu, pcie_generation=None)
    assert host_bytes_per_s(unknown) == min(host_bytes_per_s(each) for each in CATALOG.gpus.values() if each.pcie_lanes == 16)


def test_a_loss_that_keeps_no_logits_multiplies_by_the_head_once_more() -> None:
    whole, chunked = (job("1b", seq_len=512, loss=loss) for loss in ("hf", "chunked"))
    head = whole.architecture.vocab_size * whole.architecture.hidden_size
    assert flops_of(chunked) - flops_of(whole) == pytest.approx(whole.tokens * 2 * head)


def test_an_optimizer_takes_as_long_as_what_it_moves() -> None:
    """SGD has no state to read and write, 8-bit AdamW a quarter of one; Muon multiplies each matrix by itself."""
    said: dict[str, Any] = {"method": "full", "seq_len": 512}
    names = ("sgd", "adamw_8bit", "adamw_torch_fused")
    once = {name: pace("1b", "H100 SXM5", optimizer=name, **said).step.once_s for name in (*names, "muon")}
    assert once["sgd"] == pytest.approx(3 / 7 * once["adamw_torch_fused"], rel=0.01)
    assert once["sgd"] < once["adamw_8bit"] < once["adamw_torch_fused"] < once["muon"]


def test_tensor_parallel_sums_stay_within_a_machine() -> None:
    """A second machine beside the first adds replicas, which LoRA hardly reduces over, and slows no sum."""
    said = {"sharding": "ddp", "tensor_parallel_size": 4, "interconnect": "nvlink", "seq_len": 8192, "stack": "nemo"}
    one = pace("70b", "H100 SXM5", num_gpus=8, **said)
    two = pace("70b", "H100 SXM5", num_gpus=16, num_nodes=2, **said)
    assert two.step_s.p50 == pytest.approx(one.step_s.p50, rel=0.01)
    assert pace("70b", "H100 SXM5", num_gpus=8, **said | {"interconnect": "pcie"}).step_s.p50 > 1.2 * one.step_s.p50


def test_machines_share_their_network_cards_in_a_ring() -> None:
    """What is gathered enters each machine once, by all of its cards: eight GPUs to a machine are faster than two."""
    said = {"sharding": "fsdp", "method": "full", "num_gpus": 16, "interconnect": "nvlink", "seq_len": 512}
    wide, narrow = (pace("7b", "A100-SXM4-80GB", num_nodes=nodes, **said) for nodes in (2, 8))
    assert narrow.bound == "link"
    assert narrow.step_s.p50 > wide.step_s.p50


def test_machines_of_which_no_network_is_stated_have_that_of_their_class_and_a_range_as_wide() -> None:
    """Cards in slots have 10 Gb/s to the next machine, from a fourth of it to ten times as much; boards of eight far more."""
    said = {"sharding": "fsdp", "method": "full", "num_gpus": 16, "num_nodes": 2, "interconnect": "nvlink", "seq_len": 512}
    board, slots = (pace("7b", card, **said) for card in ("H100 SXM5", "L4"))
    gathered = [demanded.step.link_s + demanded.step.summed_s for demanded in (board, slots)]
    assert gathered[1] / gathered[0] == pytest.approx(1_600 / 10, rel=0.01)
    assert slots.step_s.p90 / slots.step_s.p50 == pytest.approx(4, rel=0.05)
    assert slots.step_s.p50 / slots.step_s.p10 == pytest.approx(10, rel=0.1)
    one = pace("7b", "L4", **said | {"num_gpus": 8, "num_nodes": 1})
    assert one.step_s.p90 / one.step_s.p50 < 3, "within one machine nothing of it is waited for"


def test_flash_attention_gains_little_from_a_hopper_card_unless_its_kernel_is_made_for_it() -> None:
    said = {"seq_len": 32768}
    plain, own = (pace("7b", "H100 SXM5", stack=stack, kernels="fused", **said) for stack in ("transformers", "megatron"))
    assert plain.step.compute_s > 1.1 * own.step.compute_s
    on_ampere = [pace("7b", "A100-SXM4-80GB", stack=stack, **said).step.compute_s for stack in ("transformers", "megatron")]
    assert on_ampere[0] == on_ampere[1]


def test_fused_kernels_help_where_norms_are_many_kernels_and_heads_are_rotated() -> None:
    """GPT-2's norm is one kernel and nothing is rotated, so there is little to fuse; a fused loss reads logits fewer times."""
    said = {"seq_len": 1024, "method": "full", "micro_batch_size": 8}

    def saved(model: str) -> float:
        eager, fused = (pace(model, "A100-SXM4-80GB", kernels=kernels, **said).step for kernels in ("eager", "fused"))
        return 1 - fused.memory_s / eager.memory_s

    assert saved("smollm2-135m") > 3 * saved("gpt2") > 0
    plain, liger = (pace("gpt2", "A100-SXM4-80GB", loss=loss, kernels="fused", **said).step for loss in ("hf", "liger"))
    assert liger.memory_s < plain.memory_s
    plain, ours = (pace("gpt2", "A100-SXM4-80GB", loss=loss, **said).step for loss in ("hf", "liger"))
    assert ours.memory_s == plain.memory_s  # whose loss in chunks is torch's own kernels


def test_the_first_fsdp_waits_for_each_matrix_of_an_adapter() -> None:
    """With peft's policy each is a unit of its own; the second FSDP, with transformers 5, gathers whole blocks."""
    said = {"num_gpus": 2, "sharding": "fsdp", "interconnect": "nvlink", "seq_len": 512}
    first, second = (pace("7b", "A100-SXM4-80GB", versions={"transformers": version}, **said) for version in ("4.48", "5.24"))
    assert first.bound == "host"
    assert first.step.held_s > 4 * second.step.held_s


@pytest.mark.parametrize(
    ("autocast", "param_dtype", "measured_s"),
    [("none", "float32", 2.5), ("none", "float32", 3.9), ("bfloat16", "float32", 1.65)],
)
def test_two_cores_took_what_is_predicted(autocast: str, param_dtype: str, measured_s: float) -> None:
    """SmolLM2-135M, LoRA r 8 all-linear, 512 tokens a step: bare steps on a quiet host, and a whole run's 131 tokens/s on the
    same virtual cores when the host gave them less. p50 lies between them.
    """
    strategy = Strategy(
        method="lora",
        rank=8,
        micro_batch_size=4,
        seq_len=128,
        autocast=autocast,  # type: ignore[arg-type]
        param_dtype=param_dtype,  # type: ignore[arg-type]
        gradient_checkpointing="off",
    )
    data = msgspec.structs.replace(DATA, mean_tokens=128, max_tokens=128)
    step = duration("smollm2-135m", strategy=strategy, offer=LOCAL, data=data).step_s
    assert step.p50 == pytest.approx(measured_s, rel=0.35)
    assert step.p10 < measured_s < step.p90


def test_every_phase_is_there_in_order_and_adds_up() -> None:
    estimate = duration()
    assert list(estimate.phase_s) == [phase.value for phase in Phase]
    for end in ("p10", "p50", "p90"):
        parts = sum(getattr(seconds, end) for seconds in estimate.phase_s.values())
        assert getattr(estimate.wall_s, end) == pytest.approx(parts)
    assert estimate.phase_s["train"].p50 == pytest.approx(estimate.num_steps * estimate.step_s.p50)


def test_nothing_is_created_on_a_machine_that_exists() -> None:
    """The local box: no minutes of waiting, and no download or installation where both are there."""
    local = duration("smollm2-135m", offer=LOCAL, reused_environment=True, model_on_box=True).phase_s
    for phase in ("queue", "create", "boot", "download", "teardown", "confirm"):
        assert local[phase].p50 <= 1
    assert local["environment"].p50 <= 1 + phases.IMPORT_S.p50  # torch is imported before the trainer's first line
    assert duration().phase_s["create"].p50 > 30
    assert duration("smollm2-135m", offer=LOCAL).phase_s["environment"].p50 > 10


@pytest.mark.parametrize(
    ("examples", "epochs", "max_steps", "steps"), [(1000, 3.0, None, 750), (1001, 1.0, None, 251), (1000, 3.0, 20, 20)]
)
def test_steps_are_batches_times_epochs(examples: int, epochs: float, max_steps: int | None, steps: int) -> None:
    assert steps_of(STRATEGY, PINNED_STACK, examples, Loop(epochs=epochs, max_steps=max_steps)) == steps


@given(examples=st.integers(1, 5_000), epochs=st.floats(0.1, 5), size=st.integers(1, 8), passes=st.integers(1, 8))
def test_steps_are_those_of_the_trainer(examples: int, epochs: float, size: int, passes: int) -> None:
    strategy = msgspec.structs.replace(STRATEGY, micro_batch_size=size, gradient_accumulation_steps=passes)
    planned = steps_of(strategy, PINNED_STACK, examples, Loop(epochs=epochs))
    assert planned == total_steps(examples, epochs, None, size * passes)


def test_padding_is_computed_on_and_so_it_is_planned() -> None:
    """Half of the rows are long: four together are nearly always as wide as those."""
    data = msgspec.structs.replace(DATA, mean_tokens=300, profile=((100, 0.5), (500, 0.5)))
    alone, together = (
        msgspec.structs.replace(STRATEGY, micro_batch_size=size, gradient_accumulation_steps=4 // size, seq_len=512)
        for size in (1, 4)
    )
    assert work_of(data, alone, on_cpu=True).train_mean == pytest.approx(300)
    assert work_of(data, alone, on_cpu=False).train_mean == pytest.approx((104 + 504) / 2)  # widths are multiples of 8
    few = work_of(data, alone, on_cpu=False, cuda_graphs=True)  # in eighths of the length that a row may have
    assert few.train_mean == pytest.approx((128 + 512) / 2)
    assert work_of(data, together, on_cpu=True).train_mean == pytest.approx(500 - 400 / 2**4)
    assert duration(data=data, strategy=together).num_tokens > 1.5 * duration(data=data, strategy=alone).num_tokens


def test_sizes_that_were_stated_hold_no_padding() -> None:
    """Nor are they rounded."""
    data = msgspec.structs.replace(DATA, mean_tokens=300.5)
    assert work_of(data, STRATEGY, on_cpu=False).train_mean == 300.5


def test_held_out_rows_have_lengths_of_their_own() -> None:
    """Without padding: rows of like length are judged together."""
    short, long = ((50, 1.0),), ((400, 0.5), (600, 0.5))
    data = msgspec.structs.replace(DATA, profile=short, held_out_profile=long)
    work = work_of(data, STRATEGY, on_cpu=True)
    assert (work.train_mean, work.num_held_out, work.held_out_mean) == (50, 100, (400 + 512) / 2)  # cut at 512
    alike = msgspec.structs.replace(data, held_out_profile=short)
    assert duration(data=data).phase_s["evaluate"].p50 > duration(data=alike).phase_s["evaluate"].p50


def test_judging_costs_the_forward_part_of_training() -> None:
    """A third where all weights train, a half where the base gets no gradient of its own, less where blocks run twice."""
    plain: dict[str, Any] = {"gradient_checkpointing": "off", "micro_batch_size": 4, "seq_len": 512}
    again = plain | {"gradient_checkpointing": "non_reentrant"}
    frozen = pace("7b", "A100", **plain, method="lora", rank=16).step.forward_share
    trained = pace("7b", "A100", **plain, method="full").step.forward_share
    twice = pace("7b", "A100", **again, method="lora", rank=16).step.forward_share
    assert frozen == pytest.approx(1 / 2, abs=0.02)
    assert trained == pytest.approx(1 / 3, abs=0.02)
    assert twice == pytest.approx(1 / 3, abs=0.02)


def test_a_long_document_is_several_examples() -> None:
    """So there are more steps; a conversation of that length is cut."""
    data = msgspec.structs.replace(DATA, mean_tokens=1_024, max_tokens=1_024, profile=((1_024, 1.0),))
    split = msgspec.structs.replace(data, documents=True)
    assert [work_of(each, STRATEGY, on_cpu=True).num_examples for each in (data, split)] == [1_000, 2_000]
    assert duration(data=split).num_steps == 2 * duration(data=data).num_steps


def test_gpus_share_the_batches() -> None:
    four = msgspec.structs.replace(STRATEGY, num_gpus=4, sharding="ddp")
    assert duration(strategy=four).num_steps == 188  # 3,000 rows in batches of 16
    assert duration(strategy=four).num_tokens == pytest.approx(duration().num_tokens, rel=0.01)


def test_energy_is_power_times_time() -> None:
    """An L4 of 72 W beside a 130 W host, busy through most of the run."""
    estimate = duration()
    hours = estimate.wall_s.p50 / 3600
    assert 0.05 * hours < estimate.energy_kwh.p50 < 0.2 * hours


def test_a_bridge_between_two_cards_makes_no_board_of_them() -> None:
    """Cards in slots draw less than they may, and a host's power beside it; of a board each GPU draws its share of all."""
    kwh = {}
    for name in ("H100 PCIe", "H100 SXM5"):
        offer = msgspec.structs.replace(RENTED, gpu=name, num_gpus=Decimal(2), interconnect="nvlink")
        strategy = msgspec.structs.replace(STRATEGY, num_gpus=2, sharding="ddp", seq_len=4096, micro_batch_size=8)
        found, gpu = duration(strategy=strategy, offer=offer), CATALOG.gpu(name).gpu
        phases_s = (found.phase_s[each].p50 for each in (Phase.LOAD, Phase.PROBE, Phase.TRAIN, Phase.EVALUATE, Phase.SAVE))
        kwh[name] = found.energy_kwh.p50 / (2 * gpu.tdp_w * sum(phases_s) / 3.6e6)
    slot, board = 1.03 * (0.88 + 130 / 700), 1.03 * 1.25  # where the GPUs are always busy, with what the supply loses
    assert kwh["H100 PCIe"] <= slot * 1.001 < kwh["H100 SXM5"] <= board * 1.001


def test_a_base_that_lies_here_goes_over_the_uplink_on_the_machine_s_meter() -> None:
    """4.8 GB at 6 MB/s are 800 s where the hub would have sent 7B in half a minute; rows go by the same way."""
    hub, here = duration().phase_s[Phase.DOWNLOAD], duration(sent=Sent(base_bytes=4_800_000_000)).phase_s[Phase.DOWNLOAD]
    assert (here.p10, here.p50, here.p90) == pytest.approx((96, 800, 4_000), rel=0.03)
    with_rows = duration(sent=Sent(rest_bytes=60_000_000)).phase_s[Phase.DOWNLOAD]
    assert with_rows.p50 - hub.p50 == pytest.approx(10)


@pytest.mark.parametrize(("provider", "rate"), ORDERED_DISK_BYTES_PER_S.items())
@pytest.mark.parametrize("ram_gib", [16.0, 64.0, 256.0, None])
def test_a_base_arrives_as_fast_as_the_disk_that_is_ordered_takes_it(provider: str, rate: Range, ram_gib: float | None) -> None:
    """What memory can't hold until the disk has it waits; what it can't keep until it is loaded is read from there again."""
    elsewhere = duration().phase_s
    there = duration(offer=msgspec.structs.replace(RENTED, provider=provider, ram_gib=ram_gib)).phase_s
    base_bytes, ram_bytes = elsewhere[Phase.DOWNLOAD].p50 * phases.HUB_BYTES_PER_S.p50, (ram_gib or 0.0) * GIB
    written = max(0.0, base_bytes - 0.2 * ram_bytes) / rate.p50
    assert there[Phase.DOWNLOAD].p50 == pytest.approx(max(written, elsewhere[Phase.DOWNLOAD].p50))
    read = 0.0 if ram_bytes * 0.8 > base_bytes else base_bytes / rate.p50
    assert there[Phase.LOAD].p50 == pytest.approx(max(read, elsewhere[Phase.LOAD].p50))
    if ram_gib != 64.0:
        assert (ram_gib == 256.0) == (there[Phase.DOWNLOAD] == elsewhere[Phase.DOWNLOAD])


@pytest.mark.parametrize(("provider", "rate"), ORDERED_DISK_BYTES_PER_S.items())
def test_a_checkpoint_is_forced_to_that_disk_at_its_rate(provider: str, rate: Range) -> None:
    strategy = msgspec.structs.replace(STRATEGY, rank=256)
    saves = [duration(strategy=strategy, offer=msgspec.structs.replace(RENTED, provider=name)) for name in ("cloud", provider)]
    checkpoints_s = [each.phase_s[Phase.SAVE].p50 - phases.VERIFY_S.p50 for each in saves]
    assert checkpoints_s[1] == pytest.approx(checkpoints_s[0] * phases.WRITE_BYTES_PER_S.p50 / rate.p50)


def test_a_base_that_is_sent_from_here_waits_for_the_uplink_and_not_for_the_disk() -> None:
    sent = Sent(base_bytes=15 * 10**9)
    there, elsewhere = (duration(offer=msgspec.structs.replace(RENTED, provider=name), sent=sent) for name in ("aws", "cloud"))
    assert there.phase_s[Phase.DOWNLOAD] == elsewhere.phase_s[Phase.DOWNLOAD]


def test_a_machine_that_shares_our_files_is_sent_nothing_and_still_makes_plain_weights() -> None:
    plain, packed = Sent(base_bytes=10**10, rest_bytes=10**9), Sent(base_bytes=10**10, packed=True)
    assert duration(sent=plain, offer=LOCAL, model_on_box=True).phase_s[Phase.DOWNLOAD] == phases.ZERO
    unpacks = duration(sent=packed, offer=LOCAL, model_on_box=True).phase_s[Phase.DOWNLOAD]
    assert unpacks.p50 > 400  # 6.7 billion parameters at 15 million a second
    assert duration(sent=packed).phase_s[Phase.DOWNLOAD].p50 == pytest.approx(unpacks.p50 + 10**10 / 6e6)


def test_rows_become_tokens_while_the_base_comes_and_only_what_takes_longer_is_waited_for() -> None:
    """15 GB come from the hub in 38 s and are loaded in 14; 0.6 million tokens take a second, 60 million 100 s."""
    few, many = (duration(data=msgspec.structs.replace(DATA, num_examples=rows - 100)).phase_s for rows in (1_172, 117_188))
    assert few[Phase.DOWNLOAD] == many[Phase.DOWNLOAD]
    assert few[Phase.LOAD].p50 < 14
    assert many[Phase.DOWNLOAD].p50 + many[Phase.LOAD].p50 == pytest.approx(117_188 * 512 / 0.6e6)
    there = duration(data=msgspec.structs.replace(DATA, num_examples=117_088), model_on_box=True).phase_s
    assert there[Phase.LOAD].p50 == pytest.approx(117_188 * 512 / 0.6e6)


@given(batch=st.integers(1, 32), seq_len=st.integers(64, 4096), gpu=st.sampled_from(["T4", "L4", "H100 SXM5", "MI300X"]))
def test_ranges_are_ordered_and_positive(batch: int, seq_len: int, gpu: str) -> None:
    found = pace("3b", gpu, micro_batch_size=batch, seq_len=seq_len)
    for one in (found.tokens_per_s, found.step_s):
        assert 0 < one.p10 < one.p50 < one.p90


@given(tokens=st.integers(64, 8192))
def test_more_tokens_never_take_less_time(tokens: int) -> None:
    assert pace("3b", "L4", seq_len=tokens).step_s.p50 <= pace("3b", "L4", seq_len=tokens + 64).step_s.p50


def test_blocks_that_are_compiled_are_so_in_the_probe_by_a_compiler_that_a_rented_box_is_given() -> None:
    eager, compiled = (
        duration(strategy=msgspec.structs.replace(STRATEGY, kernels=kernels)).phase_s for kernels in ("eager", "compiled")
    )
    more = {phase: compiled[phase].p50 - eager[phase].p50 for phase in eager if compiled[phase].p50 > eager[phase].p50}
    assert set(more) == {Phase.ENVIRONMENT, Phase.PROBE}
    assert more[Phase.ENVIRONMENT] == pytest.approx(phases.COMPILER_S.p50)
    assert more[Phase.PROBE] == pytest.approx(phases.COMPILE_S.p50, rel=0.2)  # two steps are quicker
