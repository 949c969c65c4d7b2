"""The options of `plan` and `run`, said once: one table makes the click options and the `Request`.

Names are the keys of the estimate contract with dashes. Nothing but click is imported until an answer is wanted, so
that `--help` stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from planner.asking.plain import OneOf, Pairs, PlainOption
from planner.asking.quantities import parse_cards, parse_count, parse_gib, parse_hours, parse_usd
from planner.choice.goals import GOALS

if TYPE_CHECKING:
    from planner.asking.request import Columns, DataAsked, Measure, Request

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound="msgspec.Struct")


class Amount(click.ParamType[Any]):
    """A click type around a reader that raises ValueError with a whole sentence."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The amount in its unit; text that can't be read is a usage error."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Once(PlainOption):
    """An option with one value. Said again with another value it contradicts itself, and is refused: neither is meant."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"multiple": True})

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """The one value, however often it was said; None where it was not."""
        values: tuple[Any, ...] = super().process_value(ctx, value)
        if any(other != values[0] for other in values[1:]):
            flags = "/".join((*self.opts, *self.secondary_opts))
            raise click.UsageError(f"{flags} was said twice, with different values; leave one of them out", ctx)
        return values[0] if values else None


def parse_words(text: str) -> str | list[str]:
    """Several names between commas are a list; a single word such as "all-linear" stays a word."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    return words if len(words) > 1 else text.strip()


def parse_tag(text: str) -> tuple[str, str]:
    """The two sides of "team=search". Raises ValueError."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ValueError(f'"{text}" is not a tag; write key=value')
    return key, value


def parse_column(text: str) -> tuple[str, str]:
    """The two sides of "text=message": a name that rows are read by, and the file's. Raises ValueError."""
    from planner.nearest import nearest
    from remote.contract import KNOWN_KEYS

    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise ValueError(f'"{text}" names no column; write text=COLUMN')
    if name not in KNOWN_KEYS and column in KNOWN_KEYS:
        raise ValueError(f'the name that rows are read by comes first: write "{column}={name}"')
    if name not in KNOWN_KEYS:
        raise ValueError(f'rows are not read by "{name}"; {nearest(name, sorted(KNOWN_KEYS))}')
    return name, column


def parse_policy_key(text: str) -> str:
    """A key of policy.toml. Raises ValueError."""
    from planner.asking.policy import KEYS
    from planner.nearest import nearest

    if text not in KEYS:
        raise ValueError(f'a policy has no key "{text}"; {nearest(text, KEYS)}')
    return text


def parse_word_of(noun: str, name: str) -> Callable[[str], str]:
    """A reader of one of the words of this tuple in planner/choice/recipes.py. It raises ValueError."""

    def read(text: str) -> str:
        from planner.choice import recipes
        from planner.nearest import nearest

        known: tuple[str, ...] = getattr(recipes, name)
        if text not in known:
            raise ValueError(f'there is no {noun} "{text}"; {nearest(text, known)}')
        return text

    return read


SIZE: Final = Amount("size", parse_gib)
COUNT: Final = Amount("count", parse_count)
USD: Final = Amount("usd", parse_usd)
HOURS: Final = Amount("hours", parse_hours)
CARDS: Final = Amount("cards", parse_cards)
WORDS: Final = Amount("names", parse_words)
PROVIDER: Final = Amount("text", str.lower)  # as the catalog writes them
TAG: Final = Amount("key=value", parse_tag)
COLUMN: Final = Amount("name=column", parse_column)
POLICY_KEY: Final = Amount("key", parse_policy_key)
USE_CASE: Final = Amount("use", parse_word_of("use case", "USE_CASES"))
DEPLOYMENT: Final = Amount("place", parse_word_of("deployment", "DEPLOYMENTS"))
TASKS: Final = ("causal_lm", "classification", "seq2seq")  # those that the trainer trains; a job file's key takes others
TASK: Final = OneOf(TASKS)
ACCURACY: Final = Amount("word", parse_word_of("accuracy", "ACCURACIES"))


# Names that Transformers, TRL and PEFT give to what options here say, by our first; with underscores or with dashes
ALSO: Final[Mapping[str, tuple[str, ...]]] = {
    "--model": ("--model-name-or-path",),
    "--revision": ("--model-revision",),
    "--epochs": ("--num-train-epochs",),
    "--rank": ("--lora-r",),
    "--alpha": ("--lora-alpha",),
    "--dropout": ("--lora-dropout",),
    "--target-modules": ("--lora-target-modules",),
    "--seq-len": ("--max-length", "--max-seq-length"),
    "--micro-batch-size": ("--per-device-train-batch-size",),
    "--optimizer": ("--optim",),
}


