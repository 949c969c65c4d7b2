"""What `plan` does between the command line and the answer. The caller hands in who can be rented from, and today's date.

answer       Request -> SearchResult, with the shipped catalog
run_plan     what planner/asked.py reads, and its answer, shown: the body of the `plan` command
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import hub_id_of, is_gated, resolve_model
from catalogs.failure import Failure
from catalogs.user_file import as_said, exists
from catalogs.written import require_writable, write_beside
from planner.asked import JOB_SUFFIXES, PLAN_SUFFIX, at_its_place, is_job_file, read_asked
from planner.asking.data import Measure
from planner.asking.options.command_line import run_command, spelled
from planner.asking.options.named_files import NAMED_FILES, require_named, written
from planner.asking.request import HERE, Request, RequestError
from planner.asking.sent import Sent
from planner.choice.goals import GOALS
from planner.edges import Edges
from planner.notices.machine import packed_bytes, sent_words
from planner.notices.rows import short_words, unread_labels
from planner.notices.vain import unread
from planner.plan import Cards, Plan, SearchResult
from planner.saved import write_plan
from planner.search import cards_of, search
from planner.search.market.own import WITH_RAM, stated_offer, with_ram
from planner.view import View

if TYPE_CHECKING:
    from planner.report.words import Spelling
    from planner.search.bases import BasesHeld
    from planner.search.market.offers import Market

PAGE_SUFFIX: Final = ".html"
EVERY: Final = 1_000  # derived: the most that --top takes, and more than a search keeps: one for each of a provider's cards


def answer(request: Request, edges: Edges, market: Market, *, cards: Cards | None = None) -> SearchResult:
    """Search what is on sale, within the rules."""
    architecture = resolve_model(request.model, base=edges.folder)
    sent = edges.sent(request)
    try:
        result = search(request, architecture, edges, market, cards=cards, sent=sent)
    except Failure as error:
        if ".".join(map(str, error.place[:2])) in request.chosen:
            error.hint = _anew()  # nobody said the value
        raise
    notes = (
        *edges.notes(request),
        *_held(result),
        *unread_labels(request.task, request.data.unread_labels),
        *_short(result),
        *_unread(result),
        *_ranked(result, architecture),
        *_moved_by_earlier_runs(result),
        *_gated(result),
        *_sent(result, architecture, sent),
        *_part(architecture),
    )
    chosen = result.recommended
    return msgspec.structs.replace(
        result,
        warnings=(*notes, *result.warnings),
        if_it_takes_longer=None if chosen is None else edges.if_it_takes_longer(chosen),
        rehearsal=edges.rehearsed(request),
    )


def chosen_anew(options: Mapping[str, Any], plan: Plan | None, edges: Edges) -> tuple[str, ...]:
    """What a job file marks as the planner's choice and is another now."""
    if plan is None or not is_job_file(options):
        return ()
    from planner.asking.jobfile.told import dropped_choices  # only where a job file is read
    from planner.report.anew import anew_words

    words = anew_words(dropped_choices(options, edges.folder), plan, job=str(options["job"]))
    return () if words is None else (words,)


def _anew() -> str:
    from planner.asking.jobfile.marks import ANEW  # only where a job file holds choices that do no more

    return ANEW


def _held(result: SearchResult) -> tuple[str, ...]:
    """That a job file holds the job to a machine and a training which were chosen for something else."""
    if not result.request.chosen or result.recommended is not None:
        return ()
    from planner.asking.jobfile.told import held_words  # only then: it costs start-up time

    return (held_words(result.request),)


def _cards(options: Mapping[str, Any], market: Market) -> Cards | None:
    """The cards that somebody has, where they are asked about. Raises RequestError for a name that nobody knows."""
    if options.get("gpus") is None:
        if options.get("ram") is not None:
            raise RequestError("--ram is of the machine with your cards, and --gpus names none", hint=WITH_RAM)
        return None
    number, said = options["gpus"]
    return with_ram(cards_of(number, said, market.catalog), options.get("ram"))


