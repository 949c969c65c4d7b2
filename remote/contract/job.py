"""What the box is told: a Strategy, a loop, a model, data, and until when."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

from remote.contract.files import KEPT_CHECKPOINTS
from remote.contract.reading import Reading
from remote.contract.strategy import Strategy
from remote.contract.value import SCHEMA_VERSION, Value

Task = Literal["causal_lm", "seq2seq", "classification", "token_classification", "embedding", "image_text"]

# TensorBoard's files; Weights & Biases at its host; its files, for `wandb sync`.
Report = Literal["tensorboard", "wandb", "wandb_offline"]

# By what the best weights of a run are told: held-out loss (the least), or a figure of a classification (the greatest).
BestBy = Literal["loss", "accuracy", "macro_f1", "auc"]


class Loop(Value, frozen=True, kw_only=True):
    """What an estimate of memory does not need: how long, how fast, how often."""

    epochs: float = 3.0
    max_steps: int | None = None  # an upper bound in optimizer steps, when wanted
    learning_rate: float = 2e-4
    schedule: Literal["constant", "linear", "cosine", "cosine_with_restarts"] = "cosine"
    cycles: int = 4  # of cosine_with_restarts, each from the whole rate to none; assumed, like transformers' example
    warmup_ratio: float = 0.03  # of the run's steps
    warmup_steps: int | None = None  # said so, instead of `warmup_ratio`
    warmup_epochs: float | None = None  # likewise
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 42
    tf32: bool = False  # fp32 products in TF32 on cards that have it, twice as fast or more; on a processor nothing changes
    cuda_graphs: bool = False  # what a step launches is recorded on a card and played again; see `ungraphed`
    row_order: Literal["shuffled", "by_length"] = "shuffled"  # by_length = rows of like length make a step; see `steps_sorted`
    evaluations: int = 4  # evenly spaced over the run, beside the one before and the one after
    best_by: BestBy | None = None  # None = macro_f1 of a classification, else the held-out loss; see `best_by_of`
    early_stopping_evaluations: int | None = None  # stop after this many that are no better by `best_by`
    early_stopping_min_delta: float = 0.0  # by so much an evaluation must be better to count
    report_to: tuple[Report, ...] = ()  # where else the figures of events.jsonl are shown
    on_spike: Literal["tell", "stop"] = "tell"  # what becomes of a run whose loss jumps and stays up
    checkpoint_every_s: float = 120.0
    checkpoint_every: str | None = None  # said so, instead of in seconds: "200 steps", "0.5 epochs", "10 min"
    keep_checkpoints: int = KEPT_CHECKPOINTS  # the newest ones, beside the best; more than these where the disk has room
    init_adapter: str | None = None  # folder of an earlier adapter on the box
    layers: tuple[int, ...] | None = None  # only these blocks are adapted
    num_samples: int = 3  # held-out prompts answered before and after
    sample_tokens: int = 64


def best_by_of(loop: Loop, task: Task) -> BestBy:
    """By what the best weights of a job are told."""
    return loop.best_by or ("macro_f1" if task == "classification" else "loss")


# derived: Ampere has NVIDIA's first tensor cores for it (A100 whitepaper, 2020-05); cuBLAS passes over the wish on others
TF32_CAPABILITY: Final = (8, 0)


def has_tf32(capability: tuple[int, int] | None) -> bool:
    """Whether a card of this compute capability multiplies in TF32; None is no NVIDIA card."""
    return capability is not None and capability >= TF32_CAPABILITY


class Every(NamedTuple):
    """How often."""

    amount: float
    unit: Literal["steps", "epochs", "s"]


_UNITS: Final[Mapping[str, tuple[Literal["steps", "epochs", "s"], float]]] = {
    "step": ("steps", 1),
    "epoch": ("epochs", 1),
    "s": ("s", 1),
    "second": ("s", 1),
    "min": ("s", 60),
    "minute": ("s", 60),
    "h": ("s", 3600),
    "hour": ("s", 3600),
}


def read_every(words: str) -> Every | None:
    """What "200 steps", "0.5 epochs" or "10 min" says; None of words that say nothing of the kind."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) *([a-z]+?)s?", words.strip())
    if found is None or (found[2] or "s") not in _UNITS or not float(found[1]) > 0:
        return None
    unit, of_it = _UNITS[found[2]]
    return Every(float(found[1]) * of_it, unit)


def rhythm_of(loop: Loop) -> Every:
    """How often a checkpoint is made. Raises ValueError for words that say nothing of the kind."""
    if loop.checkpoint_every is None:
        return Every(loop.checkpoint_every_s, "s")
    said = read_every(loop.checkpoint_every)
    if said is None:
        raise ValueError(f"checkpoint_every {loop.checkpoint_every!r} is none of steps, epochs, s, min or h")
    return said


