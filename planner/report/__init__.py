"""SearchResult -> the text that a person decides by. Pure: width and colour are arguments, nothing is printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from planner.asking.request import OWN_MACHINES, Purpose
from planner.notices.machine import electricity_words, kept_words
from planner.notices.rows import cut_words, held_out_words, label_words, packed_words
from planner.notices.vain import unread
from planner.plan import Considered, Plan, SearchResult
from planner.report import tables, words
from planner.report.goals import goal_lines
from planner.report.groups import grouped
from planner.report.legend import TIGHT, legend
from planner.report.lines import BULLET, Table, Words, render
from planner.report.ways import strategy_lines
from remote.contract import LongRows

Part = str | Words | Table

NOT_OFFERED: Final = (
    "Where such a card is yours: --gpu here on its machine, or --host user@address. Where you know who rents it out: "
    "`rentune catalog import FILE.csv`."
)
REHEARSAL: Final = "; the base has no weights: random ones are trained"
MAX_REJECTIONS = 8  # more are counted; --json has all
BEFORE: Final[Mapping[LongRows, str]] = {  # what the tokens are counted before
    "cut": " before rows are cut at {:,}",
    "drop": " before rows of more than {:,} are left out",
    "split": "",
}


def render_result(
    result: SearchResult,
    *,
    command: str | None,
    by_hand: Sequence[str] = (),
    spelled: words.Spelling,
    explain: bool,
    width: int,
    colour: bool,
) -> str:
    """The whole answer: the job in the first line, plans by verdict and price, the refused, and the command that runs it.

    `by_hand`: the commands on a machine that nobody rents by this version.
    """
    parts = _answer(result, Commands(command, by_hand), spelled, explain=explain, width=width, colour=colour)
    return _rendered(parts, width=width, colour=colour)


def render_plan(plan: Plan, *, width: int, colour: bool) -> str:
    """One plan, as `run` shows it before it asks."""
    return _rendered(_one(plan), width=width, colour=colour)


def _rendered(parts: Iterator[Part], *, width: int, colour: bool) -> str:
    lines = [line for part in parts for line in render(part, width=width, colour=colour)]
    return "\n".join(line.rstrip() for line in lines).rstrip()


class Commands(NamedTuple):
    """What there is to type: what rents, and what runs on a machine that is there."""

    rents: str | None
    by_hand: Sequence[str]


def _answer(
    result: SearchResult, commands: Commands, spelled: words.Spelling, *, explain: bool, width: int, colour: bool
) -> Iterator[Part]:
    yield job_line(result)
    if (plan := _central(result)) is not None and plan.request.purpose != Purpose() and plan.choices:
        yield _advice_line(plan)
    for warning in result.warnings:
        yield words.note(warning)
    yield ""
    if result.cards is not None:
        yield from _layouts(result)
        yield ""
    if result.rows:
        yield _plans_heading(result, colour=colour)
        yield tables.plan_table(grouped(result.rows), width=width, recommended=result.recommended)
        yield from strategy_lines(result, width=width)
        yield from goal_lines(result)
    else:
        yield "Nothing on offer does this job as asked."
        held = any(key.startswith("where.") for key in result.request.chosen)  # to a machine, by lines that a plan wrote
        nothing = result.considered is not None and not result.considered.num_offers_admitted
        if result.request.where.cards and nothing and not held:
            yield NOT_OFFERED
    if result.cards is None and result.layouts:
        yield ""
        yield from _layouts(result)
    for number, way in enumerate(result.ways_out):
        said = " ".join(spelled(field, value) for field, value in way.changes.items() if value is not None)
        typed = f" ({said})" if number and said else ""  # the command below the answer takes the first
        yield f"\nCan be run {way.change}{typed}:"
        yield tables.plan_table({"": [way.plan]}, width=width)
        if way.given_up is not None:
            yield f"Given up: {way.given_up}."
    yield from legend((*result.rows, *(way.plan for way in result.ways_out)), width=width)
    shown = result.rejections if explain else result.rejections[:MAX_REJECTIONS]
    if shown:
        yield ""
        yield tables.rejection_table(shown, spelled)
    if len(shown) < len(result.rejections):
        yield f"{words.several(len(result.rejections) - len(shown), 'more reason')}: --explain."
    if explain and (plan := _central(result)) is not None:
        yield from _explained(plan, result.considered)
    yield ""
    yield from _kept(_central(result))
    yield from result.attributions
    if result.if_it_takes_longer is not None:
        yield result.if_it_takes_longer
    yield from _closing(result, commands)


def _layouts(result: SearchResult) -> Iterator[Part]:
    """In which ways the cards that were asked about, or cards of the budget's size, hold the job."""
    from planner.report.layouts import budget_lines, cards_lines  # only for an answer with them: it costs start-up time

    if result.cards is not None:
        yield from cards_lines(result.cards, result.layouts)
    else:
        yield from budget_lines(result.request.where.gpu_memory_gib or 0.0, result.layouts)