def _unread(result: SearchResult) -> tuple[str, ...]:
    """What was said of the training and is read by none of the plans shown."""
    plans = (*result.rows, *(way.plan for way in result.ways_out))
    return unread(result.request.training, (plan.strategy for plan in plans))


def _ranked(result: SearchResult, architecture: Architecture) -> tuple[str, ...]:
    """What a rank that was said means where a higher one makes a smaller adapter."""
    if result.request.training.get("method") not in ("oft", "lokr") or "rank" not in result.request.training:
        return ()
    from planner.notices.ranks import rank_words  # only then: it costs start-up time

    plan = next(iter((*result.rows, *(way.plan for way in result.ways_out))), None)
    words = None if plan is None else rank_words(architecture, plan.strategy)
    return () if words is None else (words,)


def _moved_by_earlier_runs(result: SearchResult) -> tuple[str, ...]:
    """That earlier runs moved the time of what is recommended, where by a good deal."""
    plan = result.recommended
    if plan is None or not plan.duration.learned_from:
        return ()
    from planner.report.words import learned_words  # only then: it costs start-up time

    words = learned_words(plan)
    return () if words is None else (words,)


def _gated(result: SearchResult) -> tuple[str, ...]:
    """That the weights which the command names have to be asked for first."""
    weights = hub_id_of(result.request.model) or result.request.model
    if not is_gated(weights):
        return ()
    return (f"{weights} is gated: its terms are accepted on the hub first, and `run` needs HF_TOKEN",)


def _sent(result: SearchResult, architecture: Architecture, sent: Sent) -> tuple[str, ...]:
    """That the base goes to the machine from here while that bills."""
    plan = result.recommended
    words = None if plan is None else sent_words(plan, sent, packed_bytes(plan, architecture, sent))
    return () if words is None else (words,)


def _short(result: SearchResult) -> tuple[str, ...]:
    """Which counts where a file has fewer rows than were asked for."""
    words = short_words(result.request.data)
    return () if words is None else (words,)


def _part(architecture: Architecture) -> tuple[str, ...]:
    """That a base is trained without what makes it see."""
    whole = architecture.part_of
    return () if whole is None else (f"of this {whole} the language model alone is loaded and trained, no vision tower",)


def run_plan(
    options: Mapping[str, Any],
    edges: Edges,
    view: View,
    *,
    measure: Measure,
    market_for: Callable[[Request], Market],
    enclose: Callable[[SearchResult | BasesHeld, str | None], str],
    draw: Callable[[SearchResult, SearchResult, str | None, Spelling], str],
) -> int:
    """Answer the options where `view` says: as tables, or with --json as `enclose` renders the result.

    `measure` reads how long the rows of a data file are, `market_for` what is on sale for what was asked. `enclose` is told the
    command under the answer, too. `draw` makes the page of --html from the answer, the answer with each provider's cheapest for
    every card, number and way of renting, the command that runs it, and how a wish was said.

    Returns 0 when there is a plan and a way to run the job, as asked or with one wish given up, and 2 when nothing does it as
    asked or this version can run none of it. Raises RequestError and the other typed refusals for what can't be understood.
    """
    if options.get("which_model"):
        from planner.which import run_which  # only then: it costs start-up time

        return run_which(options, edges, view, measure=measure, market_for=market_for, enclose=enclose)
    require_named(options)
    _require_two_files(options, edges.folder)
    _require_places(options, edges.folder)
    asked = read_asked(options, folder=edges.folder, measure=measure)
    if isinstance(asked, Plan):
        result = every = _saved(asked, edges)
    else:
        with at_its_place(options, edges.folder):
            market = market_for(asked)
            cards = _cards(options, market)
            if cards is not None and cards.gpu is not None:
                market = market.beside(stated_offer(cards, market.catalog.gpus[cards.gpu], asked.where, today=edges.today))
            result = every = answer(asked, edges, market, cards=cards)
        result = every = msgspec.structs.replace(
            result, warnings=(*chosen_anew(options, result.recommended, edges), *result.warnings)
        )
        if options.get("html") is not None or (options.get("json") and options.get("explain")):
            # what nothing beats may be dear, or slow: it is sought among far more, which takes a second
            every = answer(msgspec.structs.replace(asked, top=EVERY), edges, market)
    command, spelling = _command(options, result), _spelling(options)
    written = []
    if options.get("save") is not None:
        written.append(_save(options["save"], result, edges.folder, spelling, over=bool(options.get("force"))))
    if options.get("html") is not None:
        written.append(_write_page(options["html"], draw(result, every, command, spelling), edges.folder))
    if options.get("json"):
        view.write(enclose(_for_programs(result, every), command or next(iter(_by_hand(options, result)), None)))
    else:
        from planner.report import render_result

        explain = bool(options.get("explain"))
        how: dict[str, Any] = {"explain": explain, "width": view.width, "colour": view.colour}
        how |= {"by_hand": _by_hand(options, result)}
        view.write(render_result(result, command=command, spelled=spelling, **how))
        for line in written:
            view.write(line)
    return 0 if result.is_of_use else 2


