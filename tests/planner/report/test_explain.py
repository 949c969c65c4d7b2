"""`estimate --explain`: the budget sums, levers save what an estimate says they save, limits are the last that fit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from catalogs.catalog import read_catalog
from planner.asking.case import read_case
from planner.course import course_of
from planner.estimate import answer, estimate
from planner.estimators.calibration import MAX_ASSUMED_SHARE
from planner.estimators.memory import assumed_share
from planner.explain import Explanation, explain
from planner.methods import METHODS, supported_methods
from planner.plan import VramEstimate
from provision.report.explanation import levers_table

CATALOG = read_catalog()
TOO_LARGE: dict[str, Any] = {"model": "8b", "gpu": "RTX 4090", "micro_batch_size": 4}


def explained(**said: Any) -> Explanation:
    case = read_case({"engine": "closed_form", **said})
    return explain(estimate(case, CATALOG), case, CATALOG)


def required_bytes(**said: Any) -> int:
    return int(answer({"engine": "closed_form", **said}, CATALOG, None)["vram"]["required_bytes"])


@pytest.mark.parametrize(
    "said",
    [
        TOO_LARGE,
        {"model": "1b", "method": "full", "gpu": "T4", "optimizer": "adafactor"},
        {"model": "7b", "quant": "nf4", "num_gpus": 2, "sharding": "fsdp", "gpu": "A100-SXM4-80GB"},
        {"model": "7b"},
        {"model": "7b", "gpu": "L4", "evaluation": {"micro_batch_size": 64}},
    ],
    ids=["too large", "full", "two GPUs", "no card", "a large evaluation"],
)
def test_the_budget_adds_up(said: dict[str, Any]) -> None:
    """From tensors to the process, and from tensors to what is required."""
    budget = explained(**said).budget
    outside = sum(part.num_bytes for part in budget.outside)
    assert sum(part.num_bytes for part in budget.tensors) == budget.allocated_bytes == budget.by_instant[budget.instant]
    assert budget.allocated_bytes + budget.spare_cache_bytes + outside == budget.process_bytes
    beyond = budget.evaluation_bytes + budget.margin_bytes
    assert budget.allocated_bytes + beyond + outside == budget.required_bytes


def test_each_lever_does_what_its_words_say() -> None:
    """A case with the changes of one lever needs what the table says."""
    found = explained(**TOO_LARGE)
    assert len(found.levers) > 8
    for effect in found.levers:
        assert required_bytes(**(TOO_LARGE | effect.changes)) == effect.required_bytes, effect.change
        assert effect.saved_bytes == found.budget.required_bytes - effect.required_bytes > 0


@pytest.mark.parametrize(
    "said",
    [
        {"quant": "gptq_int4"},  # packed experts are linears, which no fused one is
        {"versions": {"transformers": "4.57"}, "method": "dora"},
        {"quant": "nf4", "quantized_experts": True},
        {"dropout": 0.05, "stack": "trl"},
        {"method": "full", "sharding": "zero3", "num_gpus": 8},
    ],
    ids=lambda said: next(iter(said)),
)
@pytest.mark.parametrize("model", ["mixtral-8x7b", "qwen3-30b-a3b"])
def test_what_is_answered_can_be_explained_and_drawn(model: str, said: dict[str, Any]) -> None:
    """Whatever a stack builds of a model, all three are of the same one."""
    case = read_case({"model": model, "seq_len": 512, "gpu": "H100 SXM5", "engine": "closed_form", **said})
    made = estimate(case, CATALOG)
    assert explain(made, case, CATALOG).budget.allocated_bytes == made.vram.allocated_peak_bytes
    assert max(course_of(case, CATALOG).line.allocated) == made.vram.allocated_peak_bytes


def test_levers_on_top_of_one_another_never_need_more() -> None:
    """What can't be run is left out of the sum, and the sum of all is a case of its own."""
    levers = explained(**TOO_LARGE).levers
    sums = [effect.together_bytes for effect in levers]
    assert sums == sorted(sums, reverse=True)
    assert all(
        after == before for before, after, effect in zip(sums, sums[1:], levers[1:], strict=False) if not effect.runnable
    )
    together: dict[str, Any] = {}
    for effect in levers:
        together |= effect.changes if effect.runnable else {}
    assert required_bytes(**(TOO_LARGE | together)) == sums[-1]


def test_a_lever_costs_the_time_that_the_estimate_of_speed_says() -> None:
    """Of the same number of tokens. What the estimate of speed does not know has no figure."""
    levers = {effect.change: effect for effect in explained(**TOO_LARGE | {"gradient_checkpointing": "off"}).levers}
    recompute = levers["gradient_checkpointing non_reentrant"]
    assert recompute.slower_share is not None
    assert recompute.slower_s is not None
    assert 0.1 < recompute.slower_share < 0.5
    before, after = (
        answer(TOO_LARGE | {"gradient_checkpointing": word}, CATALOG, None)["time"]["step_s"]["p50"]
        for word in ("off", "non_reentrant")
    )
    assert recompute.slower_s == pytest.approx(after - before)
    assert levers["loss liger"].slower_share is None


