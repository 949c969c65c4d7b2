"""`Request`: what a person asks for, validated once. Everything after it may trust it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, Final, Literal

import msgspec

from catalogs.failure import Failure
from planner.choice.goals import CHEAPEST, Goal
from planner.choice.recipes import Accuracy, Deployment, UseCase
from remote.contract import (
    HELD_OUT_ROWS,
    MAX_HELD_OUT_SHARE,
    Beginnings,
    DataFormat,
    FileBefore,
    LongRows,
    Loop,
    Reading,
    Task,
    fate_of_long,
    place_words,
    with_template_at,
)

LOCAL: Final = "local"  # the provider that is this machine
HOST: Final = "host"  # the one that is a machine of the user's, reached by SSH
OWN_MACHINES: Final = frozenset({LOCAL, HOST})  # not rented: nothing is created, and no market rule applies to them

OUR_TAGS: Final = "rentune-"  # so begin the tags by which a box is found again: none of the user's does
WIDEST_PREFIX: Final = {4: 8, 6: 32}  # assumed: no network that one person calls theirs is wider

DEFAULT_EXAMPLES: Final = 1_000  # assumed: a small instruction set (LIMA, arXiv:2305.11206, tunes on 1,000 rows)
DEFAULT_TOKENS_PER_EXAMPLE: Final = 512  # assumed: an instruction and its answer with room (QLoRA, arXiv:2305.14314: 384 + 128)

Classes = tuple[tuple[str, int, int], ...]  # each label, its rows, and the line of the first
Profile = tuple[tuple[float, float], ...]  # (mean tokens, share of the rows) of its parts, shortest first; shares sum to 1
Basis = Literal[
    "default",
    "stated",
    "counted by the model's tokenizer",
    "counted as bytes, for the model has no tokenizer",
    "estimated from characters",
]

Changes = dict[str, Any]  # fields of a Request ("budget.max_usd") and what they would have to be; None = left out


class RequestError(Failure):
    """What was asked can't be planned."""


class DataAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The size of the data: read from a file, or stated. Lengths are those of whole rows, before padding and cutting."""

    path: str | None = None  # of a file, of a folder of some, or a pattern
    more: tuple[str, ...] = ()  # further ones, that are read with it as one
    reading: Reading = Reading()
    num_examples: int  # rows to train on
    mean_tokens: float
    max_tokens: int
    profile: Profile = ()  # empty: the size was stated, and all examples are alike
    exchanges: tuple[float, ...] = ()  # of conversations: how many the rows of each part of the profile have, in the mean
    documents: bool = False
    chats: bool = False  # conversations, which a chat template writes
    basis: str  # one of `Basis`
    least_seq_len: int | None = None  # cut any shorter, no row leaves anything to learn; None = not counted
    beginnings: Beginnings | None = None  # of the rows of `path`; None = not counted
    files: tuple[FileBefore, ...] = ()  # of several, by which its lines are told
    held_out_rows: int = 0
    held_out_wanted: int | None = None  # as was said, where fewer are held out; None = as many
    held_out_path: str | None = None
    held_out_profile: Profile = ()  # empty: like the others
    classes: Classes = ()  # of a classification, of all rows of `path`
    unread_labels: int = 0  # rows beside whose text a label stands, which only a classification reads

    @property
    def fate_of_long(self) -> LongRows:
        """What becomes of rows that are longer than a sequence."""
        return fate_of_long(self.reading.long_rows, documents=self.documents)

    def placed(self, place: Callable[[str], str]) -> DataAsked:
        """The same data with each path as `place` has it."""
        return msgspec.structs.replace(
            self,
            path=None if self.path is None else place(self.path),
            more=tuple(map(place, self.more)),
            held_out_path=None if self.held_out_path is None else place(self.held_out_path),
            reading=with_template_at(self.reading, place),
        )


HERE: Final = "here"  # among names of GPUs: the card of this machine, as an offer beside the others


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What may be rented, and how much of it."""

    gpu_memory_gib: float | None = None  # per GPU, as sold: --gpu-budget, --max-vram
    gpus: tuple[str, ...] = ()  # names in the GPU table, or HERE; empty = any
    num_gpus: int | None = None
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()  # set by a job file, one that was saved from a plan above all; empty = any
    spot: bool | None = None  # None = both
    host: str | None = None  # user@address of a machine that exists
    allow_from: tuple[str, ...] = ()  # CIDRs that may reach SSH on the box; empty = the caller's address only
    power_usd_per_kwh: Decimal | None = None  # what this machine's electricity costs; None = it is not counted

    @property
    def cards(self) -> tuple[str, ...]:
        """The names among `gpus` that are names of the GPU table; empty = any."""
        return tuple(name for name in self.gpus if name.lower() != HERE)

    @property
    def own_card(self) -> bool:
        """Whether this machine's card is an offer."""
        return len(self.cards) < len(self.gpus)


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that a plan must keep at its p90, and what is to be least within them."""

    max_usd: Decimal | None = None
    max_hours: float | None = None
    goal: Goal = CHEAPEST


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """What stays after the run."""

    adapter: str | None = None  # folder at home that gets the adapter; None = in the run's directory
    box_on_failure: bool = False  # leave the box to its deadline when training failed
    volume_name: str | None = None  # a disk of that name is used, or made; it outlives the box, and is paid for by the month
    environment: bool = True  # on a host of one's own: the trainer's packages wait there for the next run


class Purpose(msgspec.Struct, frozen=True, kw_only=True):
    """What the job is for: by it the planner advises what nobody says (planner/choice/recipes.py)."""

    use_case: UseCase | None = None
    deployment: Deployment | None = None  # where the adapter will answer
    accuracy: Accuracy | None = None
    imbalance: float | None = None  # rows of the commonest class for each of the rarest; None = not known


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A job to plan. `training` holds the case keys of the estimate contract that were said; the planner fills the rest."""

    model: str  # as it was typed
    revision: str | None = None  # commit, tag or branch of a base on the hub; None = its newest commit
    task: Task = "causal_lm"
    training: dict[str, Any] = {}
    global_batch_size: int | None = None  # sequences per optimizer step; None = planner's choice
    loop: Loop = msgspec.field(default_factory=Loop)
    said_of_loop: tuple[str, ...] = ()  # keys of it that a job file says, of those that are advised: they stand
    data: DataAsked
    purpose: Purpose = Purpose()
    where: Where = Where()
    budget: Budget = Budget()
    keep: Keep = Keep()
    tags: dict[str, str] = {}
    top: int = 5
    chosen: tuple[str, ...] = ()  # keys that a job file marks as the planner's choice: "where.gpus"; nobody wished for them
    overruled: tuple[str, ...] = ()  # keys of the user's own policy that are set aside for this job; never in a job file