def job_line(result: SearchResult) -> str:
    """What is planned. Without a word about data that is a default, and is called so."""
    request, data, loop = result.request, result.request.data, result.request.loop
    num_tokens = data.num_examples * data.mean_tokens * loop.epochs
    line = (
        f"{'Default job' if data.basis == 'default' else 'Job'}: {words.base(request.model)}, "
        f"{words.several(data.num_examples, 'example')} × {words.several(round(data.mean_tokens), 'token')} × "
        f"{words.several(loop.epochs, 'epoch')} = {words.count(num_tokens)} tokens"
    )
    if (plan := _central(result)) is not None and data.max_tokens > plan.strategy.seq_len:
        line += BEFORE[data.fate_of_long].format(plan.strategy.seq_len)
    if loop.max_steps is not None:
        line += f", at most {loop.max_steps:,} steps of them"
    if data.basis not in ("default", "stated"):
        line += f" ({data.basis})"
    if (plan := _as_asked(result)) is not None and plan.cost.usd_per_million_tokens:
        line += f", {words.per_million(plan)} per million tokens on {words.offer(plan)}"
        line += ", padding not counted" if data.profile else ""
    return f"{line}; {held_out_words(data)}" if data.held_out_rows or data.held_out_wanted else line


def _as_asked(result: SearchResult) -> Plan | None:
    """The plan that the first line prices: of a way out nobody asked, and what was left out is no price of what was."""
    plan = _central(result)
    return next((each for each in result.rows if each is plan), None)


def _advice_line(plan: Plan) -> str:
    """What the planner filled in for what the job is for; the reasons are many, and so left to --explain."""
    purpose = (plan.request.purpose.use_case, plan.request.purpose.deployment, plan.request.purpose.accuracy)
    named = ", ".join(word.replace("_", " ") for word in purpose if word is not None) or "these classes"
    chosen = ", ".join(f"{each.key} {_plain(each.value)}" for each in plan.choices)
    return f"Advised for {named}: {chosen}. --explain says why."


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _central(result: SearchResult) -> Plan | None:
    """The plan that the answer is about: the recommended one, else the nearest that can be run, else the cheapest."""
    ways = [way.plan for way in result.ways_out]
    return result.recommended or result.rented_by_hand or next(iter([*ways, *result.rows]), None)


def _plans_heading(result: SearchResult, *, colour: bool) -> str:
    of = "The plan that was saved"
    if (looked_at := result.considered) is not None:
        ways = words.several(looked_at.num_strategies_asked, "strategy")
        of = f"Cheapest jobs of {ways} on {words.several(looked_at.num_offers_sold, 'offer')}"
    runnable = result.recommended is not None
    bold = "bold ones can be run by this version, " if colour else ""
    which = f"{bold}{tables.ARROW} is recommended" if runnable else "none of them can be run by this version"
    return f"{of}; {which}. p50 (p10–p90)."


def _one(plan: Plan) -> Iterator[Part]:
    yield f"{words.strategy(plan)}\non {words.offer(plan)} ({words.machine(plan)}), {words.standing(plan)}"
    yield (
        f"memory  {words.memory(plan)}\n"
        f"time    {words.span_range(plan.duration.wall_s)}, "
        f"{words.count(plan.duration.tokens_per_s.p50)} tokens/s\n"
        f"cost    {words.total(plan)}{_price(plan)}{_per_million(plan)}"
    )
    if plan.verdict == "tight":
        yield f"Tight: {TIGHT}."
    if plan.request.data.path is not None and (cut := cut_words(plan.request.data, plan.strategy.seq_len)):
        yield f"Note: {cut}."
    if (laid := packed_words(plan.request.data, plan.strategy.seq_len)) is not None:
        yield f"Note: {laid}."
    for words_of_labels in label_words(plan.request.data.classes, plan.request.data.reading.balance):
        yield f"Note: {words_of_labels}."
    if (told := words.learned_words(plan)) is not None:
        yield f"Note: {told}."
    for note in unread(plan.request.training, (plan.strategy,)):
        yield f"Note: {note}."
    yield from _kept(plan)
    if plan.why_not is not None:
        yield f"This version cannot run it: {plan.why_not}."