class Option(msgspec.Struct, frozen=True):
    """One option, and the field of the Request that it fills ("training.rank", "where.gpus")."""

    flags: tuple[str, ...]
    field: str
    kind: click.ParamType[Any] | type
    help: str
    multiple: bool = False

    @property
    def parameter(self) -> str:
        """The name under which click hands the value over."""
        return self.flags[0].lstrip("-").partition("/")[0].replace("-", "_")


OPTIONS: Final[tuple[Option, ...]] = (
    Option(("--model",), "model", str, 'Size ("32b"), registry name, hub id, config.json, model folder or GGUF file.'),
    Option(("--revision",), "revision", str, "Commit, tag or branch of a hub's base (default its newest commit)."),
    Option(
        ("--task",),
        "task",
        TASK,
        "What is learned of rows: causal_lm (default), a label (classification), an answer (seq2seq, T5).",
    ),
    Option(("--data",), "data", str, "JSONL, JSON, CSV, Parquet or text file, packed or not; its tokens are counted."),
    Option(
        ("--column",),
        "columns",
        COLUMN,
        "NAME=COLUMN: which column of --data is the text, label, prompt, completion, …; may be repeated.",
        multiple=True,
    ),
    Option(("--examples",), "examples", COUNT, "Number of examples; of a data file, its first so many rows."),
    Option(("--tokens",), "tokens", COUNT, "Tokens in one pass over the examples (500k, 2M)."),
    Option(("--epochs",), "loop.epochs", float, "Passes over the data (default 3)."),
    Option(("--max-steps",), "loop.max_steps", int, "At most so many optimizer steps."),
    Option(
        ("--learning-rate", "--lr"), "loop.learning_rate", float, "Peak of the learning rate (default as the method needs)."
    ),
    Option(
        ("--use-case",),
        "purpose.use_case",
        USE_CASE,
        "What it is for (classification, extraction, chat, code, summarization, translation, style): advises the rest.",
    ),
    Option(("--deployment",), "purpose.deployment", DEPLOYMENT, "Where it will answer: many_adapters, merged or edge."),
    Option(("--accuracy",), "purpose.accuracy", ACCURACY, "highest: where the last point counts more than memory."),
    Option(("--imbalance",), "purpose.imbalance", float, "Rows of the commonest class for each of the rarest."),
    Option(("--method",), "training.method", str, "auto (default), lora, qlora, full, or another method."),
    Option(("--rank",), "training.rank", int, "Rank of the adapters (default 16)."),
    Option(("--alpha",), "training.alpha", float, "Scale of the adapters (default twice the rank)."),
    Option(("--dropout",), "training.dropout", float, "Dropout of the adapters (default 0)."),
    Option(("--target-modules",), "training.target_modules", WORDS, "all-linear (default), default, or q_proj,v_proj,…"),
    Option(("--quant",), "training.quant", str, "none, nf4, int8, …: how the frozen weights are held."),
    Option(("--seq-len",), "training.seq_len", int, "Longest sequence in tokens; longer ones are cut."),
    Option(("--micro-batch-size",), "training.micro_batch_size", int, "Sequences per GPU and forward pass."),
    Option(("--global-batch-size",), "global_batch_size", int, "Sequences per optimizer step (default 16)."),
    Option(("--gradient-accumulation-steps",), "training.gradient_accumulation_steps", int, "Passes per optimizer step."),
    Option(("--gradient-checkpointing",), "training.gradient_checkpointing", str, "off, reentrant or non_reentrant."),
    Option(("--optimizer",), "training.optimizer", str, "adamw_torch_fused (default), adamw_8bit, …"),
    Option(
        ("--gpu",), "where.gpus", str, 'Only this GPU; may be repeated. "here": this machine\'s own beside them.', multiple=True
    ),
    Option(("--power-price",), "where.power_usd_per_kwh", USD, "Dollars per kWh of this machine's electricity (--gpu here)."),
    Option(("--num-gpus",), "where.num_gpus", int, "Only machines with this many GPUs."),
    Option(("--gpu-budget", "--max-vram"), "where.gpu_memory_gib", SIZE, 'Memory per GPU at most, as sold ("16GB" = 16 GiB).'),
    Option(("--provider",), "where.providers", PROVIDER, "Only this provider; may be repeated.", multiple=True),
    Option(("--region",), "where.regions", str, "Only this region; may be repeated.", multiple=True),
    Option(("--spot/--on-demand",), "where.spot", bool, "Only spot, or only on-demand machines (default both)."),
    Option(("--host",), "where.host", str, "user@address of a machine that you have."),
    Option(("--allow-from",), "where.allow_from", str, "CIDR that may reach SSH on the box; may be repeated.", multiple=True),
    Option(("--max-cost",), "budget.max_usd", USD, "Dollars that the whole job may cost (held at p90)."),
    Option(("--max-hours",), "budget.max_hours", HOURS, "Hours that the whole job may take (held at p90); then it is ended."),
    Option(
        ("--goal",),
        "budget.goal",
        OneOf(GOALS),
        "What the recommended plan has least of: dollars (default), hours, or both together.",
    ),
    Option(
        ("--keep-volume",),
        "keep.volume_name",
        str,
        "Name of a disk that holds what was downloaded, made once and used again: it outlives the box and bills by the month.",
    ),
    Option(
        ("--keep-environment/--no-keep-environment",),
        "keep.environment",
        bool,
        "On a host of yours: leave the trainer's packages there for the next run (default).",
    ),
    Option(("--tag",), "tags", TAG, "key=value on everything that is rented; may be repeated.", multiple=True),
    Option(
        ("--overrule-policy",),
        "overruled",
        POLICY_KEY,
        "Set a key of your own policy.toml aside, on record; may be repeated.",
        multiple=True,
    ),
    Option(("--top",), "top", int, "So many of the cheapest plans, and of those that can be run (default 5)."),
)

