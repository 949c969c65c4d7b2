"""A Request, or a Plan with everything it decided, as a commented job file. `read_job` gives back an equal Request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from catalogs.hardware import Offer
from planner.asking.case import Case
from planner.asking.data import usually_held_out
from planner.asking.jobfile.lines import written
from planner.asking.jobfile.marks import MARK, followed
from planner.asking.jobfile.sections import GLOBAL_BATCH_SIZE, JOB_FILE_VERSION
from planner.asking.request import HERE, LOCAL, DataAsked, Request, Where
from planner.asking.rules import AUTO, loop_for, said_of_loop
from planner.asking.training_keys import ELSEWHERE, TRAINING_KEYS
from planner.choice.goals import CHEAPEST
from planner.choice.recipes import DEPLOYMENTS, OF_THE_LOOP, USE_CASES
from planner.methods import QLORA, QLORA_MEANS
from planner.plan import Plan
from planner.strategy.words import describe
from remote.contract import Reading

COMMENTS: Final[Mapping[str, str]] = {
    "task": "what the base is trained for",
    "model": "hub id, folder with weights or GGUF file; a size word can be planned only, a config.json trains random weights",
    "revision": "commit, tag or branch of a hub's model; left out, the newest commit when it is run",
    "training": "the keys of `rentune estimate`; what is left out, the planner chooses",
    "training.method": "lora, full, …; qlora = lora with quant nf4 and double_quant",
    "training.rank": "of the adapters",
    "training.alpha": "scale of the adapters is alpha / rank",
    "training.target_modules": "all-linear, default, or a list of module names",
    "training.quant": "how frozen weights are held: none 2, int8 1, nf4 0.52 bytes per parameter",
    "training.kbit_upcast": "what is cast to fp32 when a quantized base is prepared",
    "training.micro_batch_size": "sequences per GPU and forward pass",
    "training.gradient_accumulation_steps": "forward passes per optimizer step",
    "training.global_batch_size": "sequences per optimizer step",
    "training.seq_len": "tokens of the longest sequence; longer ones are cut",
    "training.gradient_checkpointing": "recompute activations: less memory, a third more time",
    "training.optimizer": "fused AdamW unless memory is short",
    "loop": "what memory does not depend on",
    "loop.epochs": "passes over the data",
    "loop.max_steps": "at most this many optimizer steps",
    "loop.evaluations": "held-out losses during the run, beside the first and the last",
    "loop.checkpoint_every_s": "seconds between checkpoints: what an interruption can cost",
    "loop.checkpoint_every": "said in steps, epochs or minutes instead",
    "loop.keep_checkpoints": "the newest ones, beside the best",
    "data": "a file is counted; without one the size is stated",
    "data.file": "JSONL, JSON, CSV or text",
    "data.held_out_rows": "kept back to measure the loss before and after",
    "data.examples": "to train on",
    "data.mean_tokens": "tokens per example",
    "data.max_tokens": "tokens of the longest example",
    "purpose": "what the job is for: the planner advises by it what nobody says",
    "purpose.use_case": f"one of {', '.join(USE_CASES)}",
    "purpose.deployment": f"where it will answer: {', '.join(DEPLOYMENTS)}",
    "purpose.accuracy": "highest: where the last point counts more than memory",
    "purpose.imbalance": "rows of the commonest class for each of the rarest",
    "budget": "kept at the plan's p90, not at its middle",
    "budget.max_cost": "dollars for the whole job",
    "budget.lease": "without a controller for so long the box saves and ends itself",
    "budget.goal": "what is to be least: cheapest, fastest or balanced",
    "where": "what may be rented; what is left out may be anything",
    "where.gpu_budget": "memory per GPU at most, as sold",
    "where.power_price": "dollars per kWh of this machine's electricity",
    "keep": "what stays after the run",
    "keep.adapter": "folder that gets the adapter",
    "keep.box_on_failure": "leave the box to its deadline when training fails",
    "keep.volume_name": "a disk that holds what was downloaded, made once and used again; it bills by the month",
    "keep.environment": "on a host of yours: false leaves no packages there for the next run",
    "tags": "on everything that is rented",
}


PINNED_OF_WHERE: Final = ("gpus", "num_gpus", "providers", "regions", "instance_types", "spot")  # they name the plan's machine
SIZE_KEYS: Final = ("examples", "mean_tokens", "max_tokens")
RATE: Final = "learning_rate"  # stands in every file of a plan, also where it is as advised
NO_FILE: Final = "  # file: YOUR_DATA.jsonl  # what `run` trains on; with it, delete the lines below and its tokens are counted"

SPOKEN: Final = frozenset(  # written down even where they are the default
    ("method", "quant", "micro_batch_size", "gradient_accumulation_steps", "seq_len", "gradient_checkpointing")
)


def write_job(asked: Request | Plan) -> str:
    """A commented job file. From a Plan it states every choice, so that `run` of it shows the same plan again."""
    request = asked if isinstance(asked, Request) else pinned(asked)
    heading = ["# A job for rentune: `rentune plan FILE` shows what it will cost, `rentune run FILE` does it."]
    if isinstance(asked, Plan):
        heading.append(f"# Planned {asked.planned_on}: {describe(asked.strategy)} on {asked.offer.key}, ")
        usd, about = asked.cost.total_usd.p50, "at least" if asked.cost.unknown else "about"
        heading[-1] += f"{about} ${usd:.2f}." if usd else "free."
        heading.append(f"# Lines marked {MARK} may be deleted, all of them: then the planner chooses anew,")
        heading.append(
            "# as it does where options ask for another machine or training. Take the mark off a line that you change."
        )
        heading.append("# What is not marked was asked for, or holds wherever nobody says otherwise.")
    chosen = _chosen(asked) if isinstance(asked, Plan) else dict.fromkeys(request.chosen, "")
    top: dict[str, Any] = {"version": JOB_FILE_VERSION, "model": request.model, "task": request.task}
    top |= _stated({"revision": request.revision})
    lines = [*heading, *_lines(top, "", chosen)]
    for section, values in _sections(request).items():
        if values:
            lines += ["", f"{section}:  # {COMMENTS[section]}"]
            lines += [NO_FILE] if section == "data" and request.data.path is None else []
            lines += _lines(values, f"{section}.", chosen, indent="  ")
    return "\n".join(lines) + "\n"


def _chosen(plan: Plan) -> dict[str, str]:
    """The keys of the job file that hold what the planner chose, as COMMENTS calls them, with why, where a rule says.

    Without them the file says what was asked for, and nothing else.
    """
    said, now = plan.request, _settled_request(plan)
    said_training = {key for key, value in said.training.items() if (key, value) != ("method", AUTO)}
    reasons = {choice.key: f"{choice.reason}; {choice.source}" for choice in plan.choices}
    where = {key for key in PINNED_OF_WHERE if not _says(said.where, key) and _says(now.where, key)}
    return (
        dict.fromkeys(said.chosen, "")
        | {f"training.{key}": reasons.get(key, "") for key in now.training.keys() - said_training}
        | {f"where.{key}": "" for key in where}
        | {f"loop.{RATE}": reasons.get(RATE, "") for _ in [RATE] if RATE not in said_of_loop(said)}
        | {f"data.{key}": "" for key in SIZE_KEYS if said.data.basis == "default"}
        | ({"data.held_out_rows": ""} if _held_out_as_usual(said.data) else {})
    )


def _held_out_as_usual(data: DataAsked) -> bool:
    """Whether as many rows of the file are held out as where nobody says how many."""
    if data.path is None or data.held_out_path is not None or data.held_out_wanted is not None:
        return False
    return data.held_out_rows == usually_held_out(data.num_examples + data.held_out_rows)


def _says(where: Where, key: str) -> bool:
    return getattr(where, key) not in (None, ())


def seen_from(home: Path, plan: Plan) -> Plan:
    """The plan with the paths below `home` as they are from there: a job file and its data are often moved together."""
    request, home = plan.request, home.absolute()

    def seen(path: str | None) -> str | None:
        return str(Path(path).relative_to(home)) if path is not None and Path(path).is_relative_to(home) else path

    data = msgspec.structs.replace(request.data, path=seen(request.data.path), held_out_path=seen(request.data.held_out_path))
    loop = msgspec.structs.replace(request.loop, init_adapter=seen(request.loop.init_adapter))
    keep = msgspec.structs.replace(request.keep, adapter=seen(request.keep.adapter))
    model = f"./{seen(request.model)}" if Path(request.model).is_relative_to(home) else request.model  # no name of the registry
    moved = msgspec.structs.replace(request, model=model, data=data, loop=loop, keep=keep)
    return msgspec.structs.replace(plan, request=moved)


def pinned(plan: Plan) -> Request:
    """The plan's request with nothing left to choose: every wish as it was said, and beside them its strategy to the letter,
    its machine by name. Of what the wishes and these names admit together no plan is better than this one was of more.
    """
    return msgspec.structs.replace(_settled_request(plan), chosen=tuple(sorted(_chosen(plan))))


def _settled_request(plan: Plan) -> Request:
    request, offer, num_gpus = plan.request, plan.offer, plan.strategy.num_gpus
    chosen: dict[str, Any] = {
        "gpus": _cards(offer),
        "num_gpus": num_gpus if offer.num_gpus == num_gpus else None,  # else one of a box's many
        "providers": (offer.provider,),
        "regions": (offer.region,),
        "instance_types": (offer.instance_type,),
        "spot": offer.purchase == "spot",
    }
    where = {key: value for key, value in chosen.items() if not _says(request.where, key)}
    data = request.data
    if data.basis == "default":  # what is written down is no default any more
        data = msgspec.structs.replace(data, basis="stated")
    said = {RATE, *said_of_loop(request)}
    return msgspec.structs.replace(
        request,
        training=_settled(plan),
        where=msgspec.structs.replace(request.where, **where),
        data=data,
        said_of_loop=tuple(key for key in OF_THE_LOOP if key in said),
    )


def _settled(plan: Plan) -> dict[str, Any]:
    """The keys of `training`: as they were said, the others as the strategy has them where that is no default.

    What `qlora` means follows from it, and `method_options` from what was said of them, the rank and `layers`.
    """
    said = {key: value for key, value in plan.request.training.items() if (key, value) != ("method", AUTO)}
    follows = {"method_options", *(QLORA_MEANS if said.get("method") == QLORA else ())}
    defaults = msgspec.to_builtins(Case(model="")) | {"kbit_upcast": "none"}
    spoken = SPOKEN if plan.strategy.quant == "none" else {*SPOKEN, "kbit_upcast"}
    strategy = {
        key: value
        for key, value in msgspec.to_builtins(plan.strategy).items()
        if key in defaults and key not in (*ELSEWHERE, *follows) and (key in spoken or value != defaults[key])
    }
    settled = strategy | said
    return {key: settled[key] for key in TRAINING_KEYS if key in settled}


def _cards(offer: Offer) -> tuple[str, ...]:
    """The card of the machine by its name; this machine's is found by looking."""
    if offer.gpu is None:
        return ()
    return (HERE,) if offer.provider == LOCAL else (offer.gpu,)


