"""What the planner fills in, and that each choice has a reason and can be overruled."""

from __future__ import annotations

import pytest

from planner.advise import GLOBAL_BATCH_SIZE, MINIMUM_STEPS, Advice, advise, loop_for
from planner.asking.request import stated_data
from tests.planner.builders import make_request


def advised(**training: object) -> Advice:
    """Advice for the default job with these keys said."""
    return advise(make_request(training=training))


def test_silence_means_lora_on_all_linear_layers() -> None:
    """In 16, 8 and 4 bits; which, the memory decides."""
    advice = advised()
    assert advice.training == {"method": "lora", "target_modules": "all-linear", "rank": 16, "alpha": 32.0}
    assert [variant["quant"] for variant in advice.variants] == ["none", "int8", "nf4"]


def test_auto_is_silence() -> None:
    """`--method auto` asks for what the planner does anyway."""
    assert advised(method="auto") == advised()


def test_every_choice_names_reason_and_source() -> None:
    """Values, not prose: each can be printed and each can be overruled."""
    for choice in advised().choices:
        assert choice.reason
        assert choice.source
    assert {choice.key for choice in advised().choices} == {"method", "target_modules", "rank", "alpha", "global_batch_size"}


def test_what_was_said_is_not_chosen_again() -> None:
    """A said key stands, and is no choice of ours."""
    advice = advised(rank=8, target_modules=["q_proj"])
    assert (advice.training["rank"], advice.training["target_modules"]) == (8, ["q_proj"])
    assert {choice.key for choice in advice.choices} == {"method", "alpha", "global_batch_size"}


def test_alpha_follows_the_rank_that_was_said() -> None:
    """Twice the rank."""
    assert advised(rank=64).training["alpha"] == 128.0


def test_lora_by_name_leaves_the_weights_as_they_are() -> None:
    """As in the estimate contract: a quantized base is said, or left to auto."""
    assert advised(method="lora").variants == ({},)
    assert advised(method="lora", quant="int8").variants == ({"kbit_upcast": "norms"},)


def test_qlora_is_lora_on_doubly_quantized_nf4() -> None:
    """Resolved before a Strategy exists."""
    advice = advised(method="qlora")
    assert advice.training["method"] == "lora"
    assert advice.variants == ({"quant": "nf4", "double_quant": True, "kbit_upcast": "norms"},)


def test_full_tuning_only_where_it_is_asked_for() -> None:
    """Without adapters there is no rank; the optimizer's states are what varies. Its learning rate is a tenth."""
    advice = advised(method="full")
    assert "rank" not in advice.training
    assert [variant["optimizer"] for variant in advice.variants] == ["adamw_torch_fused", "adamw_8bit"]
    assert loop_for("full").learning_rate == pytest.approx(loop_for("lora").learning_rate / 10)


def test_a_small_job_gets_smaller_batches_for_enough_steps() -> None:
    """Twenty steps at least, where there are so many sequences."""
    tiny = make_request(data=stated_data(num_examples=50, num_tokens=None, tokens_per_example=64))
    assert advise(make_request()).global_batch_size == GLOBAL_BATCH_SIZE
    assert advise(tiny).global_batch_size == 4
    assert MINIMUM_STEPS <= 50 * 3 / 4


def test_a_global_batch_that_was_said_is_kept() -> None:
    """However few steps that makes."""
    assert advise(make_request(global_batch_size=64)).global_batch_size == 64