class WarmUp(NamedTuple):
    """For how long the learning rate rises."""

    amount: float
    unit: Literal["steps", "epochs", "share"]  # share = of the run's steps


def warm_up_of(loop: Loop) -> WarmUp:
    """How long the rate rises, by which of the three is said."""
    if loop.warmup_steps is not None:
        return WarmUp(loop.warmup_steps, "steps")
    if loop.warmup_epochs is not None:
        return WarmUp(loop.warmup_epochs, "epochs")
    return WarmUp(loop.warmup_ratio, "share")


class ModelSource(Value, frozen=True, kw_only=True):
    """Where the box finds the base model."""

    kind: Literal["folder", "gguf", "hub", "config"]  # config = random weights from a config.json: tests and rehearsals
    location: str  # a path on the box, or a hub id
    revision: str | None = None  # of a hub's: the commit
    sha256: dict[str, str] = {}  # of a hub's weight files: path → hex, as far as the hub tells; others are an end
    name: str | None = None  # what the user calls it; stands in the model card instead of a path on the box


HELD_OUT_ROWS: Final = 200  # assumed: enough for a paired comparison of losses before and after
MAX_HELD_OUT_SHARE: Final = 0.2  # assumed: a small file is not spent on judging; a fifth is the field's habit


def steps_sorted(num_rows: int, sequences_per_step: int) -> int:
    """How many steps' rows are sorted by length together before they are cut into steps, whose order then is drawn.

    As transformers' LengthGroupedSampler has it: fifty, and no more than a quarter of an epoch, so that epochs stay unlike.
    """
    return max(1, min(50, num_rows // (4 * sequences_per_step)))


# The width of a batch is a multiple of so many tokens: tensor cores want 8 (NVIDIA, Deep Learning Performance Guide).
WIDTH_MULTIPLE: Final[Mapping[str, int]] = {"cuda": 8, "cpu": 1}
RECORDED_WIDTHS: Final = 8  # assumed: few enough to record each, and near enough to pad by a sixteenth of `seq_len` a row


def trained_multiple(device: str, seq_len: int, *, cuda_graphs: bool) -> int:
    """Of how many tokens the width of a batch in training is a multiple: where steps are recorded, one recording a width."""
    own = WIDTH_MULTIPLE[device]
    return own * math.ceil(seq_len / (own * RECORDED_WIDTHS)) if cuda_graphs and device == "cuda" else own


class DataSource(Reading, frozen=True, kw_only=True):
    """Where the box finds the rows, and how they read."""

    train: str  # a path on the box: of a file, or of a folder of several
    name: str | None = None  # what the user calls the file; stands in the model card instead of a path on the box
    held_out: str | None = None  # None = a fixed share is split off, see held_out_rows
    held_out_rows: int = HELD_OUT_ROWS  # at most a fifth of the file is split off


OUTPUT_DIR: Final = "output"  # on the box, beside the job file: the result

NoticeFrom = Literal["aws", "gcp"]
NOTICES: Final[dict[str, NoticeFrom]] = {
    name: name for name in get_args(NoticeFrom)
}  # by the provider's name; others give none


class JobSpec(Value, frozen=True, kw_only=True):
    """Everything the box is told. It re-derives nothing."""

    run_id: str
    model: ModelSource
    data: DataSource
    strategy: Strategy
    loop: Loop
    task: Task = "causal_lm"
    output: str = OUTPUT_DIR  # folder on the box, relative to the job file
    device: Literal["cuda", "cpu"] = "cuda"
    deadline_at_s: float | None = None  # wall clock (Unix): be saved and gone by then
    planned_peak_bytes: int | None = None  # VRAM (RAM on a CPU) that the plan promised
    planned_ram_bytes: int | None = None  # RAM of a machine with a GPU that the plan promised
    planned_step_s: float | None = None
    planned_link_bytes_per_s: float | None = None  # from the host's memory to one card that the plan counts on
    planned_read_bytes_per_s: float | None = None  # from the disk, of blocks that wait there; None = none do
    planned_disk_bytes: int | None = (
        None  # that the trainer must be able to fill: all checkpoints at once, result, blocks there
    )
    planned_checkpoint_bytes: int | None = None  # of one
    usd_per_hour: float | None = None  # what the machine costs, for those who watch; None = it is not said
    billed_since_s: float | None = None  # wall clock (Unix): since when
    notice_from: NoticeFrom | None = None  # whose metadata server tells that a spot machine is taken back; None = nobody does
    schema_version: int = SCHEMA_VERSION