def _sections(request: Request) -> dict[str, dict[str, Any]]:
    where, budget = request.where, request.budget
    loop = msgspec.to_builtins(request.loop)
    usual = msgspec.to_builtins(loop_for(request))
    stated = {"epochs", *request.said_of_loop}
    return {
        "training": {**request.training, **_stated({GLOBAL_BATCH_SIZE: request.global_batch_size})},
        "loop": {key: value for key, value in loop.items() if value != usual[key] or key in stated},
        "data": _data(request.data),
        "purpose": _stated(msgspec.structs.asdict(request.purpose)),
        "budget": _stated({"max_cost": budget.max_usd, "max_hours": budget.max_hours, "lease": _hours(budget.lease_hours)})
        | ({"goal": budget.goal} if budget.goal != CHEAPEST else {}),
        "where": _stated({"gpu_budget": where.gpu_memory_gib})
        | _stated({key: getattr(where, key) or None for key in ("gpus", "num_gpus", "providers", "regions")})
        | _stated({"instance_types": where.instance_types or None, "spot": where.spot, "host": where.host})
        | _stated({"allow_from": where.allow_from or None, "power_price": where.power_usd_per_kwh})
        | _stated({"offload_disk": where.offload_disk or None}),
        "keep": _stated({"adapter": request.keep.adapter, "box_on_failure": request.keep.box_on_failure or None})
        | _stated({"volume_name": request.keep.volume_name, "environment": None if request.keep.environment else False}),
        "tags": dict(request.tags),
    }