BY_FIELD: Final[Mapping[str, Option]] = {option.field: option for option in OPTIONS}
NO_MODEL: Final = (
    "--model 7b, --model Qwen/Qwen2.5-7B-Instruct, or a job file; `rentune catalog models` lists what has a name, and "
    "--which-model, beside a card, what trains on it"
)
DATA_FIELDS: Final = ("data", "columns", "examples", "tokens")  # together they make one DataAsked

FLAG: Final[Mapping[str, Any]] = {"cls": PlainOption, "is_flag": True}
FILE: Final[Mapping[str, Any]] = {"cls": Once, "metavar": "FILE"}
VIEW_OPTIONS: Final[tuple[tuple[str, str, Mapping[str, Any]], ...]] = (
    (
        "--gpus",
        'Cards that you have ("4x24GB"): how each way to share them would hold the job. Restricts nothing that is offered.',
        {"cls": Once, "type": CARDS},
    ),
    ("--which-model", "Instead of one base's plans: the largest base of each family that the card holds, with its plan.", FLAG),
    ("--explain", "Show where memory, time, dollars and every choice come from.", FLAG),
    ("--html", "Write the answer with a plot of dollars against hours, in one HTML file.", FILE),
    ("--json", "Print the answer as JSON.", FLAG),
    ("--save", "Write the recommended plan: FILE.json for `run`, FILE.yaml as a commented job file.", FILE),
    ("--force", "Let --save write over a file that says something else.", FLAG),
)


def request_options(command: F) -> F:
    """Decorator: the optional JOB argument and every option of the table, on a click command."""
    for option in reversed(OPTIONS):
        how: dict[str, Any] = {"cls": Once}
        if option.multiple:
            how = {"cls": Pairs} if option.kind in (TAG, COLUMN) else {"cls": PlainOption, "multiple": True}
        how["also"] = ALSO.get(option.flags[0], ())
        command = click.option(*option.flags, option.parameter, type=option.kind, help=option.help, **how)(command)
    return click.argument("job", required=False, metavar="[JOB.yaml|plan.json]")(command)


def view_options(command: F) -> F:
    """Decorator: how `plan` shows its answer."""
    for flag, text, how in reversed(VIEW_OPTIONS):
        command = click.option(flag, help=text, **how)(command)
    return command