def _saved(plan: Plan, edges: Edges) -> SearchResult:
    """A plan that was saved, as an answer of one row."""
    return SearchResult(
        request=plan.request,
        plans=(plan,),
        rejections=(),
        warnings=(*edges.notes(plan.request), *unread(plan.request.training, (plan.strategy,))),
        rehearsal=edges.rehearsed(plan.request),
    )


def _require_two_files(options: Mapping[str, Any], folder: Path) -> None:
    """The job or plan and the page are two files, whatever their names lead to."""
    saved, page = options.get("save"), options.get("html")
    if saved is not None and page is not None and (folder / saved).resolve() == (folder / page).resolve():
        raise RequestError(f"--save and --html both name {page}", hint="--save plan.json --html plan.html")


def _require_places(options: Mapping[str, Any], folder: Path) -> None:
    """What is asked to be written can be, as far as that shows: rows are counted first, for minutes where they are many."""
    for said, remedy in written(options):
        try:
            require_writable(folder / said)
        except OSError as error:
            raise _unwritten(said, error, remedy) from None


def _unwritten(said: str, error: OSError, hint: str) -> RequestError:
    return RequestError(f"{as_said(said)} can't be written: {error.strerror}", hint=hint)


def _for_programs(result: SearchResult, every: SearchResult) -> SearchResult:
    """The answer with the best plans by their places; where `every` was asked for, with what nothing of it beats, too."""
    front: list[Plan] = []
    if every is not result:
        from planner.search.pareto import pareto

        front = [msgspec.structs.replace(plan, request=result.request) for plan in pareto(every.plans)]
    known = [plan.name for plan in result.plans]
    plans = [*result.plans, *(plan for plan in front if plan.name not in known)]
    plans.sort(key=lambda plan: (plan.cost.held_usd.p50, plan.duration.wall_s.p50))
    places = [plan.name for plan in plans]
    return msgspec.structs.replace(
        result,
        plans=tuple(plans),
        attributions=every.attributions,
        best_of={goal: places.index(plan.name) for goal in GOALS if (plan := result.best(goal)) is not None},
        pareto=tuple(places.index(plan.name) for plan in front),
    )


def _write_page(name: str, page: str, folder: Path) -> str:
    """Write the page; returns what to tell."""
    if Path(name).suffix != PAGE_SUFFIX:
        raise RequestError(f"{as_said(name)} does not end in {PAGE_SUFFIX}", hint="--html plan.html")
    _write(folder / name, page, said=name, hint=NAMED_FILES["html"].remedy)
    return f"Drawn in {name}."


def _spelling(options: Mapping[str, Any]) -> Spelling:
    """How a wish was said: by options, or by keys of a job file."""
    if not is_job_file(options):
        return spelled
    from planner.asking.jobfile import sections

    return sections.spelled


