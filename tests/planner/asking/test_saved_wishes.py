"""A saved job file holds what was asked for as wishes, and beside them what the planner chose, marked as its choice."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from planner.asking.jobfile import read_job
from planner.asking.jobfile.marks import MARK, chooses_anew, is_marked
from planner.asking.options.overlay import request_of
from planner.asking.options.table import OPTIONS
from planner.asking.request import Request
from planner.plan import Plan
from planner.report.job_file import write_job
from tests.planner.builders import ask, counted, make_catalog, make_gpu, make_offer, parsed

CARDS = (make_gpu(), make_gpu("Card 80GB", memory_gib=80.0, driver_memory_mib=81_000))
MARKET = make_catalog(
    make_offer(),
    make_offer(region="us-south", usd_per_hour=Decimal("0.90")),
    make_offer(region="us-east", purchase="spot", usd_per_hour=Decimal("0.50")),
    make_offer(instance_type="two", num_gpus=Decimal(2), usd_per_hour=Decimal("1.80")),
    make_offer(instance_type="large", gpu="Card 80GB", usd_per_hour=Decimal("3.00")),
    make_offer(provider="other", instance_type="alike", usd_per_hour=Decimal("1.10")),
    make_offer(provider="host", region="host", instance_type="host", usd_per_hour=Decimal(0)),
    gpus=CARDS,
)

# One way or more to say every option of `plan` that asks for something, each another value than the default.
WISHES: dict[str, tuple[tuple[str, ...], ...]] = {
    "model": (("--model", "SmolLM2-360M"),),
    "revision": (("--revision", "main"),),
    "task": (("--task", "classification"), ("--task", "classification", "--data", "rows.jsonl")),
    "data": (("--data", "rows.jsonl"),),
    "columns": (("--data", "rows.jsonl", "--column", "prompt=message", "--column", "completion=reply"),),
    "examples": (("--examples", "700"), ("--data", "rows.jsonl", "--examples", "700")),
    "tokens": (("--tokens", "90k"), ("--tokens", "90k", "--examples", "500")),
    "loop.epochs": (("--epochs", "2"), ("--epochs", "3")),
    "loop.max_steps": (("--max-steps", "100"), ("--max-steps", "7")),
    "loop.learning_rate": (("--learning-rate", "1e-4"), ("--lr", "2e-4")),
    "purpose.use_case": (("--use-case", "classification"),),
    "purpose.deployment": (("--deployment", "edge"),),
    "purpose.accuracy": (("--accuracy", "highest"),),
    "purpose.imbalance": (("--imbalance", "20"),),
    "training.method": (("--method", "lora"), ("--method", "qlora"), ("--method", "full"), ("--method", "adalora")),
    "training.rank": (("--rank", "8"), ("--rank", "16")),
    "training.alpha": (("--alpha", "24"),),
    "training.dropout": (("--dropout", "0.1"), ("--dropout", "0")),
    "training.target_modules": (
        ("--target-modules", "q_proj,v_proj"),
        ("--target-modules", "q_proj"),
        ("--target-modules", "all-linear"),
    ),
    "training.quant": (("--quant", "int8"), ("--quant", "none")),
    "training.seq_len": (("--seq-len", "256"), ("--seq-len", "512")),
    "training.micro_batch_size": (("--micro-batch-size", "2"),),
    "global_batch_size": (
        ("--global-batch-size", "32"),
        ("--global-batch-size", "33"),
        ("--global-batch-size", "32", "--gradient-accumulation-steps", "4"),
        ("--global-batch-size", "32", "--micro-batch-size", "16", "--num-gpus", "2"),
    ),
    "training.gradient_accumulation_steps": (("--gradient-accumulation-steps", "4"),),
    "training.gradient_checkpointing": (("--gradient-checkpointing", "off"), ("--gradient-checkpointing", "reentrant")),
    "training.optimizer": (("--optimizer", "adamw_8bit"),),
    "where.gpus": (("--gpu", "Card 24GB"), ("--gpu", "Card 80GB", "--gpu", "Card 24GB"), ("--gpu", "card 80gb")),
    "where.power_usd_per_kwh": (("--power-price", "0.30"),),
    "where.num_gpus": (("--num-gpus", "2"), ("--num-gpus", "1")),
    "where.gpu_memory_gib": (("--gpu-budget", "80GB"), ("--gpu-budget", "24.5GB")),
    "where.providers": (("--provider", "cloud"), ("--provider", "other", "--provider", "cloud")),
    "where.regions": (("--region", "us-*"), ("--region", "us-south", "--region", "north")),
    "where.offload_disk": (("--offload-disk",), ("--no-offload-disk",)),
    "where.spot": (("--spot",), ("--on-demand",)),
    "where.host": (("--host", "me@192.0.2.7"),),
    "where.allow_from": (("--allow-from", "192.0.2.0/24", "--allow-from", "198.51.100.7"),),
    "budget.max_usd": (("--max-cost", "12.50"),),
    "budget.max_hours": (("--max-hours", "90m"),),
    "budget.lease_hours": (("--lease", "2h"), ("--lease", "90m")),
    "budget.goal": (("--goal", "fastest"), ("--goal", "balanced")),
    "keep.volume_name": (("--keep-volume", "models"),),
    "keep.environment": (("--no-keep-environment",), ("--keep-environment",)),
    "tags": (("--tag", "team=search", "--tag", "yes=no: really"),),
}
# Options that no job file holds, and why.
NOT_HELD = {
    "top": "how many plans are shown is no part of the job",
    "overruled": "to set a policy aside is said each time, and recorded: a file that does it would do it for ever",
}
SAID = [pytest.param(words, id=" ".join(words)) for ways in WISHES.values() for words in ways]


def asked(words: tuple[str, ...]) -> Request:
    """The request of a command line."""
    model = () if "--model" in words else ("--model", "SmolLM2-135M")
    return request_of(parsed(*model, *words), measure=counted)


def planned(request: Request) -> Plan:
    """What would be saved."""
    result = ask(request, MARKET)
    plan = result.recommended or result.plans[0]
    assert plan is not None
    return plan


def read(text: str) -> Request:
    """As `plan job.yaml` reads it."""
    return read_job(text, name="job.yaml", measure=counted)


def test_every_option_is_tried_here_or_named_as_one_that_no_file_holds() -> None:
    """A new option has to decide."""
    assert {option.field for option in OPTIONS} == WISHES.keys() | NOT_HELD.keys()


@pytest.mark.parametrize("words", SAID)
def test_without_the_planners_choices_a_saved_file_is_what_was_asked_for(words: tuple[str, ...]) -> None:
    """Every wish stands as it was said, and none that nobody had."""
    request = asked(words)
    lines = write_job(planned(request)).splitlines()
    left = [line for line in lines if not is_marked(line)]
    assert read("\n".join(left)) == request


@pytest.mark.parametrize("words", SAID)
def test_a_saved_file_plans_what_was_shown(words: tuple[str, ...]) -> None:
    """The same machine, strategy and loop for the same dollars and hours, and every wish with its own value."""
    request = asked(words)
    shown = planned(request)
    saved = read(write_job(shown))
    again = planned(saved)
    assert (again.offer, again.strategy, again.request.loop) == (shown.offer, shown.strategy, shown.request.loop)
    assert (again.cost, again.duration) == (shown.cost, shown.duration)
    assert saved.training | request.training == saved.training
    for section in ("where", "keep", "budget", "purpose", "tags", "global_batch_size", "model", "revision"):
        for said, kept in _pairs(getattr(request, section), getattr(saved, section)):
            assert said in (kept, None, ()), section


def _pairs(said: object, kept: object) -> list[tuple[object, object]]:
    if isinstance(said, msgspec.Struct):
        return [(getattr(said, key), getattr(kept, key)) for key in said.__struct_fields__]
    return [(said, kept)]


# ── the marks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def saved(*words: str) -> str:
    """The job file of these options."""
    return write_job(planned(asked(words)))


def test_marks_survive_reading_and_writing() -> None:
    """A file that is planned and saved again says of the same lines that nobody wished for them."""
    first = saved("--gpu", "Card 24GB")
    again = write_job(planned(read(first)))
    assert [line.partition(":")[0] for line in again.splitlines() if is_marked(line)] == [
        line.partition(":")[0] for line in first.splitlines() if is_marked(line)
    ]
    assert read(again) == read(first)


def test_a_request_is_written_with_its_marks() -> None:
    """As a plan of it is."""
    request = read(saved())
    assert request.chosen
    assert read(write_job(request)) == request


@pytest.mark.parametrize("words", [("--provider", "other"), ("--rank", "64"), ("--use-case", "code"), ("--gpu", "Card 80GB")])
def test_options_that_ask_for_another_machine_or_training_have_all_choices_made_anew(words: tuple[str, ...]) -> None:
    """They were made for what was asked before, as with a saved plan."""
    options = parsed("job.yaml", *words)
    assert chooses_anew(options)
    anew = request_of(options, start=read_job(saved(), name="job.yaml", measure=counted, anew=True))
    assert msgspec.structs.replace(anew, top=5) == asked(words)


@pytest.mark.parametrize(
    "words", [("--max-cost", "5"), ("--tag", "team=search"), ("--allow-from", "192.0.2.0/24"), ("--top", "9")]
)
def test_other_options_leave_the_choices(words: tuple[str, ...]) -> None:
    """What was planned is run within a limit, or under a tag."""
    assert not chooses_anew(parsed("job.yaml", *words))


def test_a_scale_follows_a_rank_that_is_changed_by_hand() -> None:
    """It was chosen for the other; one that was said stands."""
    first = saved("--rank", "8")
    assert read(first).training["alpha"] == 16
    changed = read(first.replace("rank: 8", "rank: 64"))
    assert "alpha" not in changed.training
    assert planned(changed).strategy.alpha == 128
    assert "training.alpha" not in changed.chosen
    assert read(saved("--rank", "8", "--alpha", "24").replace("rank: 8", "rank: 64")).training["alpha"] == 24


def test_a_line_without_its_mark_is_a_wish() -> None:
    """Whoever changes a line takes the mark off."""
    text = saved()
    [line] = [line for line in text.splitlines() if line.lstrip().startswith("micro_batch_size:")]
    assert set(read(text).chosen) - set(read(text.replace(line, line.removesuffix(MARK))).chosen) == {
        "training.micro_batch_size"
    }


def test_several_files_and_the_fate_of_long_rows_are_kept() -> None:
    """As they were said."""
    data = read("model: 7b\ndata: {file: [b.jsonl, rows/*.jsonl], long_rows: split}").data
    assert (data.path, data.more, data.reading.long_rows) == ("b.jsonl", ("rows/*.jsonl",), "split")
    plan = planned(read("model: 7b\ndata: {file: [b.jsonl, rows/*.jsonl], long_rows: split}"))
    again = read(write_job(plan)).data
    assert (again.path, again.more, again.reading.long_rows) == (data.path, data.more, data.reading.long_rows)


def test_packed_rows_are_planned_with_the_mask_that_keeps_them_apart_and_saved_as_packed() -> None:
    """As full rows: of a length that holds several, and as many steps as they make."""
    text = "model: SmolLM2-135M\ndata: {{file: rows.jsonl, packing: {}}}"
    alone, packs = (planned(read(text.format(said))) for said in ("false", "true"))
    assert (alone.strategy.padded, packs.strategy.padded) == (False, True)
    assert packs.strategy.seq_len == 1_024 > alone.strategy.seq_len
    assert packs.duration.num_steps < alone.duration.num_steps
    again = read(write_job(packs))
    assert (again.data.reading.packing, planned(again).strategy) == (True, packs.strategy)


def test_a_job_that_tells_classes_apart_is_saved_as_one_and_planned_with_its_padding_marked() -> None:
    """Its rows are read by its task, so no format stands there."""
    text = "model: all-minilm-l6-v2\ntask: classification\ndata: {file: rows.jsonl, balance: oversampling}"
    request = read(text)
    assert (request.data.reading.format, request.data.reading.balance) == ("classification", "oversampling")
    plan = planned(request)
    assert plan.strategy.padded
    again = read(write_job(plan))
    read_as = again.data.reading
    assert (again.task, read_as.format, read_as.balance) == ("classification", "classification", "oversampling")
