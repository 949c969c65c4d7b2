"""What the planner fills in, and that each choice has a reason and can be overruled."""

from __future__ import annotations

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from planner.advise import GLOBAL_BATCH_SIZE, MINIMUM_STEPS, Advice, advise
from planner.asking.data import stated_data
from planner.asking.request import Purpose, Request
from planner.asking.rules import loop_for, with_loop
from planner.choice.recipes import ACCURACIES, DEPLOYMENTS, MEANINGS, OF_THE_LOOP, RULES, SERVING_RULES, USE_CASES, UseCase
from remote.contract import Loop, Strategy
from tests.planner.builders import make_request

BASE = resolve_model("7b")
LARGE = stated_data(num_examples=5_000, tokens_per_example=512)


def advised(**training: object) -> Advice:
    """Advice for the default job with these keys said."""
    return advise(make_request(training=training), BASE)


def job(use_case: UseCase | None = None, *, training: dict[str, object] | None = None, **changes: object) -> Request:
    """5,000 examples for this use, unless other data are named; fields of a Purpose go there."""
    of_purpose = {key: changes.pop(key) for key in Purpose.__struct_fields__ if key in changes}
    purpose = Purpose(use_case=use_case, **of_purpose)  # type: ignore[arg-type]
    request = make_request(**{"data": LARGE, "purpose": purpose, "training": training or {}} | changes)
    return with_loop(request, said=())


def for_use(use_case: UseCase | None = None, **changes: object) -> dict[str, object]:
    """What is chosen for it, by key."""
    return {choice.key: choice.value for choice in advise(job(use_case, **changes), BASE).choices}  # type: ignore[arg-type]


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


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "lora_prompt"])
def test_a_prompt_has_a_length_without_being_asked(method: str) -> None:
    """`plan` has no option for it; a job file says another."""
    assert advised(method=method).training["num_virtual_tokens"] == 20
    assert advised(method=method, num_virtual_tokens=8).training["num_virtual_tokens"] == 8
    assert "num_virtual_tokens" not in {choice.key for choice in advised(method=method, num_virtual_tokens=8).choices}


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
    """Without adapters there is no rank, and no way to hold the weights but one. Its learning rate is a tenth."""
    advice = advised(method="full")
    assert "rank" not in advice.training
    assert advice.variants == ({},)
    of_weights, of_adapters = (loop_for(make_request(training={"method": name})) for name in ("full", "lora"))
    assert of_weights.learning_rate == pytest.approx(of_adapters.learning_rate / 10)


def test_a_small_job_gets_smaller_batches_for_enough_steps() -> None:
    """Twenty steps at least, where there are so many sequences."""
    tiny = make_request(data=stated_data(num_examples=50, num_tokens=None, tokens_per_example=64))
    assert advise(make_request(), BASE).global_batch_size == GLOBAL_BATCH_SIZE
    assert advise(tiny, BASE).global_batch_size == 4
    assert MINIMUM_STEPS <= 50 * 3 / 4


def test_a_global_batch_that_was_said_is_kept() -> None:
    """However few steps that makes."""
    assert advise(make_request(global_batch_size=64), BASE).global_batch_size == 64


def test_nothing_is_advised_of_a_batch_that_follows_from_a_pass_and_its_number() -> None:
    """Advice that the job does not follow would contradict it."""
    both: dict[str, object] = {"micro_batch_size": 2, "gradient_accumulation_steps": 8}
    tiny = make_request(data=stated_data(num_examples=50, tokens_per_example=64), training=both)
    assert advise(tiny, BASE).global_batch_size == 16
    assert not advise(tiny, BASE).chose("global_batch_size")
    one = make_request(data=tiny.data, training={"micro_batch_size": 2})
    assert advise(one, BASE).chose("global_batch_size")


# ── what it is for ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("use_case", "rank", "schedule", "warmup_ratio"),
    [
        ("classification", 8, "linear", 0.06),
        ("extraction", 8, "linear", 0.06),
        ("chat", 16, "constant", 0.03),
        ("code", 64, "cosine", 0.03),
        ("summarization", 8, "linear", 0.03),
        ("translation", 16, "cosine", 0.01),
        ("style", 8, "linear", 0.03),
    ],
)
def test_each_use_has_its_rank_and_schedule(use_case: UseCase, rank: int, schedule: str, warmup_ratio: float) -> None:
    """Alpha follows the rank; learning rate and targets are everybody's."""
    request = job(use_case)
    training = advise(request, BASE).training
    assert (training["rank"], training["alpha"], training["method"]) == (rank, 2.0 * rank, "lora")
    assert (request.loop.schedule, request.loop.warmup_ratio, request.loop.learning_rate) == (schedule, warmup_ratio, 2e-4)