def _command(options: Mapping[str, Any], result: SearchResult) -> str | None:
    """The command under the answer; None where this version can run neither the wish nor a way out."""
    way = next(iter(result.ways_out), None)
    if result.recommended is None and way is None:
        return None
    request = result.request
    changes = way.changes if result.recommended is None and way is not None else {}
    return run_command(options, changes=changes, has_data=request.data.path is not None, model=_weights_named(request))


ADDRESS: Final = "user@address"  # stands in the command for that of a machine which nobody knows here
# What was said of machines to choose from: nothing of a machine that is named
OF_THE_MARKET: Final = dict.fromkeys(
    f"where.{key}"
    for key in ("providers", "regions", "instance_types", "spot", "gpus", "num_gpus", "gpu_memory_gib", "host", "allow_from")
)


def _by_hand(options: Mapping[str, Any], result: SearchResult) -> tuple[str, ...]:
    """The commands on a machine that is there, or that its user rents himself: a card of this one's, and another machine."""
    has_data, model = result.request.data.path is not None, _weights_named(result.request)

    def run(**where: Any) -> str:
        changes = OF_THE_MARKET | {f"where.{key}": value for key, value in where.items()}
        return run_command(options, changes=changes, has_data=has_data, model=model)

    if result.cards is not None:
        holds = any(each.verdict == "fits" and not each.missing for each in result.layouts)
        return (run(gpus=(HERE,)), run(host=ADDRESS)) if holds else ()
    plan = result.rented_by_hand
    return () if plan is None else (f"{run(host=ADDRESS)} --assume-price {plan.offer.usd_per_hour}",)


def _weights_named(request: Request) -> str | None:
    """The base that `run` fetches for a word that is only its size; None where the word names weights."""
    weights = hub_id_of(request.model)
    return weights if weights != request.model else None


def _nothing_to_save(result: SearchResult, spelled: Spelling) -> RequestError:
    """Why, and what leads to a plan."""
    why = ": several machines would do this job together, and what is saved runs on one" if result.several else ""
    way = next(iter(result.ways_out), None)
    said = "" if way is None else " ".join(filter(None, (spelled(field, value) for field, value in way.changes.items())))
    hint = f"{said} leads to one, {way.change}" if way is not None and said else "plan without --save to see why"
    return RequestError(f"there is no plan to save{why}", hint=hint)


def _save(name: str, result: SearchResult, folder: Path, spelled: Spelling, *, over: bool) -> str:
    """Write the recommended plan, else the cheapest on one machine; returns what to tell. `over`: a file that is there is not
    asked for.
    """
    plan = result.recommended or next(iter(result.plans), None)
    if plan is None:
        raise _nothing_to_save(result, spelled)
    suffix = Path(name).suffix
    if suffix not in (PLAN_SUFFIX, *JOB_SUFFIXES):
        raise RequestError(f"{as_said(name)} ends neither in .json nor in .yaml", hint="--save plan.json or --save job.yaml")
    plan = _with_weights(plan)
    if suffix == PLAN_SUFFIX:
        text = write_plan(plan)
    else:
        from planner.report.job_file import seen_from, write_job

        text = write_job(seen_from((folder / name).parent, plan))
    if not over and exists(folder / name) and not _says(folder / name, text):
        raise RequestError(
            f"{name} is there already, and says something else", hint=f"--force, or {NAMED_FILES['save'].remedy}"
        )
    _write(folder / name, text, said=name, hint=NAMED_FILES["save"].remedy)
    if plan.why_not is not None:
        return f"Saved to {name}. This version cannot run it: {plan.why_not}."
    as_saved = f" As it is saved: rentune run {shlex.quote(name)}" if plan.request.data.path is not None else ""
    return f"Saved to {name}.{as_saved}"


def _says(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False  # what it is will be told where it is written


def _write(path: Path, text: str, *, said: str, hint: str) -> None:
    try:
        write_beside(path, text.encode())
    except OSError as error:
        raise _unwritten(said, error, hint) from None


def _with_weights(plan: Plan) -> Plan:
    """The plan with its model named as `run` needs it: a size word is a shape without weights."""
    model = hub_id_of(plan.request.model) or plan.request.model
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, model=model))