def test_what_goes_to_host_memory_has_its_price_in_time() -> None:
    """Frozen blocks are streamed; where the base itself trains its weights are fetched, and the step is the host's."""
    frozen, whole = (
        {effect.change: effect for effect in explained(**TOO_LARGE | {"method": method}).levers} for method in ("lora", "full")
    )
    assert {"offload stream", "offload params"} & set(frozen) == {"offload stream"}
    assert {"offload stream", "offload params"} & set(whole) == {"offload params"}
    for effect in (frozen["offload stream"], whole["offload params"], frozen["gradient_checkpointing offloaded"]):
        assert effect.slower_s is not None
        assert effect.slower_s > 0
    assert frozen["offload stream"].saved_bytes > 10 * 2**30


def test_the_box_is_explained_by_instant_and_part() -> None:
    """What is shown sums to what is estimated; the rule of thumb stands beside it."""
    box = explained(**TOO_LARGE).box
    assert sum(box.ram.values()) == max(box.ram_by_instant.values())
    assert sum(box.disk.values()) == box.disk_bytes < box.disk_by_rule_bytes == round(1.3 * box.disk_bytes)
    eight = explained(model="8b", sharding="fsdp", num_gpus=8).box
    assert eight.vcpus > 8 > box.vcpus


def test_the_limits_are_the_last_that_fit() -> None:
    """One sequence, or one token, more does not."""
    limits = explained(**TOO_LARGE).limits
    assert limits is not None
    for key, value in (("micro_batch_size", limits.micro_batch_size), ("seq_len", limits.seq_len)):
        assert value is not None
        verdicts = [answer(TOO_LARGE | {key: n}, CATALOG, None)["fits"]["verdict"] for n in (value, value + 1)]
        assert verdicts[0] == "fits" != verdicts[1], key


def test_what_the_trainer_can_t_do_of_the_case_is_held_against_no_lever() -> None:
    """The base case says FlashAttention-2, which this version does not train with: levers differ as they do without it."""
    usual, foreign = explained(**TOO_LARGE), explained(**TOO_LARGE, attention="flash_attention_2")
    assert (usual.lacking, foreign.lacking) == ((), ("attention=flash_attention_2",))
    marked = {effect.change for effect in usual.levers if not effect.runnable}
    assert marked
    assert {effect.change for effect in foreign.levers if not effect.runnable} == marked
    sums = [effect.together_bytes for effect in foreign.levers]
    pairs = zip(sums, sums[1:], foreign.levers[1:], strict=False)
    assert all(after == before for before, after, effect in pairs if not effect.runnable)


def test_the_table_of_levers_says_whose_fault_a_mark_is_and_has_no_column_of_nothing() -> None:
    """Of a case without a card no time is known, and the note says what to type for it."""
    foreign = levers_table(explained(**TOO_LARGE, attention="flash_attention_2"))
    assert "can't do the case as it stands (attention=flash_attention_2)" in str(foreign.note)
    assert any(row[0].endswith(" *") for row in foreign.rows)
    assert not all(row[0].endswith(" *") for row in foreign.rows)
    nowhere = levers_table(explained(model="7b"))
    assert nowhere.columns == ("change, alone", "saves", "then", "together")
    assert "where a card is named: --gpu L4" in str(nowhere.note)
    assert "the estimate of speed does not know" not in str(nowhere.note)


def test_what_never_fits_has_no_limits() -> None:
    limits = explained(model="70b", gpu="T4").limits
    assert limits is not None
    assert (limits.micro_batch_size, limits.seq_len) == (None, None)


def test_without_a_card_there_is_no_limit_and_no_time() -> None:
    found = explained(model="7b")
    assert found.limits is None
    assert {effect.fits for effect in found.levers} == {effect.slower_s for effect in found.levers} == {None}


@pytest.mark.parametrize("method", list(supported_methods()))
def test_every_method_with_a_closed_form_is_explained(method: str) -> None:
    """Its budget, at least one lever, and a picture of its step."""
    said = {"model": "qwen2.5-1.5b", "method": method, "num_virtual_tokens": 8, "trainable_layers": 2, "gpu": "T4"}
    said |= {} if METHODS[method].recomputes else {"gradient_checkpointing": "off"}
    found = explained(**said)
    assert found.budget.required_bytes > 0
    assert found.levers
    assert found.limits is not None
    drawn = course_of(read_case({**said, "engine": "closed_form"}), CATALOG).line
    assert max(drawn.allocated) == found.budget.allocated_bytes


