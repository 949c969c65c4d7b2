"""What no machine would change is refused before machines are looked at, in one sentence that says what to type."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from planner.asking.jobfile import read_job
from planner.asking.request import Where
from planner.estimators.time.duration import steps_of
from planner.plan import SearchResult
from planner.refusals import CaseError, CaseRefused, Unsupported
from planner.report.job_file import write_job
from planner.strategy.stack import PINNED_STACK
from remote.contract import Loop, Reading
from tests.planner.builders import TINY_LLAMA, ask, make_catalog, make_offer, make_request

SMALL: dict[str, Any] = TINY_LLAMA | {"hidden_size": 256, "num_hidden_layers": 4}
VISION = {"vision_config": {"hidden_size": 64}}


def planned(
    method: str, *, config: dict[str, Any] | None = None, loop: Loop | None = None, where: Where | None = None, **training: Any
) -> SearchResult:
    """The default job by this method, on one machine."""
    request = make_request(training={"method": method, **training}, loop=loop or Loop(), where=where or Where())
    return ask(request, make_catalog(make_offer()), architecture=resolve_model(config or SMALL))


def the_strategy(result: SearchResult) -> Any:
    """Of the one plan."""
    (plan,) = result.plans
    return plan.strategy


# ── packing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def packed(config: dict[str, Any], **training: Any) -> SearchResult:
    data = msgspec.structs.replace(make_request().data, reading=Reading(packing=True))
    request = make_request(training={"method": "lora", **training}, data=data)
    return ask(request, make_catalog(make_offer()), architecture=resolve_model(config))


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bloom", "hidden_size": 256, "n_layer": 4, "n_head": 4, "vocab_size": 1_000},
        {
            "model_type": "falcon",
            "hidden_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "vocab_size": 1_000,
            "alibi": True,
        },
    ],
)
def test_rows_that_would_see_each_other_are_not_packed(config: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=f"a {config['model_type']} does not keep the texts of a packed row apart") as refused:
        packed(config)
    assert "leave data.packing out" in str(refused.value.hint)


def test_packed_rows_are_planned_with_a_mask_and_in_fewer_steps() -> None:
    """1,000 rows of 512 tokens, two in each row of 1,024."""
    plan = packed(SMALL).plans[0]
    assert (plan.strategy.padded, plan.strategy.seq_len, plan.why_not) == (True, 1_024, None)
    assert plan.duration.num_steps * 2 == pytest.approx(planned("lora").plans[0].duration.num_steps, abs=1)


# ── fused kernels ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_fused_kernels_are_for_families_whose_parts_are_known() -> None:
    """Over 16 bits and over packed weights, which they don't read."""
    with pytest.raises(Unsupported, match=r"fused kernels for llama, .*, and .* is a gpt2") as refused:
        planned("lora", config=dict(resolve_model("gpt2", base=None).config), kernels="fused")
    assert refused.value.hint == "say kernels eager"
    (plan,) = planned("lora", kernels="fused", quant="none").plans
    assert plan.why_not is None
    eager = planned("lora", quant="none").plans[0]
    assert plan.duration.phase_s["probe"].p50 > eager.duration.phase_s["probe"].p50
    assert planned("lora", kernels="fused", quant="nf4").plans[0].why_not is None


# ── AdaLoRA's schedule ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "words", "hint"),
    [
        ({"total_step": 5_000}, "5,000 steps (total_step), and the run makes 188", "leave total_step out"),
        ({"tinit": 100, "tfinal": 88}, "after step 100 (tinit)", "add up to less than 188"),
        ({"tinit": 200}, "and the run makes 188", "add up to less than 188"),
    ],
)
def test_a_schedule_that_the_run_would_not_end_is_refused(said: dict[str, Any], words: str, hint: str) -> None:
    """1,000 rows three times, sixteen a step. The trainer would find out on the box that is paid for."""
    with pytest.raises(CaseError) as refused:
        planned("adalora", method_options=said)
    assert words in refused.value.message
    assert hint in str(refused.value.hint)


def test_a_schedule_is_held_against_the_steps_of_this_very_run() -> None:
    """Fewer epochs or a limit on steps make it too long; one that ends before the run leaves the ranks as they are."""
    fits: dict[str, Any] = {"method_options": {"tinit": 20, "tfinal": 20}}
    assert the_strategy(planned("adalora", **fits)).method_options["tinit"] == 20
    assert planned("adalora", method_options={"total_step": 100}).plans
    for loop in (Loop(epochs=0.5), Loop(max_steps=40)):
        with pytest.raises(CaseError, match="the run makes"):
            planned("adalora", loop=loop, **fits)
    made = planned("adalora", **fits).plans[0]
    assert made.duration.num_steps == steps_of(made.strategy, PINNED_STACK, 1_000, Loop()) == 188


