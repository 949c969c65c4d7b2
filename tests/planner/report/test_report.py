"""What a person reads: the job in the first line, the command in the last."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from planner.asking.options.command_line import spelled
from planner.asking.request import DataAsked, Where
from planner.asking.sent import Sent
from planner.notices.machine import packed_bytes, sent_words
from planner.notices.rows import label_words, short_words
from planner.plan import Considered, Plan, Provider, QuotaShort, Range, Rejection, SearchResult, WayOut
from planner.report import MAX_REJECTIONS, render_plan, render_result
from planner.report.words import age, count, fit, machine, several, span, span_range, status, usd, usd_range, why_none
from planner.units import gib
from remote.contract import Loop, Reading, Strategy
from tests.planner.builders import (
    ask,
    exactly,
    make_billing,
    make_catalog,
    make_duration,
    make_gpu,
    make_offer,
    make_plan,
    make_request,
)

REFUSED = Rejection(what="lora r16 bf16", reason="needs 66.9 GiB on one GPU", remedy="1 x H100 with 80 GiB")
LOOKED_AT = Considered(
    num_offers_sold=2_043,
    num_offers_admitted=2_000,
    num_strategies_asked=30,
    num_strategies=756,
    num_candidates=400_000,
    num_pruned=399_900,
)
CHEAPER = make_plan(why_not="price only: this version cannot rent from elsewhere", provider_status="price only")


def result(*plans: Plan, **changes: object) -> SearchResult:
    """An answer with these plans and one refusal."""
    answer = SearchResult(request=make_request(), plans=plans, rejections=(REFUSED,), warnings=(), considered=LOOKED_AT)
    return msgspec.structs.replace(answer, **changes)


def shown(
    answer: SearchResult, *, command: str | None = "rentune run --model x", explain: bool = False, width: int = 140
) -> str:
    """The answer as text without colour."""
    return render_result(answer, command=command, spelled=spelled, explain=explain, width=width, colour=False)


def test_the_first_line_names_the_default_job_and_its_price_per_million_tokens() -> None:
    """Whoever said nothing about data sees what was planned instead."""
    first, *_ = shown(result(make_plan())).splitlines()
    assert first == (
        "Default job: SmolLM2-135M, 1,000 examples × 512 tokens × 3 epochs = 1.5 M tokens, "
        "$1.00 per million tokens on cloud north one"
    )


def test_counted_data_says_how_it_was_counted() -> None:
    """An estimate from characters is not a count."""
    data = DataAsked(path="a.jsonl", num_examples=80, mean_tokens=100.0, max_tokens=300, basis="estimated from characters")
    first, *_ = shown(result(make_plan(), request=make_request(data=data))).splitlines()
    assert first.startswith(
        "Job: SmolLM2-135M, 80 examples × 100 tokens × 3 epochs = 24.0 k tokens (estimated from characters)"
    )


def test_the_first_line_says_how_many_rows_are_held_out() -> None:
    """Fewer than was said are told with the reason."""
    data = DataAsked(path="a.jsonl", num_examples=96, mean_tokens=9.0, max_tokens=9, basis="stated", held_out_rows=24)
    first, *_ = shown(result(make_plan(), request=make_request(data=data))).splitlines()
    assert first.endswith("; 24 rows held out")
    fewer = msgspec.structs.replace(data, held_out_wanted=100)
    told = " ".join(shown(result(make_plan(), request=make_request(data=fewer))).split())
    assert "; 24 rows held out, not 100: at most 20% of the rows are" in told


def test_more_rows_asked_for_than_there_are_is_told_with_what_counts() -> None:
    """Held-out rows of the same file count among them; those of a file of their own don't."""
    data = DataAsked(path="a.jsonl", num_examples=2_400, mean_tokens=9.0, max_tokens=9, basis="stated", held_out_rows=600)
    asked = [msgspec.structs.replace(data, reading=Reading(max_rows=rows)) for rows in (None, 3_000, 5_000)]
    apart = msgspec.structs.replace(data, reading=Reading(max_rows=3_000), held_out_path="b.jsonl")
    assert [short_words(each) for each in asked] == [
        None,
        None,
        "5,000 rows were asked for and the data has 3,000: all of them count, and no more",
    ]
    assert "the data has 2,400:" in (short_words(apart) or "")


@pytest.mark.parametrize(("factor", "told"), [(4.5, True), (0.5, True), (1.4, False), (1.0, False)])
def test_time_that_earlier_runs_moved_by_half_is_said(factor: float, told: bool) -> None:
    """A plan of 35 tokens/s, where 159 came, did not say that one slow run was its reason."""
    plan = make_plan()
    plan = msgspec.structs.replace(plan, duration=msgspec.structs.replace(plan.duration, learned=factor, learned_from=2))
    said = f"Note: 2 earlier runs here took {factor:.2g} x what was reckoned a step, and the time counts that in."
    assert (said in " ".join(render_plan(plan, width=200, colour=False).split())) == told


