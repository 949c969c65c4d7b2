"""What a GPU holds when others, or host memory, take a part: counted by hand from the code of DeepSpeed, FSDP and torch."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.asking.case import read_case, stack_of, strategy_of
from planner.estimate import answer
from planner.estimators.memory import estimate_vram
from planner.estimators.memory.held.offloading import pinned_bytes
from planner.estimators.memory.refused.impossible import IMPOSSIBLE
from planner.plan import VramEstimate
from planner.strategy.cuts import CUTS
from remote.contract import Sharding

CATALOG = read_catalog()
MODEL = resolve_model("8b")  # Llama 3.1: 32 blocks, nothing tied
P = MODEL.num_params
EMBEDDING_SHARE = MODEL.vocab_size * MODEL.hidden_size / P
BYTEWISE = 2 + 8 / 256  # two moments of a byte, and the scales of their blocks
FULL = {"method": "full", "seq_len": 512, "num_gpus": 8}


def vram(**said: Any) -> VramEstimate:
    case = read_case({"model": "8b", **said})
    return estimate_vram(MODEL, strategy_of(case), stack=stack_of(case))


def test_every_sharding_of_the_contract_says_what_it_cuts() -> None:
    assert set(CUTS) == set(get_args(Sharding))
    for cut in CUTS.values():  # a stage cuts what the stages before it cut
        assert cut.states >= cut.gradients >= cut.weights


def at_the_step(sharding: str, **said: Any) -> float:
    """Bytes per parameter in the optimizer's step, DeepSpeed's bucket left out."""
    return (vram(**FULL, sharding=sharding, **said).by_instant["optimizer_step"] - 10**9) / P


@pytest.mark.parametrize(
    ("sharding", "bytes_per_param"),
    [
        ("zero1", 2 + 2 + (4 + 8 + 4) / 8),  # weights, gradients; an eighth of master, two moments, the gradient in fp32
        ("zero2", 2 + (2 + 4 + 8 + 4) / 8),
        ("zero3", (2 + 2 + 4 + 8 + 4) / 8),
    ],
)
def test_zero_holds_in_parts_what_its_stage_cuts(sharding: str, bytes_per_param: float) -> None:
    assert at_the_step(sharding) == pytest.approx(bytes_per_param, rel=0.01)


@pytest.mark.parametrize(
    ("said", "bytes_per_param"),
    [
        ({"stack": "trl"}, (4 + 4 + 8) / 8),  # accelerate casts what trains to fp32 where autocast computes in 16 bits
        ({"stack": "trl", "versions": {"transformers": "4.57"}}, (4 + 4 + 8) / 8),  # the first FSDP's parameters too
        ({"stack": "trl", "autocast": "none"}, (2 + 2 + 4) / 8),
        ({"stack": "torchtune"}, (2 + 2 + 4) / 8),  # which has a loop of its own
        # of the embedding transformers' Trainer keeps 32-bit states
        ({"stack": "trl", "optimizer": "adamw_8bit"}, (4 + 4 + BYTEWISE + EMBEDDING_SHARE * (8 - BYTEWISE)) / 8),
    ],
)
def test_fsdp_holds_in_parts_what_accelerate_has_cast(said: dict[str, Any], bytes_per_param: float) -> None:
    step = vram(**FULL, sharding="fsdp", **said)
    assert (step.by_instant["optimizer_step"] - step.components.get("buckets", 0)) / P == pytest.approx(
        bytes_per_param, rel=0.01
    )


def test_fsdp_computes_in_16_bits_whatever_it_keeps() -> None:
    """Gathered weights and the gradients on their way are as narrow with the cast as without."""
    cast, uncast = vram(**FULL, sharding="fsdp"), vram(**FULL, sharding="fsdp", autocast="none")
    for component in ("gathered_weights", "buckets"):
        assert cast.components[component] == uncast.components[component]


@pytest.mark.parametrize(
    ("said", "item"),
    [
        ({}, 4),
        ({"quant": "nf4", "quant_storage": "bfloat16"}, 2),  # the second FSDP leaves all as it is beside 4-bit weights
        ({"quant": "nf4", "quant_storage": "bfloat16", "versions": {"transformers": "4.57"}}, 4),
    ],
)
def test_an_adapter_of_16_bits_is_cast_under_fsdp_and_the_frozen_base_never(said: dict[str, Any], item: int) -> None:
    held = vram(sharding="fsdp", num_gpus=8, adapter_dtype="bfloat16", stack="trl", **said)
    alone = vram(adapter_dtype="bfloat16", stack="trl", kbit_upcast="none", **said)
    assert held.components["adapter"] == pytest.approx(alone.components["adapter"] * item / 2 / 8, rel=0.01)
    assert held.components["weights"] == pytest.approx(alone.components["weights"] / 8, rel=0.01)


def test_deepspeed_makes_its_bucket_however_little_trains() -> None:
    lora = vram(sharding="zero2", num_gpus=2).components["buckets"]
    assert lora == vram(**FULL, sharding="zero2").components["buckets"] == 2 * 500_000_000


@pytest.mark.parametrize(
    "said",
    [{}, {"method": "full", "param_dtype": "float32"}, {"quant": "nf4", "sharding": "zero2"}],
    ids=["adapter", "whole", "prepared"],
)
def test_what_deepspeed_casts_it_casts_everywhere(said: dict[str, Any]) -> None:
    """Whatever dtypes were asked for, the model is of 16 bits, with fp32 masters of what trains, and one bucket."""
    zero: dict[str, Any] = {"sharding": "zero3", "num_gpus": 8, "seq_len": 512} | said
    narrow = {"param_dtype": "bfloat16", "adapter_dtype": "bfloat16", "kbit_upcast": "none", "autocast": "none"}
    assert vram(**zero) == vram(**zero | narrow)
    trained = vram(**zero).components["adapter"] * 8 / 2 if said == {} else P if "method" in said else 0
    if trained:
        assert vram(**zero).components["optimizer"] == pytest.approx((4 + 8) * trained / 8, rel=0.01)


def test_an_eight_bit_optimizer_stays_eight_bits_under_zero() -> None:
    assert vram(**FULL, sharding="zero2", optimizer="adamw_8bit").components["optimizer"] == pytest.approx(
        (2 + 2 * 4 / 256 + 4) * P / 8, rel=0.01
    )


def test_the_second_fsdp_copies_the_gradients_of_the_largest_unit_to_reduce_them() -> None:
    """Of transformers from 5.0 on it is the default; before, gradients were reduced where they lay.

    Units are the blocks, and what lies around them: both vocabulary matrices and the last norm.
    """
    older = vram(**FULL, sharding="fsdp", versions={"transformers": "4.57"})
    newer = vram(**FULL, sharding="fsdp")
    assert "buckets" not in older.components
    assert newer.components["buckets"] == 2 * (2 * MODEL.vocab_size * MODEL.hidden_size + MODEL.hidden_size)
    mixture = resolve_model("mixtral-8x7b")  # whose block is larger than its vocabulary
    case = read_case({"model": "mixtral-8x7b", **FULL, "sharding": "fsdp"})
    assert estimate_vram(mixture, strategy_of(case)).components["buckets"] == 2 * mixture.block_params


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_8bit", "muon"])
@pytest.mark.parametrize("sharding", ["zero3", "fsdp"])
def test_what_tensor_parallelism_cuts_is_cut_everywhere(sharding: str, optimizer: str) -> None:
    """Of weights and states four ranks of two GPUs hold what eight of one do."""
    said = {**FULL, "sharding": sharding, "optimizer": optimizer, "tensor_parallel_size": 2}
    cut, whole = vram(**said), vram(**FULL, sharding=sharding, optimizer=optimizer)
    assert cut.by_instant["load"] == pytest.approx(whole.by_instant["load"], rel=0.001)
    assert cut.components["optimizer"] == pytest.approx(whole.components["optimizer"], rel=0.001)


def test_tensor_parallelism_cuts_units_and_masters() -> None:
    """Two blocks and the vocabulary to compute with; fp32 masters and both moments."""
    fsdp = vram(**FULL, sharding="fsdp"), vram(**FULL, sharding="fsdp", tensor_parallel_size=4)
    assert fsdp[1].components["gathered_weights"] == pytest.approx(fsdp[0].components["gathered_weights"] / 4, rel=0.001)
    assert fsdp[1].components["buckets"] == pytest.approx(fsdp[0].components["buckets"] / 4, rel=0.001)
    zero = vram(**FULL, sharding="zero3", tensor_parallel_size=8)
    assert zero.components["optimizer"] == pytest.approx((4 + 8) * P / 8, rel=0.001)


def test_a_pipeline_leaves_the_vocabulary_whole_with_its_gradients_and_states() -> None:
    outer = 2 * MODEL.vocab_size * MODEL.hidden_size + MODEL.hidden_size
    staged = vram(method="full", seq_len=512, num_gpus=4, sharding="ddp", pipeline_parallel_size=4)
    here = (P - outer) / 4 + outer
    assert staged.by_instant["optimizer_step"] == pytest.approx((2 + 2 + 4) * here, rel=0.01)


@pytest.mark.parametrize("said", [{"sharding": "device_map"}, {"pipeline_parallel_size": 4, "sharding": "ddp"}])
def test_blocks_spread_over_gpus_are_loaded_where_they_stay(said: dict[str, Any]) -> None:
    """A quarter of the blocks, and the vocabulary; in nf4 as packed, before preparation casts the rest to fp32."""
    outer = 2 * MODEL.vocab_size * MODEL.hidden_size + MODEL.hidden_size
    made = vram(num_gpus=4, **said)
    assert made.by_instant["load"] == pytest.approx(2 * ((P - outer) / 4 + outer), rel=0.0001)
    assert made.by_instant["load"] < made.by_instant["prepare"] < made.by_instant["backward"]
    alone, spread = (vram(quant="nf4", **several).by_instant["load"] for several in ({}, {"num_gpus": 4, **said}))
    largest = 2 * MODEL.hidden_size * MODEL.intermediate_size
    assert spread - 2 * outer - largest == pytest.approx((alone - 2 * outer - largest) / 4, rel=0.001)


# ── offload ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_offloaded_states_leave_the_gpu_and_parted_gradients_with_them() -> None:
    assert "optimizer" in vram(**FULL, sharding="zero2").components
    offloaded = vram(**FULL, sharding="zero2", offload="optimizer")
    assert not offloaded.components["optimizer"]
    assert offloaded.by_instant["optimizer_step"] == pytest.approx(
        2 * P + 10**9 + 2 * MODEL.vocab_size * MODEL.hidden_size, rel=0.01
    )
    alone = vram(method="full", seq_len=512, offload="optimizer")  # nobody to part them with: they stay
    assert alone.by_instant["optimizer_step"] == pytest.approx(4 * P, rel=0.01)


@pytest.mark.parametrize("sharding", ["none", "fsdp", "zero3"])
def test_offloaded_weights_leave_what_is_fetched(sharding: str) -> None:
    num_gpus = 1 if sharding == "none" else 8
    made = vram(method="full", seq_len=512, sharding=sharding, num_gpus=num_gpus, offload="params")
    assert not made.components["weights"]
    assert 0 < made.components["gathered_weights"] < 0.2 * 2 * P
    assert made.by_instant["load"] == 0


def test_streaming_leaves_two_slots_the_ends_and_what_trains() -> None:
    block = 2 * (P - 2 * MODEL.vocab_size * MODEL.hidden_size) / 32
    made = vram(offload="stream")
    assert made.components["weights"] == pytest.approx(2 * 2 * MODEL.vocab_size * MODEL.hidden_size + 2 * block, rel=0.001)
    assert made.components["adapter"] == vram().components["adapter"]
    assert made.components["activations"] == vram().components["activations"]


def test_activations_in_host_memory_leave_what_is_on_its_way() -> None:
    """Of saved tensors five at most; of checkpoints one that leaves and one that is computed on."""
    said = {"micro_batch_size": 4, "loss": "chunked"}
    kept = vram(gradient_checkpointing="off", **said)
    away = vram(gradient_checkpointing="off", activation_offload=True, **said)
    tokens = 4 * 2048
    held = 2 * tokens * MODEL.hidden_size * 2  # by frames: the block's input and the embedding's output
    assert away.components["activations"] == pytest.approx(
        5 * tokens * MODEL.intermediate_size * 2 + tokens * 24 + held, rel=0.01
    )
    assert kept.allocated_peak_bytes > 3 * away.allocated_peak_bytes
    checkpoints = {vram(gradient_checkpointing="offloaded", **said).allocated_peak_bytes}
    checkpoints.add(vram(activation_offload=True, **said).allocated_peak_bytes)
    assert len(checkpoints) == 1  # two words for one thing


@pytest.mark.parametrize(("num_bytes", "pinned"), [(0, 0), (1, 1), (4096, 4096), (4097, 8192), (10**9, 2**30)])
def test_a_pinned_tensor_takes_the_next_power_of_two(num_bytes: int, pinned: int) -> None:
    assert pinned_bytes(num_bytes) == pinned


# ── what can't be ──────────────────────────────────────────────────────────────────────────────────────────────────────

IMPOSSIBLE_CASES: tuple[dict[str, Any], ...] = (  # one a row of the table, in its order
    {"quant": "int8", "sharding": "fsdp", "num_gpus": 2},
    {"quant": "awq_int4", "sharding": "zero3", "num_gpus": 2},
    {"method": "full", "offload": "params", "sharding": "zero2", "num_gpus": 2},
    {"offload": "params", "sharding": "ddp", "num_gpus": 2},
    {"method": "full", "offload": "stream"},
    {"offload": "stream", "sharding": "fsdp", "num_gpus": 2},
    {"offload": "stream", "sharding": "ddp", "num_gpus": 4, "tensor_parallel_size": 2},
    {"sharding": "device_map", "num_gpus": 4, "tensor_parallel_size": 2},
    {"modules_to_save": ["lm_head"], "autocast": "none"},
    {"kbit_upcast": "norms", "autocast": "none"},
    {"method": "ia3", "quant": "nf4", "kbit_upcast": "none", "autocast": "none"},
    {"method": "vera", "param_dtype": "float32", "adapter_dtype": "bfloat16", "autocast": "none"},
    {"target_modules": ["q_proj", "lm_head"], "loss": "liger"},
    {"method": "full", "optimizer_in_backward": True, "gradient_accumulation_steps": 4},
    {"model": "bloom-560m", "attention": "flash_attention_2"},
    {"model": "flan-t5-base", "attention": "flash_attention_2"},
)


@pytest.mark.parametrize(("row", "said"), list(enumerate(IMPOSSIBLE_CASES)))
def test_what_excludes_each_other_is_refused_with_a_way_that_is_answered(row: int, said: dict[str, Any]) -> None:
    """The hint is typed, and it works."""
    wrong = IMPOSSIBLE[row]
    case = {"model": "8b", "engine": "closed_form", **said}
    refused = answer(case, CATALOG, None)["error"]
    assert (refused["key"], refused["hint"]) == (wrong.key, wrong.hint)
    assert "vram" in answer(case | wrong.instead, CATALOG, None)


def test_each_impossible_pair_has_a_case() -> None:
    assert len(IMPOSSIBLE_CASES) == len(IMPOSSIBLE)


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ({"method": "full", "quant": "nf4"}, {"quant": "none"}),
        ({"method": "qlora", "quant": "int8"}, {"method": "lora"}),
        ({"num_gpus": 2}, {"sharding": "ddp"}),
        (
            {"method": "prefix_tuning", "num_virtual_tokens": 8, "gradient_checkpointing": "reentrant"},
            {"gradient_checkpointing": "off"},
        ),
        ({"expert_parallel_size": 2, "num_gpus": 2, "sharding": "ddp"}, {"expert_parallel_size": 1}),
    ],
)
def test_what_the_case_itself_excludes_says_the_way_too(said: dict[str, Any], instead: dict[str, Any]) -> None:
    case = {"model": "8b", "engine": "closed_form", **said}
    hint = answer(case, CATALOG, None)["error"]["hint"]
    assert all(f"{key} {value}" in hint or str(value) in hint for key, value in instead.items())
    assert "vram" in answer(case | instead, CATALOG, None)


def test_gptq_is_sharded_where_its_integers_are_looked_at_as_numbers() -> None:
    """fms-acceleration does so under TRL; published runs show it."""
    case = {"model": "8b", "engine": "closed_form", "quant": "gptq_int4", "sharding": "fsdp", "num_gpus": 2}
    assert "error" in answer(case, CATALOG, None)
    assert "vram" in answer(case | {"stack": "trl"}, CATALOG, None)