OF_TASK: Final[Mapping[Task, DataFormat]] = {"classification": "classification", "seq2seq": "instruction"}


def format_of(task: Task, said: DataFormat) -> DataFormat:
    """How rows are read: a task that tells classes apart, or answers a text by another, has rows of one kind."""
    return OF_TASK.get(task, said) if said == "auto" else said


class DataFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file to be measured: what the trainer will be told of it, and the model whose tokens count."""

    path: str
    more: tuple[str, ...] = ()
    reading: Reading = Reading()
    model: str
    along: str | None = None  # another file that is asked for next: what reads both at once need not begin twice


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """How long the rows of a file are, in tokens as the trainer writes them: template and marks included, nothing cut."""

    num_rows: int
    mean_tokens: float
    max_tokens: int
    profile: Profile
    exchanges: tuple[float, ...] = ()  # as in `DataAsked`
    files: tuple[FileBefore, ...] = ()  # likewise
    classes: Classes = ()
    no_classes: str | None = None  # why nothing can be learned of them
    unread_labels: int = 0  # as in `DataAsked`
    documents: bool  # raw text, which the trainer splits where it cuts a conversation
    chats: bool = False
    basis: Basis
    least_seq_len: int | None = None  # cut any shorter, no row leaves anything to learn; None = not counted
    beginnings: Beginnings | None = None  # None = not counted


Measure = Callable[[DataFile], Lengths]  # raises RequestError for what can't be trained on


def measured_data(
    file: DataFile, *, measure: Measure | None, held_out_path: str | None = None, held_out_rows: int | None = None
) -> DataAsked:
    """Data in a file. Without a file of held-out rows some are kept back: as said, else 200, never more than a fifth."""
    if measure is None:
        raise RequestError(f"{file.path} cannot be read here", hint="say --examples and --tokens instead")
    lengths, too_many = measure(msgspec.structs.replace(file, along=held_out_path)), None
    if lengths.no_classes is not None:
        raise RequestError(f"{file.path}: {lengths.no_classes}")
    if held_out_path is not None:
        apart = _measured_apart(measure, _held_out_of(file, held_out_path))
        _require_learned(lengths, apart, held_out_path)
        num_trained, num_held_out, held_out_profile = lengths.num_rows, apart.num_rows, apart.profile
    else:
        num_held_out = _held_out(lengths.num_rows, HELD_OUT_ROWS if held_out_rows is None else held_out_rows)
        num_trained, held_out_profile = lengths.num_rows - num_held_out, ()
        too_many = held_out_rows if held_out_rows is not None and held_out_rows > num_held_out else None
    return DataAsked(
        path=file.path,
        more=file.more,
        reading=file.reading,
        num_examples=num_trained,
        mean_tokens=lengths.mean_tokens,
        max_tokens=lengths.max_tokens,
        profile=lengths.profile,
        exchanges=lengths.exchanges,
        files=lengths.files,
        documents=lengths.documents,
        chats=lengths.chats,
        basis=lengths.basis,
        least_seq_len=lengths.least_seq_len,
        beginnings=lengths.beginnings,
        held_out_rows=num_held_out,
        held_out_wanted=too_many,
        held_out_path=held_out_path,
        held_out_profile=held_out_profile,
        classes=lengths.classes,
        unread_labels=lengths.unread_labels,
    )


def measured_again(
    request: Request, *, examples: int | None = None, columns: Mapping[str, str] = {}, measure: Measure | None
) -> DataAsked:
    """The request's own files as they are by now, with fewer rows or in the tokens of another model."""
    data, read = request.data, request.data.reading
    reading = msgspec.structs.replace(
        read,
        format=format_of(request.task, "auto" if read.format in OF_TASK.values() else read.format),
        columns=dict(columns) or read.columns,
        max_rows=examples or read.max_rows,
    )
    file = DataFile(path=data.path or "", more=data.more, reading=reading, model=request.model)
    held_out_rows = data.held_out_rows if data.held_out_path is None else None
    return measured_data(file, measure=measure, held_out_path=data.held_out_path, held_out_rows=held_out_rows)