def test_a_class_of_few_rows_beside_many_is_told_with_what_weighs_it() -> None:
    """A class of 9 among 300 tickets went unsaid; nine of each of two classes are a small job, and nothing to weigh."""
    classes = (("billing", 191, 1), ("refund", 100, 2), ("outage", 9, 3))
    told = "1 class has fewer than 10 rows: 'outage' (9)"
    assert label_words(classes) == (f"{told}; balance: class_weights under data: in a job file lets them weigh more",)
    assert label_words(classes, "oversampling") == (told,)
    assert label_words((("a", 9, 1), ("b", 9, 2))) == ()


def test_labels_that_look_like_slips_are_told_with_their_rows() -> None:
    """Those that differ in case or blanks only, and those of a single row: each is a class that is learned."""
    classes = (("billing", 206, 1), ("Billing", 1, 9), ("shiping", 1, 12), ("tech  help", 40, 3), ("tech help", 50, 4))
    assert label_words(classes) == (
        (
            "labels that differ in case or blanks only are classes of their own: 'billing' (206 rows) beside 'Billing' (1 row)"
            ", 'tech  help' (40 rows) beside 'tech help' (50 rows)"
        ),
        "2 classes have a single row, so that nothing judges what is learned of it: 'Billing', 'shiping'",
    )
    assert label_words((("a", 2, 1), ("b", 9, 2))) == ()
    data = DataAsked(path="a.jsonl", num_examples=298, mean_tokens=9.0, max_tokens=9, basis="stated", classes=classes)
    plan = make_plan(request=make_request(data=data))
    assert "Note: 2 classes have a single row" in " ".join(render_plan(plan, width=100, colour=False).split())


def test_why_nothing_can_be_run_begins_with_the_budget_where_that_is_it() -> None:
    """However many offers were refused for what was asked of them: that was meant, and the limit can be raised."""
    over = Rejection(what="1 machine that could do it", reason="over $0.01 at p90", changes={"budget.max_usd": Decimal("0.14")})
    many = Rejection(what="1,918 offers", reason="not from runpod", num_offers=1_918)
    few = Rejection(what="3 offers", reason="not an L4", num_offers=3)
    answer = msgspec.structs.replace(result(), rejections=(few, over, many))
    assert why_none(answer) == (
        "No plan can be run as asked: nothing on offer does this job: "
        "1 machine that could do it over $0.01 at p90; 1,918 offers not from runpod."
    )


def test_a_base_that_goes_there_from_here_is_told_where_it_takes_much_of_the_machine_s_time() -> None:
    """With minutes at p50 and p90, and what would spare them; nothing where the machine shares our files, or fetches it."""
    duration = make_duration(exactly(3_600.0))
    slow = make_plan(duration=msgspec.structs.replace(duration, phase_s={"download": Range(p10=60, p50=600, p90=3_000)}))
    sent = Sent(base_bytes=4 * 2**30)
    words = sent_words(slow, sent) or ""
    assert "from this machine (4.0 GiB), 10 to 50 min" in words
    assert words.endswith("one on the hub (--model OWNER/NAME) is fetched there")
    assert sent_words(slow, Sent()) is None
    quick = make_plan(duration=make_duration(exactly(3_600.0), download=60.0))
    assert sent_words(quick, sent) is None
    local = msgspec.structs.replace(slow, offer=msgspec.structs.replace(slow.offer, provider="local"))
    assert sent_words(local, sent) is None


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ({"quant": "nf4", "double_quant": True}, ""),
        ({"quant": "fp4", "param_dtype": "float16"}, " --quant fp4 --single-quant --dtype float16"),
    ],
)
def test_a_base_that_is_packed_there_is_told_what_packing_it_here_would_spare(said: dict[str, Any], options: str) -> None:
    """A quarter of the bytes, by the command to type; nothing of a GGUF file, of 16 bits, or of what is packed already."""
    base, duration = resolve_model("7b"), make_duration(exactly(3_600.0))
    plan = make_plan(duration=msgspec.structs.replace(duration, phase_s={"download": Range(p10=60, p50=600, p90=3_000)}))
    plan = msgspec.structs.replace(plan, strategy=msgspec.structs.replace(plan.strategy, **said))
    whole = 2 * 7_000_000_000
    sent = Sent(base_bytes=whole)
    packed = packed_bytes(plan, base, sent)
    assert packed is not None
    assert 0.2 < packed / whole < 0.45
    words = sent_words(plan, sent, packed) or ""
    assert words.endswith(
        f": run --pack-first, or rentune quantize {plan.request.model} --into FOLDER{options}, then --model FOLDER"
    )
    here_usd = float(plan.offer.usd_per_hour) / 6
    assert f"${here_usd * packed / whole:.2f} instead of ${here_usd:.2f}" in words
    assert f"packed here first it is {gib(packed)}, {round(50 * packed / whole)} min at the most" in words
    assert "packed here" not in (sent_words(plan, Sent(base_bytes=packed), packed) or "")
    plain = msgspec.structs.replace(plan, strategy=msgspec.structs.replace(plan.strategy, quant="none", double_quant=False))
    stored = msgspec.structs.replace(base, config={**base.config, "quantization_config": {}})
    assert packed_bytes(plain, base, sent) is packed_bytes(plan, stored, sent) is None
    assert packed_bytes(plan, base, msgspec.structs.replace(sent, packed=True)) is None