def said(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were really given, by the field that they fill."""
    return {o.field: options[o.parameter] for o in OPTIONS if options.get(o.parameter) not in (None, ())}


def request_of(options: Mapping[str, Any], *, start: Request | None = None, measure: Measure | None = None) -> Request:
    """The Request that the options ask for, laid over `start` (a job file's). Raises RequestError.

    `measure` reads the lengths of the file named by --data; without it such a file is refused.
    """
    from planner.asking.checks import checked
    from planner.asking.contradictions import consistent
    from planner.asking.request import Request, RequestError, default_data
    from planner.asking.rules import said_of_loop, with_loop
    from planner.asking.training_keys import check_training

    given = {field: value for field, value in said(options).items() if field not in DATA_FIELDS}
    if start is None:
        if "model" not in given:
            raise RequestError("no model was named", hint=NO_MODEL)
        start = Request(model=given["model"], data=default_data())
    request = _overlay(_beside_own_machine(start, given), given)
    check_training(request.model, request.training)
    request = _replace(request, data=_data(request, options, measure=measure))
    return consistent(checked(with_loop(request, said={*said_of_loop(start), *_of_loop(given)})))


def on_host(request: Request, address: str) -> Request:
    """The request on that machine of one's own, as `--host` lays it over what a file says. Raises RequestError."""
    from planner.asking.checks import checked
    from planner.asking.contradictions import consistent

    given = {"where.host": address}
    return consistent(checked(_overlay(_beside_own_machine(request, given), given)))


def _of_loop(given: Mapping[str, Any]) -> set[str]:
    """The keys of the loop among the fields that options fill."""
    return {key for section, _, key in (field.partition(".") for field in given) if section == "loop"}


def _beside_own_machine(request: Request, given: Mapping[str, Any]) -> Request:
    """Where options name a machine of one's own, without what a file says of the machines to choose from."""
    from planner.asking.request import HOST, LOCAL

    providers = given.get("where.providers", ())
    if "where.host" in given:
        return _replace(request, where=_replace(request.where, **CHOSEN_AMONG, providers=()))
    if providers == (LOCAL,):
        return _replace(request, where=_replace(request.where, **CHOSEN_AMONG, host=None))
    return _replace(request, where=_replace(request.where, **CHOSEN_AMONG)) if providers == (HOST,) else request


# What a file says of the machines to choose from: nothing of a machine that is named
CHOSEN_AMONG: Final[Mapping[str, Any]] = {
    "gpus": (),
    "num_gpus": None,
    "regions": (),
    "instance_types": (),
    "spot": None,
    "allow_from": (),
}


def _overlay(request: Request, given: dict[str, Any]) -> Request:
    """`request` with every given field in its section."""
    sections: dict[str, dict[str, Any]] = {}
    for field, value in given.items():
        section, _, key = field.rpartition(".")
        sections.setdefault(section, {})[key] = value
    top = sections.pop("", {})
    if "tags" in top:
        top["tags"] = request.tags | dict(top["tags"])
    if "training" in sections:
        top["training"] = request.training | sections.pop("training")
    return _replace(request, **top, **{name: _replace(getattr(request, name), **new) for name, new in sections.items()})


def _data(request: Request, options: Mapping[str, Any], *, measure: Measure | None) -> DataAsked:
    """The data asked for by --data, --examples and --tokens; where they are silent, what the request has."""
    from planner.asking.request import DEFAULT_TOKENS_PER_EXAMPLE, DataFile, RequestError, format_of, measured_data, stated_data

    path, examples, tokens = options.get("data"), options.get("examples"), options.get("tokens")
    columns = tuple(options.get("column") or ())
    if tokens is not None and (path or request.data.path) is not None:
        raise RequestError("--tokens is for a job without a file: those of a data file are counted", hint="leave it out")
    if path is not None:
        kind = format_of(request.task, "auto")
        file = DataFile(path=path, model=request.model, format=kind, columns=columns, max_rows=examples)
        return measured_data(file, measure=measure)
    if request.data.path is not None:
        again = columns or any(options.get(key) is not None for key in ("examples", "model", "task"))
        return measured_again(request, examples=examples, columns=columns, measure=measure) if again else request.data
    if columns:
        raise RequestError("--column names a column of a data file, and there is none", hint="name one by --data")
    if examples is None and tokens is None and request.data.basis != "default":
        return request.data
    length = request.training.get("seq_len", DEFAULT_TOKENS_PER_EXAMPLE)
    return stated_data(num_examples=examples, num_tokens=tokens, tokens_per_example=length)


def measured_again(
    request: Request, *, examples: int | None = None, columns: Columns = (), measure: Measure | None
) -> DataAsked:
    """The request's own files as they are by now, with fewer rows or in the tokens of another model."""
    from planner.asking.request import OF_TASK, DataFile, format_of, measured_data

    data = request.data
    file = DataFile(
        path=data.path or "",
        more=data.more,
        model=request.model,
        format=format_of(request.task, "auto" if data.format in OF_TASK.values() else data.format),
        columns=columns or data.columns,
        max_rows=examples or data.max_rows,
        long_rows=data.long_rows,
        packing=data.packing,
        target_tokens=data.target_tokens,
        chat_template=data.chat_template,
        balance=data.balance,
    )
    held_out_rows = data.held_out_rows if data.held_out_path is None else None
    return measured_data(file, measure=measure, held_out_path=data.held_out_path, held_out_rows=held_out_rows)


def _replace(value: S, **changes: Any) -> S:
    from msgspec.structs import replace

    return replace(value, **changes)