def usually_held_out(num_rows: int) -> int:
    """Rows of a file that are kept back where nobody says how many."""
    return _held_out(num_rows, HELD_OUT_ROWS)


def _held_out(num_rows: int, wanted: int) -> int:
    return min(wanted, int(num_rows * MAX_HELD_OUT_SHARE))


def _require_learned(learned: Lengths, judged: Lengths, path: str) -> None:
    """Raises RequestError for a label that is judged by and never learned."""
    known = {name for name, _, _ in learned.classes}
    for name, _, line in judged.classes:
        if name not in known:
            raise RequestError(
                f'{path}, line {place_words(line, judged.files)}: the label "{name}" stands in no row to learn from',
                hint="add rows of it to learn from, or leave it out here",
                place=("data", "held_out"),
            )


def _held_out_of(file: DataFile, path: str) -> DataFile:
    """All rows of another file, read as those of this one."""
    reading = msgspec.structs.replace(file.reading, max_rows=None)
    return msgspec.structs.replace(file, path=path, more=(), reading=reading)


def _measured_apart(measure: Measure, file: DataFile) -> Lengths:
    try:
        return measure(file)
    except RequestError as error:
        error.place = ("data", "held_out")
        raise


def default_data() -> DataAsked:
    """The job that is planned when nothing was said about data: 1,000 examples of 512 tokens."""
    return stated_data(tokens_per_example=DEFAULT_TOKENS_PER_EXAMPLE)


def stated_data(
    *,
    tokens_per_example: int,
    num_examples: int | None = None,
    num_tokens: int | None = None,
    mean_tokens: float | None = None,
    max_tokens: int | None = None,
    held_out_rows: int = 0,
) -> DataAsked:
    """Data known only by numbers: what is not said follows from the rest, and from `tokens_per_example`.

    `num_tokens` are those of one pass over all examples, so with both the mean is their quotient. The longest example has at
    least as many tokens as the mean, and as `tokens_per_example`, unless `max_tokens` says otherwise.
    """
    if num_examples is not None and num_tokens is not None and num_tokens < num_examples:
        raise RequestError(
            f"{num_tokens:,} tokens cannot fill {num_examples:,} examples",
            hint="--tokens counts the tokens of one pass over all examples",
        )
    said = any(number is not None for number in (num_examples, num_tokens, mean_tokens, max_tokens))
    if num_examples is None:
        num_examples = DEFAULT_EXAMPLES if num_tokens is None else max(1, -(-num_tokens // tokens_per_example))
    if mean_tokens is None:
        mean_tokens = tokens_per_example if num_tokens is None else num_tokens / num_examples
    if max_tokens is None:
        whole = -int(-mean_tokens // 1) if isfinite(mean_tokens) else 0  # `checked` refuses it by its name
        max_tokens = max(tokens_per_example, whole)
    return DataAsked(
        num_examples=num_examples,
        mean_tokens=float(mean_tokens),
        max_tokens=max_tokens,
        basis="stated" if said else "default",
        held_out_rows=held_out_rows,
    )


# What a job file calls a field of the Request, where it has another name or place there.
JOB_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    **{f"data.reading.{key}": ("data", key) for key in Reading.__struct_fields__},
    "global_batch_size": ("training", "global_batch_size"),
    "data.num_examples": ("data", "examples"),
    "where.gpu_memory_gib": ("where", "gpu_budget"),
    "where.power_usd_per_kwh": ("where", "power_price"),
    "budget.max_usd": ("budget", "max_cost"),
}