def test_a_limit_on_steps_and_the_file_of_a_model_stand_in_the_first_line() -> None:
    """Its name is enough, its folder is not the point."""
    request = make_request(model="/some/where/base.gguf", loop=Loop(epochs=1.0, max_steps=40))
    first, *_ = shown(result(make_plan(), request=request)).splitlines()
    assert first.startswith("Default job: base.gguf, 1,000 examples × 512 tokens × 1 epoch = 512.0 k tokens, at most 40 steps")


def test_the_last_line_is_the_command() -> None:
    """Whole, however narrow the terminal: it is there to be copied."""
    command = "rentune run --model Qwen/Qwen2.5-7B --data YOUR_DATA.jsonl --gpu-budget 24GB --provider aws --on-demand"
    for width in (40, 80, 140):
        assert shown(result(make_plan()), command=command, width=width).splitlines()[-1] == f"  {command}"


def test_without_a_runnable_plan_nothing_is_recommended() -> None:
    """And it is said."""
    text = shown(result(CHEAPER, rejections=()), command=None)
    assert "none of them can be run by this version" in text
    assert text.splitlines()[-1] == "This version can run none of these: nothing to type yet."
    assert (
        shown(result(rejections=()), command=None).splitlines()[-1]
        == "This version has nothing to run as asked: nothing to type yet."
    )
    assert "rentune run" not in text


@pytest.mark.parametrize(
    ("rejections", "where"),
    [
        ((REFUSED,), "above"),
        ((Rejection(what="x", reason="y", changes={"where.spot": True}),), "above"),
        ((*[Rejection(what="x", reason="y")] * MAX_REJECTIONS, REFUSED), "under --explain"),
    ],
)
def test_where_a_refusal_names_what_to_type_the_last_line_says_so(rejections: tuple[Rejection, ...], where: str) -> None:
    """Below a table that names it "nothing to type" would be wrong."""
    last = shown(result(rejections=rejections), command=None).splitlines()[-1]
    assert last == f"Nothing here can be run as asked; “what would do” {where} says what to change."


@pytest.mark.parametrize("width", [60, 66, 80, 100])
def test_no_word_of_the_plan_table_is_cut_in_two(width: int) -> None:
    """Names go on in the next line behind a joint; on the narrowest terminal GPUs stand below their offer."""
    offer = make_offer(provider="massedcompute", region="asia-northeast3", instance_type="g2-standard-4", purchase="spot")
    far = {"phase_s": {}, "wall_s": Range(p10=3_600.0, p50=7_000.0, p90=7_190.0)}
    plan = make_plan(
        offer=offer,
        gpu=make_gpu("RTX A5000"),
        missing=("credentials",),
        duration=msgspec.structs.replace(make_plan().duration, **far),
        cost=msgspec.structs.replace(make_plan().cost, total_usd=Range(p10=0.063, p50=0.089, p90=0.183)),
    )
    text = shown(result(plan), width=width)
    table = [line for line in text.splitlines() if not line.startswith("─")]
    assert max(map(len, table)) <= width
    words = {word for line in table for word in line.split()}
    assert {"massedcompute", "credentials", "$0.089", "(0.063–0.183)", "A5000"} <= words


def test_a_way_out_says_what_it_gives_up() -> None:
    """Shown apart from what was asked for."""
    way = WayOut(change="with 24 GiB on the GPU instead of 16", changes={"where.gpu_memory_gib": 24.0}, plan=make_plan())
    assert "Can be run with 24 GiB on the GPU instead of 16:" in shown(result(CHEAPER, ways_out=(way,)))


@pytest.mark.fault("F24", tier="code")
def test_every_row_carries_its_range_its_verdict_its_status_and_the_age_of_its_price() -> None:
    """An estimate without its doubt, or a price without its date, would be half the truth."""
    plan = make_plan(
        duration=msgspec.structs.replace(make_plan().duration, wall_s=Range(p10=3_000.0, p50=3_600.0, p90=5_400.0)),
        cost=msgspec.structs.replace(make_plan().cost, total_usd=Range(p10=0.9, p50=1.0, p90=1.5)),
        catalog_as_of=dt.date(2026, 11, 1),
    )
    (row,) = [line for line in shown(result(plan), width=200).splitlines() if line.startswith("→ 1 ")]
    for part in ("1 x Card 24GB", "12.0/22.0 fits", "60 (50–90) min", "$1.00 (0.90–1.50)", "ready", "24 days ago"):
        assert part in row