# ── checkpointing ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_prefix_is_planned_without_checkpointing_where_nothing_was_said_of_it() -> None:
    """Blocks that are computed again would meet it twice. A job file that was saved from the plan means the same."""
    (plan,) = planned("prefix_tuning").plans
    assert plan.strategy.gradient_checkpointing == "off"
    again = read_job(write_job(plan), name="job.yaml")
    result = ask(again, make_catalog(make_offer()), architecture=resolve_model(SMALL))
    assert the_strategy(result).gradient_checkpointing == "off"


@pytest.mark.parametrize("wish", ["reentrant", "non_reentrant"])
def test_only_an_explicit_wish_to_recompute_a_prefix_is_refused(wish: str) -> None:
    with pytest.raises(CaseError, match="gradient checkpointing") as refused:
        planned("prefix_tuning", gradient_checkpointing=wish)
    assert "gradient_checkpointing off" in str(refused.value.hint)


def test_a_prefix_that_fits_nowhere_is_told_with_what_it_needs() -> None:
    """As of every other method: the strategies that recompute are not the only ones that are looked at."""
    request = make_request(model="70b", training={"method": "prefix_tuning"})
    (refused,) = [each for each in ask(request, make_catalog(make_offer())).rejections if "prefix_tuning" in each.what]
    assert refused.needed["required_bytes"] > refused.needed["available_bytes"]


# ── blocks that move ───────────────────────────────────────────────────────────────────────────────────────────────


def test_freeze_moves_two_blocks_where_nothing_was_said() -> None:
    """`plan` has no option for it; a job file says another. A base of one block has but one."""
    plan = planned("freeze").plans[0]
    assert plan.strategy.trainable_layers == 2
    assert ("trainable_layers", 2) in [(choice.key, choice.value) for choice in plan.choices]
    assert the_strategy(planned("freeze", config=SMALL | {"num_hidden_layers": 1})).trainable_layers == 1
    assert the_strategy(planned("freeze", trainable_layers=3)).trainable_layers == 3
    assert the_strategy(planned("freeze", loop=Loop(layers=(0,)))).trainable_layers is None


def test_more_blocks_than_there_are_is_refused_with_how_many_there_are() -> None:
    assert the_strategy(planned("freeze", trainable_layers=4)).trainable_layers == 4
    with pytest.raises(CaseError) as refused:
        planned("freeze", trainable_layers=5)
    assert "has 4 blocks, and trainable_layers is 5" in refused.value.message
    assert refused.value.hint == "trainable_layers 1 to 4"


# ── what a base has nothing for ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("bitfit", {}),
        ("lora", {"target_modules": ["nowhere"]}),
        ("fourierft", {"method_options": {"n_frequency": 10_000_000}}),
    ],
)
def test_what_every_strategy_would_be_refused_for_is_said_before_any_machine(method: str, said: dict[str, Any]) -> None:
    with pytest.raises(CaseRefused) as refused:
        planned(method, **said)
    assert refused.value.hint


def test_what_some_strategies_can_do_is_planned_with_those() -> None:
    """PiSSA starts from the weights' numbers, which packed ones have not."""
    assert the_strategy(planned("pissa")).quant == "none"


# ── bases that see ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("whole", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "mistral3", "gemma3", "seer"])
def test_a_base_whose_language_model_the_trainer_cannot_load_is_not_planned(whole: str) -> None:
    """Of some transformers loads nothing, of gemma3 the tower as well; one that is not known is not tried."""
    config = {"model_type": whole, "text_config": TINY_LLAMA, **VISION}
    with pytest.raises(Unsupported, match=f"is a {whole}, of which the trainer can't load") as refused:
        planned("lora", config=config)
    assert "estimate" in str(refused.value.hint)


def test_one_that_is_loaded_without_its_tower_is() -> None:
    text = {**TINY_LLAMA, "model_type": "llama4_text", "intermediate_size_mlp": 256, "num_local_experts": 2}
    architecture = resolve_model({"model_type": "llama4", "text_config": text, **VISION})
    assert architecture.part_of == "llama4"
    with pytest.raises(Unsupported, match="is a gemma3"):
        ask(make_request(), make_catalog(make_offer()), architecture=msgspec.structs.replace(architecture, part_of="gemma3"))
    assert ask(make_request(), make_catalog(make_offer()), architecture=architecture).plans