def _hours(hours: float | None) -> str | None:
    return None if hours is None else f"{hours:g}h"


def _data(data: DataAsked) -> dict[str, Any]:
    """Where the rows lie and how they are read, to be counted again; without a file how much there will be."""
    if data.path is None:
        held_out = {"held_out_rows": data.held_out_rows} if data.held_out_rows else {}
        return {"examples": data.num_examples, "mean_tokens": data.mean_tokens, "max_tokens": data.max_tokens} | held_out
    return (
        _stated({"file": [data.path, *data.more] if data.more else data.path, "held_out": data.held_out_path})
        | _said_of(data.reading)
        | ({"held_out_rows": data.held_out_wanted or data.held_out_rows} if data.held_out_path is None else {})
    )


def _said_of(reading: Reading) -> dict[str, Any]:
    """What is not as it would be unsaid; that labels are read, the task says."""
    said = msgspec.structs.asdict(reading)
    unsaid = msgspec.structs.asdict(Reading()) | ({"format": "classification"} if reading.format == "classification" else {})
    return {key: value for key, value in said.items() if value != unsaid[key]}


def _stated(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _lines(values: dict[str, Any], prefix: str, chosen: Mapping[str, str], *, indent: str = "") -> Iterable[str]:
    for key, value in values.items():
        place = f"{prefix}{key}"
        mark = MARK if place in chosen else ""
        told = "; ".join(filter(None, (chosen.get(place) or COMMENTS.get(place), followed(place, values) if mark else "")))
        comment = " ".join(filter(None, (told, mark)))
        yield f"{indent}{written(key, value)}" + (f"  # {comment}" if comment else "")