def test_plans_stand_in_groups_by_what_can_be_done_with_them_and_in_a_group_by_dollars() -> None:
    """A price that nobody can rent at is not what a person looks for first, however low it is."""

    def priced(name: str, usd: float, **changes: object) -> Plan:
        cost = msgspec.structs.replace(make_plan().cost, total_usd=exactly(usd))
        return make_plan(offer=make_offer(instance_type=name), cost=cost, **changes)

    not_yet = "not yet runnable: the trainer cannot do num_gpus=2"
    plans = (
        priced("known", 0.1, why_not="price only: this version cannot rent from cloud"),
        priced("later", 0.2, why_not=not_yet),
        priced("narrow", 0.3, verdict="tight"),
        priced("roomy", 0.4),
        priced("dear", 0.5),
    )
    text = shown(result(*plans), width=200)
    rows = [line.split() for line in text[text.index("─\n") : text.index("Best of")].splitlines()[1:]]
    told = [" ".join(row) if row[-1].endswith(":") else row[row.index("cloud") + 2] for row in rows]
    assert told == [
        "fits:",
        "roomy",
        "dear",
        "tight:",
        "narrow",
        "not yet runnable:",
        "later",
        "price only:",
        "known",
    ]
    assert "cheapest, fastest and balanced 1 ($0.40" in text


@pytest.mark.parametrize("width", [80, 100, 140])
def test_dollars_of_a_million_tokens_stand_beside_every_total(width: int) -> None:
    """Below it where the terminal is narrow, in a column of their own where it is not; also of a way out."""
    way = WayOut(change="on demand", changes={}, plan=make_plan())
    text = shown(result(make_plan(), CHEAPER, ways_out=(way,)), width=width)
    table = text[text.index("─") :]
    assert table.count("$1.00/M tok" if width < 140 else " $1.00  ") >= 3
    assert max(map(len, text.splitlines())) <= width


def test_how_much_was_considered_is_one_dim_line_of_the_explanation() -> None:
    """Whoever asks why sees how much was decided on without a figure."""
    told = "Considered: 756 strategies on 2,000 offers that no wish refuses, 400,000 candidates; 399,900 need more memory"
    assert told in shown(result(make_plan()), explain=True)
    assert "Considered" not in shown(result(make_plan()))


def test_a_quota_that_is_short_stands_in_the_status_with_what_there_is_and_what_is_needed() -> None:
    """The legend says which it is, and how old the answer."""
    short = QuotaShort(
        name="Running On-Demand P instances",
        where="us-east-1",
        unit="vCPUs",
        have=0.0,
        need=192.0,
        asked_on=dt.date(2026, 11, 20),
    )
    offer = make_offer()
    provider = Provider(name="cloud", runnable=True, status="tested", short={offer.key: short})
    plan = make_plan(provider_status=provider.status, missing=provider.missing, quota=provider.quota_of(offer))
    told = " ".join(shown(result(plan), width=200).split())
    lacks = "cloud lacks quota 0/192 vCPUs of Running On-Demand P instances in us-east-1, asked on 2026-11-20"
    assert "needs quota 0/192 today" in told
    assert f"needs quota 0/192: {lacks}" in told
    assert not provider.ready(offer)
    assert provider.ready(make_offer(region="south"))


def test_a_price_without_a_date_is_called_so() -> None:
    """Undated is not new."""
    assert "undated" in shown(result(make_plan(catalog_as_of=None)))
    assert "Prices: undated." in shown(result(make_plan(catalog_as_of=None)), width=80)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_clock_that_is_behind_is_said_to_be_and_no_price_gets_a_negative_age(width: int) -> None:
    """A day further is as new as can be: it is that day elsewhere."""
    today = make_plan().planned_on
    told, tomorrow = (shown(result(make_plan(catalog_as_of=today + dt.timedelta(days))), width=width) for days in (40, 1))
    clock = f"ahead: a price was seen on {today + dt.timedelta(40)}, and this machine's clock says {today}: it is behind."
    assert clock in " ".join(told.split())
    assert "-40" not in told
    assert "ahead:" not in tomorrow
    assert ("today" if width > 128 else "0 d") in tomorrow


def test_run_shows_beside_such_a_price_why_its_age_is_not_known() -> None:
    today = make_plan().planned_on
    told = render_plan(make_plan(catalog_as_of=today + dt.timedelta(40)), width=200, colour=False)
    assert f"price seen on {today + dt.timedelta(40)}, a day to come: this machine's clock is behind" in told


def test_a_narrow_table_says_below_itself_how_old_its_prices_are() -> None:
    """The column is the first to be left out, the figure is not."""
    old, older = (make_plan(catalog_as_of=dt.date(2026, 11, day)) for day in (24, 1))
    assert "Prices were seen 1 day ago." in shown(result(old), width=80)
    assert "Prices were seen 1 to 24 days ago." in shown(result(old, older), width=120)
    undated = make_plan(catalog_as_of=None)
    assert "Prices were seen 1 day ago; undated ones are among them." in shown(result(old, undated), width=100)
    assert "Prices were" not in shown(result(old), width=140)
    assert "Prices were seen today." in shown(result(make_plan()), width=80)