def _kept(plan: Plan | None) -> Iterator[Part]:
    if plan is not None and (name := plan.request.keep.volume_name) is not None:
        yield f"Note: {kept_words(name, plan.host, plan.billing)}."


def _per_million(plan: Plan) -> str:
    return f"; {words.per_million(plan)} per million tokens" if plan.cost.total_usd.p50 else ""


def _price(plan: Plan) -> str:
    if not plan.offer.usd_per_hour:
        uncounted = f"; {electricity_words(plan.request.where)}" if plan.offer.gpu_free_mib is not None else ""
        return f": the machine has no price an hour{uncounted}"
    if plan.offer.provider in OWN_MACHINES:
        return f" at {words.hourly(plan)}, assumed"  # by --assume-price: nobody sells that hour
    return f" at {words.hourly(plan)}, price seen {words.age_in_full(plan)}"


def _considered(considered: Considered) -> str:
    """How much was decided on, and how much of it by figures."""
    ways = words.several(considered.num_strategies, "strategy")
    offers = words.several(considered.num_offers_admitted, "offer")
    candidates = words.several(considered.num_candidates, "candidate")
    return (
        f"Considered: {ways} on {offers} that no wish refuses, {candidates}; {considered.num_pruned:,} need more memory than"
        " there is, or would cost more on the quickest way, and were not priced."
    )


def _explained(plan: Plan, considered: Considered | None) -> Iterator[Part]:
    yield ""
    yield Words(f"{words.strategy(plan)} on {words.offer(plan)}", "bold")
    yield tables.memory_table(plan)
    yield tables.host_table(plan)
    yield tables.time_table(plan)
    yield (
        f"{words.count_range(plan.duration.tokens_per_s)} tokens/s, {words.span_range(plan.duration.step_s)}"
        f" a step, {words.several(plan.duration.num_steps, 'step')} with {words.count(plan.duration.num_tokens)} tokens,"
        f" padding included, bound by {plan.duration.bound};"
        f" {plan.duration.energy_kwh.p50:,.2f} kWh"
    )
    yield tables.cost_table(plan)
    if considered is not None:
        yield Words(_considered(considered), "dim")
    yield "This rests on:"
    choices = (f"{choice.key} = {choice.value}: {choice.reason} ({choice.source})" for choice in plan.choices)
    for sentence in (*plan.assumptions, *choices):
        yield f"{BULLET}{sentence}"


def _stuck(result: SearchResult) -> str:
    """What there is to type where nothing can be run: what the refusals name, where they name anything."""
    helpful = next((place for place, each in enumerate(result.rejections) if each.remedy or each.changes), None)
    if helpful is None:
        none = "can run none of these" if result.rows else "has nothing to run as asked"
        return f"This version {none}: nothing to type yet."
    where = "above" if helpful < MAX_REJECTIONS else "under --explain"
    return f"Nothing here can be run as asked; “what would do” {where} says what to change."


def _closing(result: SearchResult, commands: Commands) -> Iterator[Part]:
    if commands.by_hand:
        if (plan := result.rented_by_hand) is not None:
            whole = words.total_at_p50(plan)
            yield f"Rent {words.offer(plan)} yourself ({words.hourly(plan)}), and run it there ({whole} in all):"
        else:
            yield "Run it on your own card, on its machine or from another:"
        yield from (Words(f"  {command}", "bold", whole=True) for command in commands.by_hand)
    if commands.rents is not None:
        yield from _renting(result, commands.rents)
    elif not commands.by_hand:
        yield _stuck(result)


def _renting(result: SearchResult, command: str) -> Iterator[Part]:
    way = next(iter(result.ways_out), None)
    plan = result.recommended or (None if way is None else way.plan)
    if plan is None:
        yield "Run it:"
    else:
        change = f" all the same, {way.change}" if way is not None and way.plan is plan else ""
        warning = f"; tight: {TIGHT}" if plan.verdict == "tight" else ""
        warning += REHEARSAL if result.rehearsal else ""
        yield f"Run it{change} ({words.offer(plan)}, {words.total_at_p50(plan)}{warning}):"
    yield Words(f"  {command}", "bold", whole=True)  # to be copied, so it is never broken
