"""`Request`: what a person asks for, validated once. Everything after it may trust it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from catalogs.failure import Failure
from planner.choice.goals import CHEAPEST, Goal
from planner.choice.recipes import Accuracy, Deployment, UseCase
from remote.contract import (
    Beginnings,
    FileBefore,
    LongRows,
    Loop,
    Reading,
    Task,
    fate_of_long,
    with_template_at,
)

LOCAL: Final = "local"  # the provider that is this machine
HOST: Final = "host"  # the one that is a machine of the user's, reached by SSH
OWN_MACHINES: Final = frozenset({LOCAL, HOST})  # not rented: nothing is created, and no market rule applies to them

OUR_TAGS: Final = "rentune-"  # so begin the tags by which a box is found again: none of the user's does
WIDEST_PREFIX: Final = {4: 8, 6: 32}  # assumed: no network that one person calls theirs is wider

Classes = tuple[tuple[str, int, int], ...]  # each label, its rows, and the line of the first
Profile = tuple[tuple[float, float], ...]  # (mean tokens, share of the rows) of its parts, shortest first; shares sum to 1
Basis = Literal[
    "default",
    "stated",
    "counted by the model's tokenizer",
    "counted as bytes, for the model has no tokenizer",
    "estimated from characters",
]
ESTIMATED: Final[Basis] = "estimated from characters"

Changes = dict[str, Any]  # fields of a Request ("budget.max_usd") and what they would have to be; None = left out


class RequestError(Failure):
    """What was asked can't be planned."""


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of rows: counted in their file, or stated. Lengths are those of whole rows in tokens, as the trainer writes
    them: template and marks included, before padding and cutting.
    """

    mean_tokens: float
    max_tokens: int
    profile: Profile = ()  # empty: the size was stated, and all examples are alike
    exchanges: tuple[float, ...] = ()  # of conversations: how many the rows of each part of the profile have, in the mean
    documents: bool = False  # raw text, which the trainer splits where it cuts a conversation
    chats: bool = False  # conversations, which a chat template writes
    basis: Basis
    least_seq_len: int | None = None  # cut any shorter, no row leaves anything to learn; None = not counted
    beginnings: Beginnings | None = None  # None = not counted
    files: tuple[FileBefore, ...] = ()  # of several, by which its lines are told
    classes: Classes = ()  # of a classification
    unread_labels: int = 0  # rows beside whose text a label stands, which only a classification reads


class DataAsked(Counted, frozen=True, kw_only=True):
    """The data: where the rows lie, how they are read, how many are learned from and judged by. Without a file as stated."""

    path: str | None = None  # of a file, of a folder of some, or a pattern
    more: tuple[str, ...] = ()  # further ones, that are read with it as one
    reading: Reading = Reading()
    num_examples: int  # rows to train on
    held_out_rows: int = 0
    held_out_wanted: int | None = None  # as was said, where fewer are held out; None = as many
    held_out_path: str | None = None
    held_out_profile: Profile = ()  # empty: like the others

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
    offload_disk: bool = False  # streamed blocks for which a box has no RAM may wait on its disk
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
    lease_hours: float | None = None  # without a controller for so long the box saves and ends itself; no plan depends on it
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


# What a job file calls a field of the Request, where it has another name or place there.
JOB_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    **{f"data.reading.{key}": ("data", key) for key in Reading.__struct_fields__},
    "global_batch_size": ("training", "global_batch_size"),
    "data.num_examples": ("data", "examples"),
    "where.gpu_memory_gib": ("where", "gpu_budget"),
    "where.power_usd_per_kwh": ("where", "power_price"),
    "budget.max_usd": ("budget", "max_cost"),
    "budget.lease_hours": ("budget", "lease"),
}