@pytest.mark.parametrize("width", [66, 80, 100, 127])
def test_every_price_has_its_age_beside_it_where_no_column_is_left_for_it(width: int) -> None:
    """One sentence for all would hide which of them is the old one. A machine without a price has none."""
    day = make_plan().planned_on - dt.timedelta(days=24)
    free = make_plan(offer=make_offer(usd_per_hour=Decimal(0)))
    told = shown(result(make_plan(catalog_as_of=day), make_plan(catalog_as_of=None), free), width=width)
    assert told.count("/M tok, 24 d") == told.count("/M tok, undated") == 1
    assert told.count("/M tok") == 3
    assert "d: so many days ago." in " ".join(told.split())
    assert "/M tok, " not in shown(result(make_plan(catalog_as_of=day)), width=128)
    assert "Prices" not in shown(result(make_plan(offer=make_offer(usd_per_hour=Decimal(0)))), width=80)


def test_the_words_of_the_table_are_explained_where_they_stand_in_it() -> None:
    """And only there."""
    not_yet = make_plan(why_not="not yet runnable: the trainer cannot do sharding=fsdp")
    tight, fits = make_plan(verdict="tight"), make_plan()
    texts = [shown(result(plan)) for plan in (CHEAPER, not_yet, tight, fits)]
    for sentence, standing in (
        (
            "price only: this version knows the price and cannot rent there; rent it yourself and use --host.",
            [True, False, False, False],
        ),
        ("not yet runnable: the trainer cannot do sharding=fsdp.", [False, True, False, False]),
        ("tight: it needs more than is surely there and may run out of memory.", [False, False, True, False]),
        ("Renting was tried with: tested (cloud).", [False, False, True, True]),
    ):
        assert [sentence in text for text in texts] == standing
    lacking = make_plan(missing=("credentials",))
    told = shown(result(lacking))
    assert "no credentials: cloud lacks credentials; `rentune doctor` says how to get it." in told
    own = shown(result(make_plan(gpu=None, offer=make_offer(gpu=None, provider="local", ram_gib=7.8, vcpus=2.0))))
    assert "RAM: the machine's own cores train" in own
    assert "that torch finds there" not in own
    assert "Renting was tried" not in own


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "ready"),
        ({"missing": ("SDK", "credentials")}, "no credentials"),
        ({"missing": ("SDK",)}, "not ready here"),
        ({"why_not": "price only: nobody rents there"}, "price only"),
        ({"why_not": "not yet runnable: no"}, "not yet runnable"),
        ({"offer": make_offer(ram_gib=None, vcpus=None)}, "ready, RAM unknown"),
        ({"offer": make_offer(vcpus=None)}, "ready, cores unknown"),
    ],
)
def test_one_word_says_whether_a_plan_can_be_begun_now(changes: dict[str, object], words: str) -> None:
    """The first thing that is missing; what nobody states of the machine stands beside it."""
    assert status(make_plan(**changes)) == words


def test_what_nobody_states_is_told_with_what_the_job_needs_of_it() -> None:
    """Below the table, where it stands in it."""
    told = shown(result(make_plan(offer=make_offer(ram_gib=None))))
    assert "unknown: the seller does not state it, and the job needs up to 8.0 GiB of RAM and 3 cores; never recomm" in told
    assert "unknown: " not in shown(result(make_plan()))


def test_ram_that_an_order_asks_for_is_told_below_the_table_and_is_no_doubt() -> None:
    """With as much as is asked for: a box is planned to use nine tenths of what it has."""
    plan = make_plan(offer=make_offer(ram_gib=None), asks_ram=True)
    told = " ".join(shown(result(plan)).split())
    assert "RAM is not stated by cloud (up to 9 GiB): the order asks for what the job needs, and gets no machine" in told
    assert "unknown" not in told
    assert status(plan) == "ready"


def test_the_best_for_each_goal_is_named_with_the_option_that_takes_it() -> None:
    """By the number of its row; beside it what a price list alone would have led to."""
    slow = make_plan(duration=make_duration(exactly(7_200.0)))
    quick = make_plan(offer=make_offer(instance_type="quick"), cost=msgspec.structs.replace(slow.cost, total_usd=exactly(3.0)))
    told = " ".join(shown(result(slow, quick, by_the_hour=quick)).split())
    assert "Best of what can be run: cheapest and balanced 1 ($1.00, 2.0 h), fastest 2 ($3.00, 60 min)." in told
    assert "--goal fastest recommends that one." in told
    assert "the job would cost $3.00 and take 60 min: 3.0 times as much." in told
    assert "Best of" not in shown(result(CHEAPER), command=None)
    same = " ".join(shown(result(slow, quick, by_the_hour=slow)).split())
    assert "Going by the cheapest hour, $1.00 at cloud north one, leads to the same plan." in same