def test_a_prefix_is_not_told_to_checkpoint() -> None:
    """Peft refuses that; every other method is told so."""
    said = {"model": "qwen2.5-1.5b", "num_virtual_tokens": 8, "gpu": "T4", "gradient_checkpointing": "off"}
    levers = {method: str(explained(**said, method=method).levers) for method in ("prefix_tuning", "prompt_tuning")}
    assert {method: "gradient_checkpointing" in words for method, words in levers.items()} == {
        "prefix_tuning": False,
        "prompt_tuning": True,
    }


# ── what bytes rest on ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "assumed"),
    [
        ({}, set()),
        ({"kernels": "fused"}, set()),
        ({"kernels": "fused", "stack": "axolotl"}, {"activations", "temporaries"}),
        ({"kernels": "compiled"}, {"activations", "temporaries"}),
        ({"num_gpus": 2, "tensor_parallel_size": 2}, {"activations", "temporaries", "logits"}),
        ({"method": "full", "optimizer": "adafactor"}, set()),
    ],
    ids=["plain", "fused as read", "fused as guessed", "compiled", "tensor parallel", "adafactor"],
)
def test_every_component_says_what_it_rests_on(said: dict[str, Any], assumed: set[str]) -> None:
    vram = answer({"model": "7b", **said}, CATALOG, None)["vram"]
    assert set(vram["basis"]) == set(vram["components"])
    assert {name for name, basis in vram["basis"].items() if basis == "assumed"} == assumed


def test_more_than_a_twentieth_assumed_forbids_fits() -> None:
    """However much room there is; the reason says of what."""
    case = {"model": "7b", "gpu": "A100-SXM4-80GB", "kernels": "compiled", "gradient_checkpointing": "off"}
    made = answer(case, CATALOG, None)
    assert assumed_share(msgspec.convert(made["vram"], VramEstimate)) > MAX_ASSUMED_SHARE
    assert made["fits"]["verdict"] == "tight"
    assert made["fits"]["margin_bytes"] > 0
    assert "of the peak is assumed (activations" in made["fits"]["reason"]
    assert answer(case | {"kernels": "eager"}, CATALOG, None)["fits"]["verdict"] == "fits"


@pytest.mark.parametrize(
    ("card", "basis", "word"),
    [
        ("A100-SXM4-80GB", "measured", "fits"),
        ("H100 SXM5", "derived", "fits"),  # 132 multiprocessors, each with as much as the A100's
        ("MI300X", "assumed", "tight"),  # half a GiB that nobody measured, beside five: as much as the most that was
    ],
)
def test_a_context_that_is_assumed_counts_among_what_is_judged(card: str, basis: str, word: str) -> None:
    """A job that is small beside it is not promised to fit; a large one is, and so is a small one on a card that is known."""
    small = {"model": "1b", "method": "lora", "gpu": card, "loss": "liger"}
    [context] = explained(**small).budget.outside
    assert context.basis == basis
    fits = answer({"engine": "closed_form", **small}, CATALOG, None)["fits"]
    assert fits["verdict"] == word
    assert ("CUDA context" in fits.get("reason", "")) == (word == "tight")
    assert answer({"engine": "closed_form", **small, "model": "32b", "gpu": card}, CATALOG, None)["fits"]["verdict"] != "tight"


def test_several_processes_speak_and_layers_that_are_spread_do_not() -> None:
    """NCCL's buffers by its own defaults; device_map is one process."""
    outside = {
        sharding: {part.name: part for part in explained(model="7b", num_gpus=2, sharding=sharding).budget.outside}
        for sharding in ("ddp", "device_map")
    }
    assert outside["ddp"]["NCCL"].basis == "derived"
    assert 1.4 * 2**30 < outside["ddp"]["NCCL"].num_bytes < 1.5 * 2**30
    assert "NCCL" not in outside["device_map"]


@pytest.mark.parametrize(
    ("versions", "sentence"),
    [
        ({"transformers": "4.48.1", "torch": "2.4.1"}, None),
        ({"transformers": "5.24.0"}, None),
        ({"transformers": "4.30"}, "transformers 4.30 has no memory profile; 4.44 to 5.24 have one"),
        ({"transformers": "5.31.0"}, "transformers 5.31.0 has no memory profile"),
        ({"deepspeed": "0.15"}, "deepspeed has no memory profile, and is passed over"),
    ],
    ids=["measured", "pinned", "too old", "too new", "not known"],
)
def test_a_release_without_a_profile_is_said(versions: dict[str, str], sentence: str | None) -> None:
    warnings = answer({"model": "7b", "versions": versions}, CATALOG, None)["warnings"]
    said = [warning for warning in warnings if "memory profile" in warning]
    assert (not said) if sentence is None else (len(said) == 1 and sentence in said[0])