def test_every_rule_can_hold_and_speaks_of_what_can_be_said() -> None:
    """Its facts are words that a request can have, its key one of a Strategy, the Loop or the batch; its source has a year."""
    words = {"use_case": USE_CASES, "deployment": DEPLOYMENTS, "accuracy": ACCURACIES}
    for rule in (*RULES, *SERVING_RULES):
        for fact, named in rule.when.items():
            assert all(word in words.get(fact, ()) or (fact, word) in MEANINGS for word in named), rule
        fields = Loop.__struct_fields__ if rule.key in OF_THE_LOOP else (*Strategy.__struct_fields__, "global_batch_size")
        assert rule.key in fields, rule
        assert rule.reason, rule
        assert "20" in rule.source, rule  # the year


def test_a_value_that_no_source_has_says_so_wherever_it_is_shown() -> None:
    """LIMA tuned all weights, QA-LoRA knows no nf4, nobody names twenty steps: such a value is never shown as the source's."""
    style = {choice.key: choice for choice in advise(job("style", deployment="edge"), BASE).choices}
    for key in ("rank", "quant"):
        assert "the value is assumed: " in style[key].source
    assert "assumed" not in {choice.key: choice for choice in advise(job("translation"), BASE).choices}["rank"].source
    short = make_request(data=stated_data(num_examples=50, tokens_per_example=64))
    batch = next(choice for choice in advise(short, BASE).choices if choice.key == "global_batch_size")
    assert batch.source.startswith("assumed: ")


def test_what_is_said_stands_against_every_rule() -> None:
    """Each key by itself: a rank of 4 for code, alpha after it; a schedule of the job's own."""
    advice = advise(job("code", training={"rank": 4, "dropout": 0.2}), BASE)
    assert (advice.training["rank"], advice.training["alpha"], advice.training["dropout"]) == (4, 8.0, 0.2)
    assert not {"rank", "dropout"} & {choice.key for choice in advice.choices}
    own = with_loop(make_request(purpose=Purpose(use_case="chat")), said={"schedule"})
    assert own.loop.schedule == "cosine"


def test_few_examples_get_dropout_and_a_short_run_a_higher_rate() -> None:
    """Below 1,000 rows, and below 100 steps of 16."""
    chosen = for_use("chat", data=stated_data(num_examples=200, tokens_per_example=512))
    assert (chosen["dropout"], chosen["learning_rate"]) == (0.05, 3e-4)
    assert not {"dropout", "learning_rate"} & set(for_use("chat"))


def test_more_tokens_than_a_rank_can_hold_raise_it() -> None:
    """A bit for each token, two for each trained number; 256 is the highest that the sources tried."""
    assert for_use("style", data=stated_data(num_examples=500_000, tokens_per_example=512))["rank"] == 64
    assert for_use("style", data=stated_data(num_examples=10**9, tokens_per_example=512))["rank"] == 256


def test_long_rows_and_skewed_classes_change_the_batch() -> None:
    """A step of long rows holds fewer of them; one of skewed classes more, so that it sees the rarest."""
    long = stated_data(num_examples=5_000, tokens_per_example=16_384)
    assert for_use("summarization", data=long)["global_batch_size"] == 8
    assert for_use("classification", imbalance=20.0)["global_batch_size"] == 32
    assert for_use("classification", imbalance=2.0)["global_batch_size"] == 16
    counted = msgspec.structs.replace(LARGE, classes=(("common", 900, 1), ("rare", 30, 7)))
    assert for_use("classification", data=counted)["global_batch_size"] == 32
    assert for_use("classification", data=counted, imbalance=2.0)["global_batch_size"] == 16  # what is said stands


def test_where_it_answers_bounds_the_rank() -> None:
    """Many adapters and small devices bear 16; merged, any rank answers as fast. That is the last word of all rules."""
    assert for_use("code", deployment="many_adapters")["rank"] == 16
    assert for_use("style", deployment="many_adapters")["rank"] == 8
    assert for_use("style", deployment="merged")["rank"] == 32
    assert for_use("code", deployment="merged")["rank"] == 64