def test_a_spot_machine_that_nobody_asked_for_is_told_with_the_option_that_leaves_it_out() -> None:
    """Whoever reads a price has not said that the machine may be taken away; who asked for spot, or for none, has."""
    plan = make_plan(offer=make_offer(purchase="spot"))
    told = " ".join(shown(result(plan)).split())
    assert "spot: the seller may take the machine away (once in 20 hours, assumed);" in told
    assert "--on-demand plans without." in told
    asked_for = make_plan(offer=make_offer(purchase="spot"), request=make_request(where=Where(spot=True)))
    for quiet in (asked_for, make_plan()):
        assert "take the machine away" not in " ".join(shown(result(quiet)).split())


def test_what_several_gpus_are_worth_is_told_machine_by_machine() -> None:
    plan = make_plan(
        offer=make_offer(num_gpus=Decimal(4)),
        strategy=Strategy(method="lora", num_gpus=4, sharding="fsdp"),
        duration=msgspec.structs.replace(make_duration(exactly(3_600.0)), scaling=0.825),
    )
    told = " ".join(shown(result(plan)).split())
    assert f"Several GPUs, of so many times one GPU's speed: {machine(plan)} fsdp 82%." in told
    assert "Several GPUs" not in shown(result(make_plan()))


def test_what_would_be_better_and_is_not_recommended_is_told_with_its_reason() -> None:
    """Else a larger budget seems to lead to a dearer machine for nothing."""
    dear = make_plan(cost=msgspec.structs.replace(make_plan().cost, total_usd=exactly(3.0)))
    untold = make_plan(offer=make_offer(instance_type="untold", ram_gib=None), why_not="RAM unknown: nobody states it")
    tight, lacking = make_plan(verdict="tight"), make_plan(missing=("credentials",))
    told = " ".join(shown(result(untold, tight, lacking, dear)).split())
    assert "Cheaper, and not recommended: 1 (no credentials); 3 (tight); 4 (RAM unknown)." in told
    assert "not recommended" not in shown(result(make_plan(), dear))
    assert "not recommended" not in shown(result(untold, untold))


def test_dollars_that_leave_something_out_are_called_the_least() -> None:
    """In every place, with what they leave out; in the table of dollars the line has no figure."""
    cost = msgspec.structs.replace(make_plan().cost, unknown=("disk",), unknown_usd=exactly(0.5))
    open_priced = make_plan(offer=make_offer(provider="elsewhere"), cost=cost)
    told = " ".join(shown(result(open_priced), explain=True).split())
    assert "≥$1.00 (1.00–1.00)" in told
    assert "≥: no price is known for disk at elsewhere; ranked as if it were the dearest known." in told
    assert "disk unknown unknown unknown" in told
    assert "ranked at: what is unknown as dear as any $1.50 $1.50 $1.50" in told
    assert "≥" not in shown(result(make_plan()), explain=True)


@pytest.mark.parametrize("width", [80, 100, 111])
def test_how_the_rows_train_stands_below_a_table_without_a_column_for_it(width: int) -> None:
    """In rows' numbers, the recommended one's way first; a wide table says it in each row."""
    packed = make_plan(strategy=msgspec.structs.replace(make_plan().strategy, quant="nf4", kbit_upcast="norms"))
    not_ready = {"missing": ("credentials",)}
    rows = (make_plan(**not_ready), make_plan(**not_ready), packed, make_plan(**not_ready))
    told = " ".join(shown(result(*rows), width=width).split())
    assert (
        "How they train, the recommended first (batch is sequences a pass x passes a step): "
        "lora r16 nf4, batch 4x4, checkpointing (row 3); lora r16 bf16, batch 4x4, checkpointing (rows 1–2, 4)."
    ) in told
    alike = " ".join(shown(result(make_plan()), width=width).split())
    assert "How they train (batch is sequences a pass x passes a step): lora r16 bf16" in alike
    assert "How they train" not in shown(result(*rows), width=112)


def test_bold_rows_are_spoken_of_only_where_they_are_bold() -> None:
    plain, coloured = (
        render_result(result(make_plan()), command=None, spelled=spelled, explain=False, width=200, colour=colour)
        for colour in (False, True)
    )
    assert "bold" not in plain
    assert "→ is recommended" in plain
    assert "bold ones can be run by this version, → is recommended" in coloured


def test_a_narrow_terminal_has_the_unit_beside_the_figure_that_it_belongs_to() -> None:
    lines = shown(result(make_plan(duration=make_duration(Range(p10=180.0, p50=420.0, p90=1_560.0)))), width=80).splitlines()
    (at,) = [number for number, line in enumerate(lines) if " 7 min " in line]
    assert " (3–26) " in lines[at + 1]


def test_a_size_word_is_named_with_the_base_that_it_stands_for() -> None:
    assert shown(result(make_plan(), request=make_request(model="7b"))).startswith("Default job: 7b (Qwen2.5-7B), ")
    assert shown(result(make_plan(), request=make_request(model="Qwen/Qwen2.5-7B"))).startswith("Default job: Qwen2.5-7B, ")


def test_what_is_recommended_has_an_arrow() -> None:
    """It need not be the first of those that can be run."""
    lacking, ready = make_plan(missing=("credentials",)), make_plan()
    rows = [line for line in shown(result(CHEAPER, lacking, ready)).splitlines() if line.lstrip(" →")[:1] in ("1", "2", "3")]
    assert [row.startswith("→") for row in rows] == [False, True, False]


def test_a_tight_plan_is_called_so_wherever_it_is_offered() -> None:
    """In the line above the command, and before `run` asks."""
    warning = "it needs more than is surely there and may run out of memory"
    assert f"Run it (cloud north one, $1.00; tight: {warning}):" in shown(result(make_plan(verdict="tight")))
    assert f"Tight: {warning}." in render_plan(make_plan(verdict="tight"), width=100, colour=False)
    assert warning not in shown(result(make_plan())) + render_plan(make_plan(), width=100, colour=False)


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_figure_is_cut_in_two(width: int) -> None:
    """Names are, where a line is short."""
    dear = make_plan(cost=msgspec.structs.replace(make_plan().cost, total_usd=Range(p10=0.0384, p50=0.0536, p90=0.1104)))
    text = shown(result(dear, CHEAPER), width=width)
    assert "(0.038–0.110)" in text
    assert "$0.054" in text
    assert "60" in text


def test_refusals_say_why_and_what_would_do() -> None:
    """Many are counted, all are shown on demand."""
    many = tuple(msgspec.structs.replace(REFUSED, what=f"strategy {number}") for number in range(MAX_REJECTIONS + 3))
    text = shown(result(make_plan(), rejections=many))
    assert "needs 66.9 GiB on one GPU" in text
    assert "1 x H100 with 80 GiB" in text
    assert "3 more reasons: --explain." in text
    assert "strategy 10" in shown(result(make_plan(), rejections=many), explain=True)


def test_explain_takes_the_plan_apart() -> None:
    """Memory by component, time by phase, dollars by line, and what it rests on."""
    text = shown(result(make_plan()), explain=True)
    for words in (
        "weights",
        "allocated, in backward",
        "RAM at its peak",
        "train",
        "egress: the adapter home",
        "100 steps with 1.0 M tokens, padding included",
        "· an assumption",
    ):
        assert words in text


@pytest.mark.parametrize("purchase", ["on_demand", "spot"])
@pytest.mark.parametrize(
    ("increment_s", "rule"), [(1, ""), (60, ", by the started minute,"), (3_600, ", by the started hour,")]
)
def test_the_hours_of_the_table_of_dollars_times_the_price_are_its_dollars(
    purchase: Literal["on_demand", "spot"], increment_s: int, rule: str
) -> None:
    """Whatever the billing rule; what a spot machine does again has a line of its own."""
    offer = make_offer(purchase=purchase, usd_per_hour=Decimal("1.275685"))
    catalog = make_catalog(offer, billing=(make_billing(increment_s=increment_s, minimum_s=60),))
    (plan, *_) = ask(make_request(model="3b"), catalog).plans
    text = shown(result(plan), explain=True, width=140)
    found = re.search(r"compute: ([\d.,]+) \(([\d.,]+)–([\d.,]+)\) h(.*) at \$1\.275685/h", text)
    assert found is not None
    assert found[4] == rule
    compute = plan.cost.compute_usd
    for hours, dollars in zip(found.groups()[:3], (compute.p50, compute.p10, compute.p90), strict=True):
        assert float(hours.replace(",", "")) * 1.275685 == pytest.approx(dollars, rel=6e-4)
    assert ("rework:" in text) == (plan.cost.rework_usd.p90 > 0)
    assert (plan.cost.rework_usd.p90 > 0) == (
        purchase == "spot" and increment_s < 3_600
    )  # an hour that is begun has room for it


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_figures_of_any_size_leave_the_names_their_room(width: int) -> None:
    """A job of thousands of years and millions of dollars: ranges stand below their middles."""
    years = 5_000 * 365 * 86_400.0
    cost = msgspec.structs.replace(make_plan().cost, total_usd=Range(p10=52_804_363, p50=59_209_111, p90=67_111_428))
    huge = make_plan(cost=cost, duration=make_duration(Range(p10=years * 0.9, p50=years, p90=years * 1.1)))
    lines = shown(result(huge), width=width).splitlines()
    assert any("cloud north" in line for line in lines)
    assert any("4,996.6" in line for line in lines)
    assert all(len(line) <= width for line in lines if not line.startswith("  rentune"))


def test_a_point_that_takes_two_lines_goes_on_below_its_words() -> None:
    """So that each point is seen to begin."""
    long = make_plan(assumptions=("one two three four five six seven eight nine ten eleven twelve",))
    lines = shown(result(long), explain=True, width=40).splitlines()
    assert "  · one two three four five six seven" in lines
    assert "    eight nine ten eleven twelve" in lines


def test_a_price_that_is_stale_is_called_so_in_a_wide_table_and_below_a_narrow_one() -> None:
    """As `catalog list` calls it: past 90 days."""
    fresh = make_plan()
    old = msgspec.structs.replace(fresh, catalog_as_of=fresh.planned_on - dt.timedelta(days=91))
    assert "91 days ago, stale" in shown(result(old), width=200)
    assert "; 1 of 2 over 90 days ago: stale, and may have moved (rentune catalog refresh)." in " ".join(
        shown(result(fresh, old), width=80).split()
    )
    assert "stale" not in shown(result(fresh), width=200)