def test_a_small_device_gets_an_adapter_made_for_four_bits() -> None:
    """Where nothing is said of it; and DoRA where the last point counts at that rank."""
    edge = advise(job("style", deployment="edge"), BASE)
    assert [variant["quant"] for variant in edge.variants] == ["nf4"]
    assert "quant" in {choice.key for choice in edge.choices}
    said = advise(job("style", deployment="edge", training={"quant": "int8"}), BASE)
    assert [variant["quant"] for variant in said.variants] == ["int8"]
    assert for_use("style", deployment="edge", accuracy="highest")["method"] == "dora"
    assert for_use("style", accuracy="highest")["rank"] == 64


def test_a_method_with_a_rank_of_its_own_keeps_it() -> None:
    """The rules are about LoRA and DoRA; the weights' own tuning has its own rate and no advice of theirs."""
    assert advise(job("code", training={"method": "loha"}), BASE).training["rank"] == 8
    full = job("classification", training={"method": "full"})
    assert (full.loop.learning_rate, full.loop.schedule) == (2e-5, "cosine")


def test_without_a_purpose_nothing_changes() -> None:
    """Whoever names no use gets what the planner always chose, however few or many the rows."""
    few = make_request(data=stated_data(num_examples=100, tokens_per_example=16_384))
    assert with_loop(few, said=()).loop == Loop()
    assert advise(few, BASE).training["rank"] == 16


# ── what is said, each key by itself ───────────────────────────────────────────────────────────────────────────────


def test_a_loop_key_that_was_said_stands_also_where_it_is_as_advised() -> None:
    """And is no choice of ours, whatever the job turns out to be for."""
    short = job("chat", data=stated_data(num_examples=200, tokens_per_example=512))
    assert (short.loop.learning_rate, short.said_of_loop) == (3e-4, ())
    said = with_loop(short, said={"learning_rate"})
    assert (said.loop.learning_rate, said.said_of_loop) == (3e-4, ("learning_rate",))
    assert "learning_rate" not in {choice.key for choice in advise(said, BASE).choices}


@pytest.mark.parametrize("method", ["auto", "lora", "dora"])
def test_a_small_device_gets_four_bits_whichever_of_the_two_methods_is_said(method: str) -> None:
    """A method that is said says nothing of how the base is held."""
    advice = advise(job("style", deployment="edge", training={"method": method}), BASE)
    assert [variant["quant"] for variant in advice.variants] == ["nf4"]
    assert "quant" in {choice.key for choice in advice.choices}
    said = advise(job("style", deployment="edge", training={"method": method, "quant": "none"}), BASE)
    assert {variant.get("quant", "none") for variant in said.variants} == {"none"}


@pytest.mark.parametrize(("max_steps", "rate"), [(99, 3e-4), (100, 2e-4), (None, 2e-4)])
def test_a_run_that_is_cut_short_is_short(max_steps: int | None, rate: float) -> None:
    """Fewer than a hundred steps of a large file."""
    assert job("chat", loop=Loop(max_steps=max_steps)).loop.learning_rate == rate


def test_what_loras_bear_less_well_is_nothing_to_full_tuning() -> None:
    """Long rows leave its batch; skewed classes change that of every method."""
    long = stated_data(num_examples=5_000, tokens_per_example=16_384)
    assert for_use("summarization", data=long, training={"method": "full"})["global_batch_size"] == 16
    assert for_use("classification", imbalance=20.0, training={"method": "full"})["global_batch_size"] == 32


# ── what a rank can hold ───────────────────────────────────────────────────────────────────────────────────────────


def test_two_blocks_that_train_hold_less_than_all() -> None:
    """So they need a higher rank for the same tokens, however the two were named."""
    data = stated_data(num_examples=100_000, tokens_per_example=512)
    assert for_use("style", data=data)["rank"] == 16
    assert for_use("style", data=data, loop=Loop(layers=(0, 1)))["rank"] == 256
    assert for_use("style", data=data, training={"method_options": {"layers_to_transform": [0, 1]}})["rank"] == 256


def test_magnitudes_of_dora_are_no_more_at_a_higher_rank() -> None:
    """What a rank adds is the same for both methods, so is the rank that they need."""
    for num_examples in (100_000, 150_000, 250_000, 310_000, 620_000):
        data = stated_data(num_examples=num_examples, tokens_per_example=512)
        ranks = {for_use("style", data=data, training={"method": method})["rank"] for method in ("lora", "dora")}
        assert len(ranks) == 1, num_examples