def test_credits_stand_beside_the_prices() -> None:
    """Licences ask for it."""
    assert "credit to the source" in shown(result(make_plan(), attributions=("credit to the source",)))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 240])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Columns are left out before they are broken; only the command may be longer."""
    lines = shown(result(make_plan(), CHEAPER), explain=True, width=width).splitlines()
    assert [line for line in lines[:-1] if len(line) > width] == []


def test_run_shows_the_one_plan_before_it_asks() -> None:
    """Where, what, how long, how much."""
    text = render_plan(make_plan(), width=100, colour=False)
    for words in (
        "lora r16 bf16",
        "cloud north one (1 x Card 24GB), tested",
        "memory  needs 12.0 of 22.0 GiB on the GPU: fits",
        "cost    $1.00 (1.00–1.00) at $1.00/h, price seen today; $1.00 per million tokens",
    ):
        assert words in text
    assert "cannot run it" in render_plan(CHEAPER, width=100, colour=False)
    mine = msgspec.structs.replace(make_plan(), offer=msgspec.structs.replace(make_plan().offer, provider="local"))
    assert "at $1.00/h, assumed" in render_plan(mine, width=100, colour=False)  # nobody has seen such a price


def test_what_costs_nothing_is_called_free() -> None:
    """A machine of one's own has no price, and none that could be old."""
    free = Range(p10=0.0, p50=0.0, p90=0.0)
    own = make_plan(offer=make_offer(usd_per_hour=Decimal(0)), cost=msgspec.structs.replace(make_plan().cost, total_usd=free))
    assert "cost    free: the machine has no price an hour" in render_plan(own, width=100, colour=False).splitlines()


def test_run_names_what_was_said_in_vain() -> None:
    """As `plan` did."""
    plan = make_plan(request=make_request(training={"method": "full", "rank": 8}), strategy=Strategy(method="full", seq_len=8))
    assert "Note: rank has no effect here: the method has no rank." in render_plan(plan, width=100, colour=False)


def test_run_names_the_rows_that_will_be_cut() -> None:
    """Where they were read; a size that was only stated is no row."""
    data = DataAsked(
        path="a.jsonl", num_examples=80, mean_tokens=600.0, max_tokens=700, basis="counted by the model's tokenizer"
    )
    texts = [
        render_plan(make_plan(request=make_request(data=each)), width=200, colour=False)
        for each in (data, msgspec.structs.replace(data, path=None))
    ]
    assert ["Note: 80 of 80 rows are longer than 512 tokens and will be cut" in text for text in texts] == [True, False]


def test_colour_only_where_it_is_wanted() -> None:
    """A pipe gets none."""
    assert "\x1b[" in render_plan(make_plan(), width=100, colour=True) + render_result(
        result(make_plan()), command="x", spelled=spelled, explain=False, width=100, colour=True
    )
    assert "\x1b[" not in shown(result(make_plan()))


def test_figures_in_the_unit_that_reads_best() -> None:
    """Seconds to days, fractions of a cent to thousands."""
    assert [span(seconds) for seconds in (0.42, 90, 600, 10_000, 400_000)] == ["0.4 s", "90 s", "10 min", "2.8 h", "4.6 days"]
    assert span_range(Range(p10=6_000, p50=10_000, p90=20_000)) == "2.8 (1.7–5.6) h"
    assert [usd(amount) for amount in (0.0, 0.00001, 0.00123, 0.0123, 1.234, 12_345.6)] == [
        "free",
        "<$0.0001",
        "$0.0012",
        "$0.012",
        "$1.23",
        "$12,346",
    ]
    assert usd_range(Range(p10=0.5, p50=1.0, p90=2.0)) == "$1.00 (0.50–2.00)"
    assert usd_range(Range(p10=0.0384, p50=0.0536, p90=0.1104)) == "$0.054 (0.038–0.110)"
    assert usd_range(Range(p10=0.0, p50=0.0, p90=0.0)) == "free"
    assert [several(1, "day"), several(2, "day"), several(2, "strategy")] == ["1 day", "2 days", "2 strategies"]
    assert age(make_plan(catalog_as_of=dt.date(2026, 11, 24))) == "1 day ago"
    assert [count(number) for number in (999, 12_345, 1_500_000, 32.8e9)] == ["999", "12.3 k", "1.5 M", "32.8 B"]


def test_what_trains_and_in_which_memory() -> None:
    """GPUs by number used, processors by cores and RAM."""
    own = make_plan(gpu=None, offer=make_offer(gpu=None, provider="local", vcpus=2.0, ram_gib=7.8))
    assert machine(own) == "2 cores, 7.8 GiB RAM"
    assert fit(own).endswith("RAM fits")
    assert machine(make_plan(offer=make_offer(num_gpus=Decimal(8)))) == "1 of 8 x Card 24GB"
